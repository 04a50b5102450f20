package engine

// HeadSQL is the last id that an event has taken, or 0: of a sequence that was never used, PostgreSQL knows none.
//
// Not the last_value in the sequence's row. With every 32nd id, PostgreSQL writes to its own log how far the sequence will
// be 32 ids later, and while it does, the row says the same to whoever reads it as a row: no lock keeps readers of rows off.
// A cursor that was moved there would pass events that are yet to come. The function waits for the lock.
//
// It is asked in a select from the sequence, so that a role that may not read that is told so: from version 17 on, the function
// alone would return null, as for a sequence that was never used. Of one that was restarted with a higher number, the row says
// where: nobody writes to the log's end until it is used.
const HeadSQL = `coalesce((select pg_sequence_last_value('outbox.events_id_seq') from outbox.events_id_seq),
         (select q.last_value - 1 from outbox.events_id_seq q where not q.is_called), 0)`
