-- What "worker --handler rollup" keeps: the signals of each name in a few figures. Each signal counts exactly once.

create table public.signal_rollups (
    name       text             primary key check (name <> ''),
    count      bigint           not null check (count > 0),
    sum        numeric          not null, -- adding doubles would depend on the order in which signals come
    min        double precision not null,
    max        double precision not null,
    last_id    bigint           not null, -- of the signal with the highest id: not always the last to be handled
    last_value double precision not null
) with (fillfactor = 50); -- few rows and many updates: they stay on their page

---- create above / drop below ----

drop table public.signal_rollups;
