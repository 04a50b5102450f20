package outbox

// Channel is where workers listen. A notification is a wake-up and nothing more: it says which lanes may have something.
const Channel = "new_signals"
