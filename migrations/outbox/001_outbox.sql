-- The outbox: an append-only log of events, and what its readers need to remember.
-- Everything lives in the schema outbox; see docs/design.md for the protocols that rely on it.

-- Text is compared, hashed and sent as UTF-8. In another encoding, a key would have another lane after a move, and what it cannot hold
-- could not be published.
do $$ begin
    if pg_catalog.current_setting('server_encoding') <> 'UTF8' then
        raise exception 'this database has the encoding %, and an outbox needs UTF8: create one with "create database … encoding ''UTF8'' template template0"',
            pg_catalog.current_setting('server_encoding');
    end if;
    -- These numbers are made of the outbox's name, so those of two names may be the same.
    if exists (select from pg_catalog.pg_trigger t where t.tgname = 'doorbell' and pg_catalog.pg_get_triggerdef(t.oid) like '%(7446925, 1)%')
       or exists (select from pg_catalog.pg_locks l
                  where l.locktype = 'advisory' and l.objsubid = 2 and l.classid in (7446925, 7446926)
                    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())) then
        raise exception 'the advisory locks 7446925 and 7446926 of this outbox are used in this database by another outbox or program: choose another name for the outbox, or another database';
    end if;
end $$;

-- The oldest version whose programs this schema still serves; none means its own alone. Each migration from here on says it anew.
alter table public.signalbox_outbox_version add column serves integer;

create schema outbox;

-- Domains, not checks of the table: each statement would parse a check's expression anew, and most insert a single row.
-- They are the checks of package outbox, for publishers in SQL: readers rely on them for their memory.
create domain outbox.topic as text
    constraint topic_bytes check (octet_length(value) <= 255)
    -- Tokens between dots, none empty, without wildcards, spaces and control characters.
    constraint topic_shape check (value collate "C" ~
        '^[^.*>\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+(?:\.[^.*>\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+)*$');
create domain outbox.key as text
    constraint key_bytes check (value <> '' and octet_length(value) <= 1024);
create domain outbox.payload as json
    constraint payload_bytes check (octet_length(value::text) <= 1048576);

-- The bytes of all names and values.
create function outbox.headers_bytes(headers jsonb) returns bigint language sql immutable strict as $$
    select coalesce(sum(octet_length(h.name) + octet_length(h.text)), 0)
    from pg_catalog.jsonb_each_text(headers) as h (name, text)
$$;
create domain outbox.headers as jsonb
    constraint headers_strings check (value = '{}' or jsonb_typeof(value) = 'object' and not value @? 'strict $.* ? (@.type() <> "string")')
    -- Their JSON is never shorter than they are: few have to be counted.
    constraint headers_bytes check (octet_length(value::text) <= 65536 or outbox.headers_bytes(value) <= 65536);
-- An event's UID has its time, in 48 bits of milliseconds and 12 of a fraction.
create domain outbox.published_at as timestamptz
    constraint published_at_1970_to_9999 check (value >= '1970-01-01 00:00:00+00' and value < '10000-01-01 00:00:00+00');

-- The tag of this outbox, by which its UIDs differ from those of others. It is a function, and not read from a table, since statements are
-- planned with its value: so a publisher that asks for it pays nothing, and needs no privilege. It is not immutable: a plan with the
-- value would outlive a change of it.
do $$ begin
    execute pg_catalog.format('create function outbox.tag() returns integer language sql stable as %L',
                              pg_catalog.format('select %s', pg_catalog.floor(pg_catalog.random() * 65536)));
end $$;

-- The UID of an event: a UUID of version 7, as package internal/uid makes it.
create function outbox.uid(id bigint, published_at timestamptz) returns uuid language sql stable as $$
    select (pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from published_at) * 1000000)::bigint / 1000), 12, '0')
            || pg_catalog.to_hex(28672 + (extract(epoch from published_at) * 1000000)::bigint % 1000 * 4096 / 1000)
            || pg_catalog.to_hex((-9223372036854775808)::bigint | (outbox.tag()::bigint << 46) | (id & 70368744177663)))::uuid
