-- The reference service's own table: what a producer stores in the same transaction as its event.

-- As in migrations/outbox/001_outbox.sql.
alter table public.signalbox_signals_version add column serves integer;

create table public.signals (
    id        bigint           primary key generated always as identity,
    name      text             not null check (name <> ''),
    value     double precision not null check (value not in ('NaN', 'Infinity', '-Infinity')),
    timestamp timestamptz      not null default now()
);

---- create above / drop below ----

drop table public.signals;
alter table public.signalbox_signals_version drop column serves;
