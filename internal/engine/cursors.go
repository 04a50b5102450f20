package engine

// CursorsSQL returns the cursors of lanes l. An owned lane's is in its owner's latest progress row that lists it. Only index progress_owner
// has the owner's rows in that order: with plain equality, the order of the primary key would do as well, and the planner may walk through all
// that other members have appended since.
const CursorsSQL = `
    select l.subscription_id, l.lane, coalesce(p.after_id, l.after_id) as after_id, coalesce(p.late_after_id, l.late_after_id) as late_after_id,
           coalesce(p.pending, l.pending) as pending, coalesce(p.late, l.late) as late
    from outbox.lanes l
    left join lateral (
        select u.after_id, p.pending, p.late, p.late_after_id
        from outbox.progress p, unnest(p.lanes, p.after_ids) as u (lane, after_id)
        where (p.owner, p.subscription_id) >= (l.owner, l.subscription_id) and (p.owner, p.subscription_id) <= (l.owner, l.subscription_id)
          and u.lane = l.lane
        order by p.owner desc, p.subscription_id desc, p.seq desc
        limit 1
    ) p on l.owner is not null`