$$;

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
    payload      outbox.payload not null,
    headers      outbox.headers not null default '{}',
    -- Not clock_timestamp(): a volatile default would keep COPY from inserting in bulk.
    published_at outbox.published_at not null default pg_catalog.statement_timestamp()
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

-- Where the stored transaction ids mean something. A dump, or logical replication, brings its row along, beside the one that is
-- here if the schema was migrated before. But another cluster counts its transactions anew, and so does a physical copy of this one
-- from the copy on: unless the only row is about here, workers refuse to serve until "outbox migrate" has adopted the log.
create table outbox.cluster (
    origin            uuid        primary key default pg_catalog.gen_random_uuid(),
    system_identifier bigint,                         -- pg_upgrade changes it, too; null where it may not be asked for
    relations         oid[]       not null,           -- of the table and a type: copies and pg_upgrade keep them, restoring makes others
    floor             bigint      not null default 0, -- events up to this id came from another cluster: their xids say nothing here
    -- Set when the ids of events were found to be behind cursors: what was published later than this has taken its id since, and may
    -- be below cursors that have not seen it.
    behind_since      timestamptz,
    -- A copy of outbox.tag(), for what brings rows along and no functions: adopting the log takes it from there.
    tag               integer     not null default outbox.tag() check (tag between 0 and 65535)
);

-- The identifier of this cluster; null where the owner of the schema may not execute pg_control_system(). Then only the other signs count.
create function outbox.system_identifier() returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if has_function_privilege('pg_control_system()', 'execute') then
        return (select s.system_identifier from pg_control_system() s);
    end if;
    return null;
end
$$;
insert into outbox.cluster (system_identifier, relations)
values (outbox.system_identifier(), array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid]);

-- A subscription is a durable, named consumer group: each sees every event that matches its topics.
create table outbox.subscriptions (
    id         integer     primary key generated always as identity,
    name       text        not null collate "C" unique check (name <> '' and octet_length(name) <= 255),
    topics     text[]      not null check (cardinality(topics) > 0),
    created_at timestamptz not null default pg_catalog.statement_timestamp(),
    topics_to      text[] check (cardinality(topics_to) > 0), -- its topics are to become these: nobody owns its lanes while this is set
    backfill_after bigint                                     -- and it is to have what was published of those later than this
);

-- What its topics were: cursors passed the events up to up_to by these. Of those that were added then, it got what is above backfilled_after.
create table outbox.topic_changes (
    subscription_id  integer     not null references outbox.subscriptions (id) on delete cascade,
    up_to            bigint      not null,
    topics           text[]      not null,
    backfilled_after bigint,
    backfilled       bigint      not null default 0, -- events
    at               timestamptz not null default pg_catalog.clock_timestamp()
);
create index topic_changes_subscription on outbox.topic_changes (subscription_id, up_to);

-- One row per live worker process. Deleting it evicts the worker.
create table outbox.workers (
    id         bigint      primary key generated always as identity,
    name       text        not null,
    direct     boolean     not null,                    -- holds a session lock for its id while it lives
    lease      interval    not null,                    -- how long it lives without being seen
    knows      text[]      not null default '{}',       -- features; see outbox.features
    started_at timestamptz not null default pg_catalog.clock_timestamp(),
    seen_at    timestamptz not null default pg_catalog.clock_timestamp()
) with (fillfactor = 50); -- heartbeats stay on their page

-- What older workers would break. A feature is used once every worker knows it; from then on, those that do not are refused.
create table outbox.features (
    name       text        primary key,
    used_since timestamptz not null default pg_catalog.clock_timestamp()
);
-- The lock keeps this apart from whoever begins to use a feature: either sees the other.
create function outbox.keep_features() returns trigger language plpgsql as $$
declare
    unknown text[];
