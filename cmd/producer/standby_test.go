package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/migrations"
	"github.com/signalbox-go/signalbox/migrations/apply"
)

// TestStandby has a producer wait at a standby, not ready, until that is promoted.
func TestStandby(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, set := range []migrations.Set{migrations.Outbox, migrations.Signals} {
		if err := apply.Up(t.Context(), conn, set); err != nil {
			t.Fatal(err)
		}
	}
	standby := pgtest.Standby(t, server).URL("postgres")
	url, stop := start(t, "--database-url", standby)
	for _, request := range [][]string{{"GET", "/readyz"}, {"POST", "/ingest"}} {
		if code, answer := send(t, request[0], url+request[1], "", ""); code != http.StatusServiceUnavailable || !strings.Contains(answer, "the database takes no writes: it is a standby, or read-only") {
			t.Errorf("%v: %d %s", request, code, answer)
		}
	}
	there, err := pgx.Connect(t.Context(), standby)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close(t.Context())
	if _, err := there.Exec(t.Context(), `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		code, answer := send(t, "GET", url+"/readyz", "", "")
		if code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the promotion: %d %s", code, answer)
		}
	}
	if code, answer := send(t, "POST", url+"/ingest", "", ""); code != http.StatusOK {
		t.Errorf("after the promotion: %d %s", code, answer)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
