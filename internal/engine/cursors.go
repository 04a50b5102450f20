package engine

// CursorsSQL returns the cursors of lanes l. An owned lane's is in its owner's latest progress row that lists it; index
// progress_owner leads there.
const CursorsSQL = `
    select l.subscription_id, l.lane, coalesce(p.after_id, l.after_id) as after_id, coalesce(p.late_after_id, l.late_after_id) as late_after_id,
           coalesce(p.pending, l.pending) as pending, coalesce(p.late, l.late) as late
    from outbox.lanes l
    left join lateral (
        select u.after_id, p.pending, p.late, p.late_after_id
        from outbox.progress p, unnest(p.lanes, p.after_ids) as u (lane, after_id)
        where p.owner = l.owner and p.subscription_id = l.subscription_id and u.lane = l.lane
        order by p.seq desc
        limit 1
    ) p on l.owner is not null`
