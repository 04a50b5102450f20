package engine

// HandledSQL is how many events each subscription has handled with success, and when that last grew. It is the one source of rates:
// cursors would not do, because they pass what is none of a subscription's topics. The latest row of each member has what it handled since it
// joined, and the lanes what those handled that have left. That row is found as the last one up to a place in index progress_owner: with
// plain equality, the order of the primary key would do as well, and the planner may walk through all that other members have appended since.
const HandledSQL = `
    select s.id, s.name,
           (coalesce((select sum(l.handled) from outbox.lanes l where l.subscription_id = s.id), 0) + coalesce(sum(p.handled), 0))::bigint as handled,
           greatest((select max(l.handled_at) from outbox.lanes l where l.subscription_id = s.id), max(p.handled_at)) as handled_at
    from outbox.subscriptions s
    left join outbox.members m on m.subscription_id = s.id
    left join lateral (
        select p.owner, p.subscription_id, p.handled, p.handled_at
        from outbox.progress p
        where (p.owner, p.subscription_id, p.seq) <= (m.worker_id, m.subscription_id, 9223372036854775807)
        order by p.owner desc, p.subscription_id desc, p.seq desc
        limit 1
    ) p on p.owner = m.worker_id and p.subscription_id = m.subscription_id
    group by s.id`
