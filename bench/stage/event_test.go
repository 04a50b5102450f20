package stage

import (
	"encoding/json"
	"testing"
)

func TestEvent(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 7, 12_345, 9_999_999} {
		e := Event(n)
		if len(e.Payload) != payloadBytes {
			t.Errorf("payload %d has %d bytes", n, len(e.Payload))
		}
		var decoded struct {
			N   int64
			Key string
		}
		if err := json.Unmarshal(e.Payload, &decoded); err != nil || decoded.N != n || decoded.Key != e.Key {
			t.Errorf("payload %d decodes as %+v, %v", n, decoded, err)
		}
		if got := Sequence(e.Payload); got != n {
			t.Errorf("%s is event %d", e.Payload, got)
		}
	}
	if got := Sequence([]byte(`{"n": 42, "key": "key-7"}`)); got != 42 { // as jsonb writes it
		t.Errorf("got %d", got)
	}
}