begin
    perform pg_catalog.pg_advisory_xact_lock_shared(7446925, 4);
    select array_agg(f.name order by f.name) into unknown from outbox.features f where f.name <> all (new.knows);
    if unknown is not null then
        raise exception 'this outbox uses features that this worker does not know (%): upgrade it, or give them up with "outbox features drop"',
            array_to_string(unknown, ', ') using errcode = 'OB003';
    end if;
    return new;
end
$$;
create trigger keep_features before insert on outbox.workers for each row execute function outbox.keep_features();

-- Who serves what. Settles lock their row against deletion: this is the fence that keeps an evicted worker out.
create table outbox.members (
    worker_id       bigint  not null references outbox.workers (id) on delete cascade,
    subscription_id integer not null references outbox.subscriptions (id) on delete cascade,
    trying          bigint[] not null default '{}', -- deliveries that it has begun to try for the first time: suspects, should it die
    topics          text[],                         -- that it reads with; null while it leaves lanes to those who know all of the subscription's
    breaker_opened_at timestamptz,                  -- when its circuit breaker opened; null while that is closed
    breaker_topics  text[] not null default '{}',   -- the topics that it is open for; none while it is open for the whole subscription
    -- What a heartbeat notes, for those who look:
    sends_to        text,                           -- where its sink sends to, without secrets; null if the handler is none
    in_flight       bigint  not null default 0,     -- events that its handler has begun and not answered
    last_failure    text,                           -- the first line of the last one
    last_failure_at timestamptz,
    full_lanes      smallint not null default 0,    -- lanes of its that are not read, since so many deliveries in them failed or wait behind one that did
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
-- It is a full copy, so that it outlives the log's retention. Where very many are unfinished, further ones have no copy: the log has their
-- events, and retention makes the copies of what it deletes.
create table outbox.deliveries (
    subscription_id integer     not null references outbox.subscriptions (id) on delete cascade,
    event_id        bigint      not null,
    lane            smallint    not null,
    topic           text        collate "C" not null,  -- an index in the operating system's order would be wrong after its upgrade
    key             text        collate "C",
    payload         json,                              -- null where the log has it
    headers         jsonb,                             -- as the payload
    published_at    timestamptz not null,
    state           text        not null check (state in ('retrying', 'running', 'dead', 'skipped')),
    attempt         integer     not null default 0,    -- attempts begun
    due_at          timestamptz not null,              -- when the next attempt may begin
    owner           bigint      references outbox.workers (id) deferrable initially deferred, -- who runs it
    suspect         boolean     not null default false, -- its worker died while it ran: run it alone
    stops_key       boolean     not null default false, -- dead, and its key waits until somebody decides
    for_others      boolean     not null default false, -- its worker does not know such payloads: the next one to claim its lane tries it at once
    errors          jsonb       not null default '[]', -- one object an attempt: attempt, at, worker, error
    created_at      timestamptz not null default pg_catalog.statement_timestamp(),
    decided_at      timestamptz,                       -- when somebody last retried, replayed or skipped it
    primary key (subscription_id, event_id),
    -- What waits for a decision waits for longer than the log is kept.
    constraint deliveries_copy check ((payload is null) = (headers is null) and (payload is not null or state in ('retrying', 'running')))
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- The line of unfinished deliveries of one key, in publish order: only its head may run.
create index deliveries_line on outbox.deliveries (subscription_id, lane, key, event_id)
    where key is not null and (state in ('retrying', 'running') or stops_key);
-- Those without a key, by due time: nothing holds them back, but what their topics may wait for.
create index deliveries_due on outbox.deliveries (subscription_id, lane, topic, due_at)
    where key is null and state = 'retrying';
create index deliveries_owner on outbox.deliveries (owner) where owner is not null;
create index deliveries_for_others on outbox.deliveries (subscription_id, lane) where for_others;
-- What keeps an event in the log: a delivery without a copy of it.
create index deliveries_without_copy on outbox.deliveries (lane, event_id) where payload is null;

-- A key with many deliveries is held: from this event on, what cursors have passed of it is in the log only. Its owner makes
-- deliveries of that as the line grows shorter. So one key costs a hundred rows and not one for each of its events.
create table outbox.held_keys (
    subscription_id integer     not null references outbox.subscriptions (id) on delete cascade,
    lane            smallint    not null,
    key             text        not null collate "C",
    from_id         bigint      not null, -- nothing of the key at or above is settled, or has a row
    held_at         timestamptz not null default pg_catalog.statement_timestamp(),
    primary key (subscription_id, lane, key)
) with (fillfactor = 50);

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
-- so an eviction waits for those in flight, and those that come later fail. Locks are taken in one order: the worker, then its members
-- by subscription. An eviction begins with the worker, too: in another order, it and a settle for several subscriptions would wait
-- for each other.
create function outbox.fence(worker bigint, subscriptions integer[]) returns void language plpgsql as $$
declare
    locked integer;
begin
    perform from outbox.workers w where w.id = worker for key share;
    perform from outbox.members m
    where m.worker_id = worker and m.subscription_id = any (subscriptions)
    order by m.subscription_id
    for key share;
    get diagnostics locked = row_count;
    if locked < cardinality(subscriptions) then
        raise exception 'worker % does not serve subscriptions % any more, or not all of them', worker, subscriptions using errcode = 'OB001';
    end if;
end
$$;

-- PostgreSQL refuses to commit what has notified while its queue of notifications is full, which takes a session that listens and does
-- not end its transaction. All databases share the queue. A wake-up is not worth a commit: from half of the queue on there are none,
-- and workers look for themselves.
create function outbox.notifications_stuck() returns boolean language sql as $$
    select pg_catalog.pg_notification_queue_usage() >= 0.5
$$;
create function outbox.notify(payload text) returns void language plpgsql as $$
begin
    if not outbox.notifications_stuck() then
        perform pg_catalog.pg_notify('new_signals', payload);
    end if;
end
$$;

-- The doorbell. While workers sleep, the sentinel holds this advisory lock exclusively, so that every publishing transaction
-- fails to share it and notifies. While they are busy it does not, and publishers send nothing: the sentinel looks for itself.
-- A NOTIFY in every commit would make publishers wait for each other's fsync.
-- The condition is the trigger's, not the function's: while nobody has to ring, no function is called.
create function outbox.ring() returns trigger language plpgsql as $$
begin
    perform outbox.notify('');
    return null;
end
$$;
create trigger doorbell after insert on outbox.events for each statement
    when (not pg_catalog.pg_try_advisory_xact_lock_shared(7446925, 1))
    execute function outbox.ring();
-- Also for sessions with session_replication_role = replica.
alter table outbox.events enable always trigger doorbell;

-- What is wrong with the log as a whole: 'foreign' when its transaction ids are from elsewhere, 'behind' when a sequence hands out
-- again what was handed out before, else null. Workers and producers ask it every few seconds: it looks at the last event of each
-- lane, by index events_lane_id, and at small tables; with its settings, in half a millisecond. It runs as its owner, so that a producer needs no privileges to ask.
-- Once the ids of events were behind, that is remembered: publishers would catch up with the cursors, and what they published
-- until then would be lost without a trace.
create function outbox.fault() returns text language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    here    record;
    tops    record;
    highest record;
    head    bigint;
    this    bigint := outbox.system_identifier();
begin
    select count(*) as rows, max(c.floor) as floor, max(c.behind_since) as behind_since,
           coalesce(bool_and(coalesce(c.system_identifier = this, true)
                             and c.relations = array['outbox.events'::regclass::oid, 'outbox.topic'::regtype::oid]), false) as ours
    into here
    from outbox.cluster c;
    if here.rows <> 1 or not here.ours then
        return 'foreign';
    end if;
    -- What a snapshot sees has a lower transaction id than its xmax, unless it is the caller's own.
    select coalesce(max(e.id), 0) as id,
           coalesce(bool_or(e.id > here.floor and e.xid >= pg_snapshot_xmax(pg_current_snapshot())
                            and e.xid is distinct from pg_current_xact_id_if_assigned()), false) as ahead
    into tops
    from generate_series(0, 63) as l (lane)
    cross join lateral (select e.id, e.xid from outbox.events e where e.lane = l.lane order by e.id desc limit 1) e;
    if tops.ahead then
        return 'foreign';
    end if;
    -- Tables before sequences: a number in a table was handed out before, so a sequence that is all right is at least there.
    select greatest(tops.id,
               (select max(l.after_id) from outbox.lanes l),
               (select max(p.after_id)
                from outbox.members m
                cross join lateral (select p.after_ids from outbox.progress p
                                    where p.owner = m.worker_id and p.subscription_id = m.subscription_id
                                    order by p.seq desc
                                    limit 8) r, -- those of a settle, and of the claims since
                     unnest(r.after_ids) as p (after_id)),
               (select max(d.event_id)
                from outbox.subscriptions s
                cross join lateral (select d.event_id from outbox.deliveries d
                                    where d.subscription_id = s.id order by d.event_id desc limit 1) d)) as event,
           greatest((select max(w.id) from outbox.workers w), (select max(p.owner) from outbox.progress p), 0) as worker,
           coalesce((select max(s.id) from outbox.subscriptions s), 0) as subscription,
           coalesce((select max(p.seq) from outbox.progress p), 0) as progress
    into highest;
    head := coalesce(pg_sequence_last_value('outbox.events_id_seq'),
                     (select q.last_value - 1 from outbox.events_id_seq q where not q.is_called)); -- restarted by hand
    if head < highest.event and here.behind_since is null then
        here.behind_since := coalesce(
            (select max(e.published_at)
             from generate_series(0, 63) as l (lane)
             cross join lateral (select e.id, e.published_at from outbox.events e where e.lane = l.lane order by e.id desc limit 1) e
             where e.id > head), '-infinity');
        if not current_setting('transaction_read_only')::boolean then
            update outbox.cluster c set behind_since = here.behind_since;
        end if;
    end if;
    if here.behind_since is not null
       or coalesce(pg_sequence_last_value('outbox.workers_id_seq'), 0) < highest.worker
       or coalesce(pg_sequence_last_value('outbox.subscriptions_id_seq'), 0) < highest.subscription
       or coalesce(pg_sequence_last_value('outbox.progress_seq_seq'), 0) < highest.progress then
        return 'behind';
    end if;
    return null;
end
$$;

-- Logical replication copies rows, and no sequences: publishers that go on at the copy would take ids that were taken, below the
-- cursors. So each row that arrives takes its sequence along. And an event that arrives brings a transaction id from elsewhere, also where
-- all other signs are of here, as in a physical copy that then follows by logical replication: an additional row of outbox.cluster says
-- so. The triggers are a replica's: only sessions that apply what was done elsewhere execute them.
create function outbox.raise_sequence(sequence regclass, number bigint) returns void language plpgsql as $$
begin
    if coalesce(pg_catalog.pg_sequence_last_value(sequence), 0) < number then
        -- Tables are copied side by side. The lock is not the transaction's, which may copy a table for hours.
        perform pg_catalog.pg_advisory_lock('pg_catalog.pg_sequence'::regclass::oid::integer, sequence::oid::integer);
        if coalesce(pg_catalog.pg_sequence_last_value(sequence), 0) < number then
            perform pg_catalog.setval(sequence, number);
        end if;
        perform pg_catalog.pg_advisory_unlock('pg_catalog.pg_sequence'::regclass::oid::integer, sequence::oid::integer);
    end if;
end
$$;
create function outbox.replicated() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_table_name = 'events' then
        perform outbox.raise_sequence('outbox.events_id_seq', new.id);
        if new.xid <> pg_current_xact_id() then
            insert into outbox.cluster (origin, relations) values ('00000000-0000-0000-0000-000000000000', '{}') on conflict do nothing;
        end if;
    elsif tg_table_name = 'lanes' then
        perform outbox.raise_sequence('outbox.events_id_seq', new.after_id);
    elsif tg_table_name = 'progress' then
        perform outbox.raise_sequence('outbox.progress_seq_seq', new.seq);
        perform outbox.raise_sequence('outbox.events_id_seq', (select max(u.after_id) from unnest(new.after_ids) as u (after_id)));
    else
        perform outbox.raise_sequence(tg_argv[0]::regclass, new.id);
    end if;
    return null;
end
$$;
create trigger replicated after insert on outbox.events for each row execute function outbox.replicated();
create trigger replicated after insert or update on outbox.lanes for each row execute function outbox.replicated();
create trigger replicated after insert on outbox.progress for each row execute function outbox.replicated();
create trigger replicated after insert on outbox.workers for each row execute function outbox.replicated('outbox.workers_id_seq');
create trigger replicated after insert on outbox.subscriptions for each row execute function outbox.replicated('outbox.subscriptions_id_seq');
alter table outbox.events enable replica trigger replicated;
alter table outbox.lanes enable replica trigger replicated;
alter table outbox.progress enable replica trigger replicated;
alter table outbox.workers enable replica trigger replicated;
alter table outbox.subscriptions enable replica trigger replicated;

-- "truncate … restart identity" does not begin the ids anew: cursors would pass the next events unseen.
create function outbox.keep_ids() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_when = 'BEFORE' then
        perform set_config('signalbox.last_id', coalesce(pg_sequence_last_value('outbox.events_id_seq'), 0)::text, true);
    elsif coalesce(pg_sequence_last_value('outbox.events_id_seq'), 0) < current_setting('signalbox.last_id')::bigint then
        perform setval('outbox.events_id_seq', current_setting('signalbox.last_id')::bigint);
    end if;
    return null;
end
$$;
create trigger remember_ids before truncate on outbox.events for each statement execute function outbox.keep_ids();
create trigger keep_ids after truncate on outbox.events for each statement execute function outbox.keep_ids();
-- Also for sessions with session_replication_role = replica.
alter table outbox.events enable always trigger remember_ids;
alter table outbox.events enable always trigger keep_ids;

-- Cursors have passed what did not match: a worker that reads on with the old topics takes for settled what the new ones ask for. So
-- topics change only where nobody owns a lane, and as it was asked for.
create function outbox.keep_topics() returns trigger language plpgsql as $$
begin
    if new.topics is distinct from old.topics_to
       or exists (select from outbox.lanes l where l.subscription_id = old.id and l.owner is not null) then
        raise exception 'the topics of subscription % cannot change like this: its cursors would pass events of the new ones', old.name
            using hint = 'Run "outbox subscriptions set-topics".';
    end if;
    return new;
end
$$;
create trigger keep_topics before update on outbox.subscriptions for each row
    when (old.topics is distinct from new.topics) execute function outbox.keep_topics();

-- What a claim's snapshot saw of the topics may be over: they change while all lanes are locked, so whoever has locked one sees it.
create function outbox.keep_claim(worker bigint, subscription integer, reads text[]) returns void language plpgsql as $$
begin
    if exists (select from outbox.lanes l join outbox.subscriptions s on s.id = l.subscription_id
               where l.subscription_id = subscription and l.owner = worker and s.topics <> reads) then
        raise exception 'the topics of subscription % have just changed', subscription using errcode = 'OB002';
    end if;
end
$$;

---- create above / drop below ----

drop schema outbox cascade;
alter table public.signalbox_outbox_version drop column serves;
