package engine

import (
	"encoding/json"
)

// ParseHeaders accepts what SQL publishers may have put there: values that are no strings become their JSON text. Nested ten
// thousand deep, which PostgreSQL takes and encoding/json does not, they all become one, without a name: an event that no
// reader takes would stop its lane. Of none it makes nil.
func ParseHeaders(raw []byte) map[string]string {
	if len(raw) <= len("{}") {
		return nil
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return map[string]string{"": string(raw)}
	}
	headers := make(map[string]string, len(values))
	for name, value := range values {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		headers[name] = text
	}
	return headers
}
