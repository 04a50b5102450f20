-- The outbox: an append-only log of events, and what its readers need to remember.
-- Everything lives in the schema outbox; see docs/design.md for the protocols that rely on it.

create schema outbox;

-- The cluster in which the stored transaction ids mean something. A dump restored elsewhere brings its ids along,
-- but the new cluster counts its transactions anew: workers refuse to start until "outbox migrate" has adopted the log.
create table outbox.cluster (
    singleton         boolean primary key default true check (singleton),
    system_identifier bigint  not null,
    floor             bigint  not null default 0 -- events up to this id came from another cluster: their xids say nothing here
);
insert into outbox.cluster (system_identifier) select system_identifier from pg_catalog.pg_control_system();

-- Domains, not checks of the table: each statement would parse a check's expression anew, and most insert a single row.
create domain outbox.topic   as text  check (value <> '' and octet_length(value) <= 255);
create domain outbox.key     as text  check (value <> '' and octet_length(value) <= 1024);
create domain outbox.headers as jsonb check (jsonb_typeof(value) = 'object');

create table outbox.events (
    -- FIRST: defaults are evaluated in column order, so an event's transaction has its xid before the event has its id.
    -- Readers conclude from an id they have passed that its xid precedes theirs. Never move this column.
    xid          xid8           not null default pg_catalog.pg_current_xact_id(),
    -- CACHE 1 for the same reason: a session that cached ids would hand out old ones late.
    id           bigint         not null generated always as identity (cache 1),
    -- By the hash of the key or, without one, by the id. The expression is parsed with each statement: the shorter, the cheaper.
    lane         smallint       not null generated always as (coalesce(pg_catalog.hashtext(key), id) & 63) stored,
    topic        outbox.topic   not null,
    key          outbox.key,
    -- Not jsonb: to write that out for a reader takes PostgreSQL longer than all the rest of a row. And json stays as it was published.
    payload      json           not null,
    headers      outbox.headers not null default '{}',
    -- Not clock_timestamp(): a volatile default would keep COPY from inserting in bulk.
    published_at timestamptz    not null default pg_catalog.statement_timestamp()
) with (
    -- Rows never change: vacuum only freezes them and sets the visibility map, the earlier the cheaper.
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
create unique index events_lane_id on outbox.events (lane, id); -- windows
create unique index events_xid_id on outbox.events (xid, id);   -- late events and the doorbell's probe
alter table outbox.events replica identity using index events_xid_id;
-- Else, after a bulk load, the planner believes that a transaction has many events and scans for late ones.
alter table outbox.events alter column xid set (n_distinct = -1);

-- A subscription is a durable, named consumer group: each sees every event that matches its topics.
create table outbox.subscriptions (
    id         integer     primary key generated always as identity,
    name       text        not null collate "C" unique check (name <> '' and octet_length(name) <= 255),
    topics     text[]      not null check (cardinality(topics) > 0),
    created_at timestamptz not null default pg_catalog.statement_timestamp()
);

-- One row per live worker process. Deleting it evicts the worker.
create table outbox.workers (
    id         bigint      primary key generated always as identity,
    name       text        not null,
    direct     boolean     not null,                    -- holds a session lock for its id while it lives
    lease      interval    not null,                    -- how long it lives without being seen
    started_at timestamptz not null default pg_catalog.clock_timestamp(),
    seen_at    timestamptz not null default pg_catalog.clock_timestamp()
) with (fillfactor = 50); -- heartbeats stay on their page

-- Who serves what. Settles lock their row against deletion: this is the fence that keeps an evicted worker out.
create table outbox.members (
    worker_id       bigint  not null references outbox.workers (id) on delete cascade,
    subscription_id integer not null references outbox.subscriptions (id) on delete cascade,
    trying          bigint[] not null default '{}', -- deliveries that it has begun to try for the first time: suspects, should it die
    primary key (worker_id, subscription_id)
) with (fillfactor = 50);

-- A lane is one of 64 slices of the log. The cursor here counts while nobody owns the lane; the owner's is in outbox.progress.
create table outbox.lanes (
    subscription_id integer        not null references outbox.subscriptions (id) on delete cascade,
    lane            smallint       not null check (lane between 0 and 63),
    owner           bigint         references outbox.workers (id) deferrable initially deferred,
    after_id        bigint         not null default 0,    -- every event up to here is settled, except those of …
    pending         int8multirange not null default '{}', -- … transactions that were running when it was read
    late            int8multirange not null default '{}', -- … and of committed ones too large for one window,
    late_after_id   bigint         not null default 0,    -- which are settled up to here
    suspect         boolean        not null default false, -- its last owner died in the middle of something
    handled         bigint         not null default 0,     -- events that workers of the subscription handled before they left, …
    handled_at      timestamptz,                           -- and when the last one of them was: of all its lanes, for rates
    primary key (subscription_id, lane)
) with (fillfactor = 50);
create index lanes_owner on outbox.lanes (owner) where owner is not null;

-- Settled windows, appended. An owner's latest row that lists a lane has the lane's cursor. Old rows are deleted in bulk:
-- updating 64 cursors in place for each window would leave dead versions faster than vacuum removes them.
create table outbox.progress (
    seq             bigint         primary key generated always as identity (cache 1),
    subscription_id integer        not null references outbox.subscriptions (id) on delete cascade,
    owner           bigint         not null,
    lanes           smallint[]     not null,
    after_ids       bigint[]       not null,
    pending         int8multirange not null,
    late            int8multirange not null,
    late_after_id   bigint         not null,
    at              timestamptz    not null default pg_catalog.statement_timestamp(),
    handled         bigint         not null default 0,     -- events that the owner has handled with success since it joined, …
    handled_at      timestamptz                            -- and when it last recorded one
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index progress_owner on outbox.progress (owner, subscription_id, seq);

-- An event that left the fast path of one subscription: it failed, or waits behind one of its key that did.
-- It is a full copy, so that it outlives the log's retention.
create table outbox.deliveries (
    subscription_id integer     not null references outbox.subscriptions (id) on delete cascade,
    event_id        bigint      not null,
    lane            smallint    not null,
    topic           text        not null,
    key             text        collate "C",           -- an index in the operating system's order would be wrong after its upgrade
    payload         json        not null,
    headers         jsonb       not null,
    published_at    timestamptz not null,
    state           text        not null check (state in ('retrying', 'running', 'dead', 'skipped')),
    attempt         integer     not null default 0,    -- attempts begun
    due_at          timestamptz not null,              -- when the next attempt may begin
    owner           bigint      references outbox.workers (id) deferrable initially deferred, -- who runs it
    suspect         boolean     not null default false, -- its worker died while it ran: run it alone
    stops_key       boolean     not null default false, -- dead, and its key waits until somebody decides
    errors          jsonb       not null default '[]', -- one object an attempt: attempt, at, worker, error
    created_at      timestamptz not null default pg_catalog.statement_timestamp(),
    decided_at      timestamptz,                       -- when somebody last retried, replayed or skipped it
    primary key (subscription_id, event_id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- The line of unfinished deliveries of one key, in publish order: only its head may run.
create index deliveries_line on outbox.deliveries (subscription_id, lane, key, event_id)
    where key is not null and (state in ('retrying', 'running') or stops_key);
-- Those without a key, by due time: nothing holds them back.
create index deliveries_due on outbox.deliveries (subscription_id, lane, due_at)
    where key is null and state = 'retrying';
create index deliveries_owner on outbox.deliveries (owner) where owner is not null;

-- A payload as jsonb, to search in. Not all JSON can be jsonb (numbers that are too long, the zero character): what cannot becomes
-- null and matches nothing, instead of ending the search with an error.
create function outbox.as_jsonb(payload json) returns jsonb language plpgsql immutable strict as $$
begin
    return payload::jsonb;
exception when data_exception or program_limit_exceeded then
    return null;
end
$$;

-- The fence: every transaction in which a worker settles, claims or releases calls it before it touches the outbox's rows,
-- so an eviction waits for those in flight, and those that come later fail.
create function outbox.fence(worker bigint, subscription integer) returns void language plpgsql as $$
begin
    perform from outbox.members m where m.worker_id = worker and m.subscription_id = subscription for key share;
    if not found then
        raise exception 'worker % does not serve subscription % any more', worker, subscription using errcode = 'OB001';
    end if;
end
$$;

-- The doorbell. While workers sleep, the sentinel holds this advisory lock exclusively, so that every publishing transaction
-- fails to share it and notifies. While they are busy it does not, and publishers send nothing: the sentinel looks for itself.
-- A NOTIFY in every commit would make publishers wait for each other's fsync.
-- The condition is the trigger's, not the function's: while nobody has to ring, no function is called.
create function outbox.ring() returns trigger language plpgsql as $$
begin
    perform pg_catalog.pg_notify('new_signals', '');
    return null;
end
$$;
create trigger doorbell after insert on outbox.events for each statement
    when (not pg_catalog.pg_try_advisory_xact_lock_shared(7446925, 1))
    execute function outbox.ring();

---- create above / drop below ----

drop schema outbox cascade;
