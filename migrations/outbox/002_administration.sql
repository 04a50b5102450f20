-- What operators ask of a running outbox: pausing, going back in the log, and keeping it only for so long.

alter table outbox.subscriptions
    add column paused_at    timestamptz,                                  -- nobody owns its lanes while this is set
    add column rewind_to    bigint check (rewind_to >= 0),                -- nor this: its cursors are to go back to here
    add column begins_after bigint not null default 0,                    -- events up to here were not meant for it
    add column probe_at     timestamptz;                                  -- when its workers were last asked to try whether an outage is over

-- How far each lane of the log has been deleted because of its age. A search for the oldest event starts here: below, there
-- is nothing but index entries that vacuum has yet to remove.
create table outbox.trimmed (
    lane  smallint primary key check (lane between 0 and 63),
    up_to bigint   not null default 0
) with (fillfactor = 50);
insert into outbox.trimmed (lane) select l from pg_catalog.generate_series(0, 63) as l;

-- Skipped deliveries expire after the log's retention, by when they were skipped.
create index deliveries_skipped on outbox.deliveries (due_at) where state = 'skipped';

-- Deliveries that wait for a decision: counted and listed by state, however many others there are.
create index deliveries_decide on outbox.deliveries (subscription_id, state, event_id) where state in ('dead', 'skipped');

---- create above / drop below ----

drop index outbox.deliveries_decide;
drop index outbox.deliveries_skipped;
drop table outbox.trimmed;
alter table outbox.subscriptions drop column paused_at, drop column rewind_to, drop column begins_after, drop column probe_at;
