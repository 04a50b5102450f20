package scenarios

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestEvent(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 7, 12_345, 9_999_999} {
		e := event(n)
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
		if got := sequence(e.Payload); got != n {
			t.Errorf("%s is event %d", e.Payload, got)
		}
	}
	if got := sequence([]byte(`{"n": 42, "key": "key-7"}`)); got != 42 { // as jsonb writes it
		t.Errorf("got %d", got)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	numbers := Numbers()
	if !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		t.Errorf("scenarios are numbered %v", numbers)
	}
	if err := CheckNumbers(numbers); err != nil {
		t.Error(err)
	}
	if err := CheckNumbers([]int{1, 99}); err == nil {
		t.Error("there is a scenario 99")
	}
}
