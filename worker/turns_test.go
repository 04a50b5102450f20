package worker_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/pgtest"
	"github.com/signalbox-go/signalbox/worker"
)

// TestReadThatHangs stops the server's process that reads for one of two subscriptions of a worker, which take turns at the end of
// the log. The other one goes on, and the first one catches up later.
func TestReadThatHangs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	hanging, other := newLedger(), newLedger()
	w, err := worker.New(db.Pool, worker.Config{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*ledger{"hanging": hanging, "other": other} {
		if err := worker.Handle(w, worker.Subscription{Name: name, Topics: everything}, record(l)); err != nil {
			t.Fatal(err)
		}
	}
	runUntilStopped(t, w)
	publish(t, db.Pool, "k", 0, 1)
	hanging.waitFor(t, 1)
	other.waitFor(t, 1)

	var pid int
	find := func() bool { // where it does nothing, and holds nothing that others need
		err := db.Pool.QueryRow(t.Context(), `
			select a.pid from pg_stat_activity a
			where a.datname = current_database() and a.application_name like '%: hanging' and a.state = 'idle'`).Scan(&pid)
		return err == nil
	}
	eventually(t, 10*time.Second, "the connection is idle", find)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(goOn)
	for n := 1; n < 20; n++ {
		publish(t, db.Pool, "k", n, n+1)
		other.waitFor(t, n+1)
	}
	if n := len(hanging.all()); n != 1 {
		t.Errorf("%d events were handled where nothing can be read", n)
	}
	goOn()
	hanging.waitFor(t, 20)
}
