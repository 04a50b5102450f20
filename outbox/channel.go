package outbox

// Channel is where workers of the default outbox listen; see [Outbox.Channel] for another. A notification is a wake-up and nothing more: it says which lanes may have something.
const Channel = "new_signals"
