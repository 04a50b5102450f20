package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// FuzzSnapshot: what is taken for a snapshot is one to PostgreSQL too, and means the same.
func FuzzSnapshot(f *testing.F) {
	for _, seed := range []string{"10:20:10,14", "10:10:", "1:2:1", "748:760:748,750,759", "10:20:20", "0:1:", "5:9223372036854775807:6", "+1:2:", "10:20:10,10"} {
		f.Add(seed, int64(25))
	}
	conn := pgtest.NewEmpty(f).Conn(f)
	f.Fuzz(func(t *testing.T, text string, next int64) {
		s, err := parseSnapshot(text)
		if err != nil {
			return
		}
		next = max(0, next)
		unseen := s.unseen(next)
		near := []int64{s.xmax - 1, s.xmax, next - 1, next}
		for _, xid := range s.xip {
			near = append(near, xid-1, xid, xid+1)
		}
		for _, xid := range near {
			if xid < 0 {
				continue
			}
			var visible bool
			err := conn.QueryRow(t.Context(), `select pg_visible_in_snapshot($1::text::xid8, $2::text::pg_snapshot)`, strconv.FormatInt(xid, 10), text).Scan(&visible)
			if err != nil {
				t.Fatalf("%q was taken for a snapshot: %v", text, err)
			}
			want := !visible && (slices.Contains(s.xip, xid) || xid < next)
			if got := unseen.has(xid); got != want {
				t.Errorf("%q, next %d: %d is unseen: %t; visible: %t", text, next, xid, got, visible)
			}
		}
	})
}

// FuzzRing: a mask means its lanes, and what is unknown wakes nobody.
func FuzzRing(f *testing.F) {
	for _, seed := range []string{"", "0", "1", "ff", "8000000000000000", "ffffffffffffffff", "10000000000000000", LanesPayload, DeliveriesPayload, "-1", "0x1", "1_0", " 1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		ring := ParseRing(payload)
		mask, err := strconv.ParseUint(payload, 16, 64)
		switch payload {
		case "":
			mask, err = everyLane, nil
		case LanesPayload, DeliveriesPayload:
			mask, err = 0, nil
		}
		if err != nil {
			if ring != (Ring{}) {
				t.Errorf("%q is unknown, and wakes for %+v", payload, ring)
			}
			return
		}
		if want := (Ring{Lanes: mask, Freed: payload == LanesPayload, Deliveries: payload == DeliveriesPayload}); ring != want {
			t.Errorf("%q wakes for %+v, want %+v", payload, ring, want)
		}
	})
}

// FuzzHeaders: whatever a publisher in SQL may put there, a reader takes. An event that it cannot read would stop its lane.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a": "b"}`, `{"a": 1, "b": [null, {"c": true}], "": ""}`, `{"a": 1e400}`, `{"a": "\u00e4\ud83d\ude00"}`, `{"a":1,"a":2}`} {
		f.Add(seed)
	}
	conn := pgtest.NewEmpty(f).Conn(f)
	f.Fuzz(func(t *testing.T, text string) {
		var stored []byte
		if conn.QueryRow(t.Context(), `select $1::text::jsonb::text where jsonb_typeof($1::text::jsonb) = 'object'`, text).Scan(&stored) != nil {
			return
		}
		headers := ParseHeaders(stored)
		var values map[string]any
		if json.Unmarshal(stored, &values) != nil {
			return // a number or a depth that only PostgreSQL can hold
		}
		if len(values) != len(headers) {
			t.Errorf("%s has become %v", stored, headers)
		}
		for name, value := range values {
			if text, ok := value.(string); ok && headers[name] != text {
				t.Errorf("header %q is %q, want %q", name, headers[name], fmt.Sprint(value))
			}
		}
	})
}
