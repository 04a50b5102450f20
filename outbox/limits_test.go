package outbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/outbox"
)

// TestLimitsAgree publishes by Go and by SQL what is just allowed and what is just not: both take the same.
func TestLimitsAgree(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	type event struct{ topic, key, payload, headers string }
	plain := event{"a", "k", "1", "{}"}
	tests := map[string]struct {
		event
		refused string // the constraint, or "" where both take it
	}{}
	add := func(name string, refused string, change func(*event)) {
		e := plain
		change(&e)
		tests[name] = struct {
			event
			refused string
		}{e, refused}
	}
	topic := func(topic, refused string) {
		add(fmt.Sprintf("topic %.20q of %d bytes", topic, len(topic)), refused, func(e *event) { e.topic = topic })
	}
	for _, s := range []string{"a.b", "ünïcode.ключ", "a-b_c/d:e", `a\b`, "a[b]", "^a$", "a\u00a1", "a\u200b", "a\ufeff", "𝄞.x", strings.Repeat("a", 255), strings.Repeat("ü", 127)} {
		topic(s, "")
	}
	for _, s := range []string{"", ".", ".a", "a.", "a..b", "a.*", "*", ">", "a.>", "a*b", "a>b", "a.b\n"} {
		topic(s, "topic_shape")
	}
	for _, s := range []string{strings.Repeat("a", 256), strings.Repeat("ü", 128)} {
		topic(s, "topic_bytes")
	}
	// All that unicode calls a space or a control character, and what is beside it.
	for _, r := range []rune{
		0x01, 0x09, 0x0a, 0x1f, 0x20, 0x7f, 0x80, 0x85, 0x9f, 0xa0, 0x1680, 0x2000, 0x2005, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000,
	} {
		topic("a"+string(r)+"b", "topic_shape")
	}
	for _, r := range []rune{0x21, 0x7e, 0xa1, 0x167f, 0x1681, 0x1fff, 0x200b, 0x2027, 0x202a, 0x202e, 0x2030, 0x205e, 0x2060, 0x2fff, 0x3001} {
		topic("a"+string(r)+"b", "")
	}
	key := func(n int, refused string) {
		add(fmt.Sprintf("key of %d bytes", n), refused, func(e *event) { e.key = strings.Repeat("k", n) })
	}
	key(outbox.MaxKeyBytes, "")
	key(outbox.MaxKeyBytes+1, "key_bytes")
	payload := func(n int, refused string) {
		add(fmt.Sprintf("payload of %d bytes", n), refused, func(e *event) { e.payload = `"` + strings.Repeat("x", n-2) + `"` })
	}
	payload(outbox.MaxPayloadBytes, "")
	payload(outbox.MaxPayloadBytes+1, "payload_bytes")
	headers := func(name string, h map[string]string, refused string) {
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		add(name, refused, func(e *event) { e.headers = string(raw) })
	}
	headers("headers of 64 KiB", map[string]string{"a": strings.Repeat("x", outbox.MaxHeadersBytes-1)}, "")
	headers("longer headers", map[string]string{"a": strings.Repeat("x", outbox.MaxHeadersBytes)}, "headers_bytes")
	// Their JSON is longer than they are.
	headers("escaped headers of 64 KiB", map[string]string{"a": strings.Repeat("\n", outbox.MaxHeadersBytes-1)}, "")
	headers("escaped longer headers", map[string]string{"a": "x", "b": strings.Repeat("\n", outbox.MaxHeadersBytes-2)}, "headers_bytes")

	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := outbox.Event{Topic: test.topic, Key: test.key, Payload: json.RawMessage(test.payload)}
			if err := json.Unmarshal([]byte(test.headers), &e.Headers); err != nil {
				t.Fatal(err)
			}
			_, err := outbox.Publish(t.Context(), db.Pool, e)
			if (err == nil) != (test.refused == "") || err != nil && !errors.As(err, new(*outbox.EventError)) {
				t.Errorf("published by Go: %v", err)
			}
			_, err = db.Pool.Exec(t.Context(), `insert into outbox.events (topic, key, payload, headers) values ($1, $2, $3, $4)`,
				test.topic, test.key, test.payload, test.headers)
			checkRefused(t, err, test.refused)
			_, err = db.Pool.CopyFrom(t.Context(), pgx.Identifier{"outbox", "events"}, []string{"topic", "key", "payload", "headers"},
				pgx.CopyFromRows([][]any{{test.topic, test.key, test.payload, test.headers}}))
			checkRefused(t, err, test.refused)
		})
	}
	// What Go has no words for.
	for sql, refused := range map[string]string{
		`insert into outbox.events (topic, key, payload) values ('a', '', '1')`:                                                             "key_bytes",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '[]')`:                                                       "headers_strings",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '"x"')`:                                                      "headers_strings",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '{"a": "x", "b": 1}')`:                                       "headers_strings",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '{"a": null}')`:                                              "headers_strings",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '{"a": ["x"]}')`:                                             "headers_strings",
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '{"a": {}}')`:                                                "headers_strings",
		`create table large as select to_json(repeat('x', 2000000)) p; insert into outbox.events (topic, payload) select 'a', p from large`: "payload_bytes", // compressed
		`insert into outbox.events (topic, payload, headers) values ('a', '1', '{"a": "x", "": ""}')`:                                       "",
	} {
		_, err := db.Pool.Exec(t.Context(), sql)
		checkRefused(t, err, refused)
	}
}

// checkRefused has an error be the violation of a constraint, or nil where there is none.
func checkRefused(t *testing.T, err error, constraint string) {
	t.Helper()
	var violation *pgconn.PgError
	switch {
	case constraint == "" && err != nil:
		t.Errorf("the database: %v", err)
	case constraint != "" && (!errors.As(err, &violation) || violation.ConstraintName != constraint):
		t.Errorf("the database: %.200v, want a violation of %s", err, constraint)
	}
}
