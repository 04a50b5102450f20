package outbox

// Channel is the channel of PostgreSQL on which workers of the default outbox listen; see [Outbox.Channel] for other outboxes. A
// notification only wakes workers, and says which lanes may have new events.
const Channel = "new_signals"
