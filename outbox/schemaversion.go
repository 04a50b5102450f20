package outbox

// SchemaVersionHeader is the header that has the version of an event's payload, a number from 1; without it, that is 1. Publishers set it
// when they change the form of payloads, and workers bring older ones to the form that their handlers decode.
const SchemaVersionHeader = "schema-version"
