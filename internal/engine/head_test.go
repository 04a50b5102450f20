package engine

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc"

	"github.com/signalbox-go/signalbox/internal/pgtest"
)

// TestHeadIsNeverAhead asks for the last id over and over, while another session takes ids as fast as it can. What is asked
// afterwards is never less: a cursor that was moved to a head too far passes events that are yet to come.
//
// The sequence's own row would be ahead once in some thousand times.
func TestHeadIsNeverAhead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	taker, asker := db.Conn(t), db.Conn(t)
	var (
		running conc.WaitGroup
		over    atomic.Bool
		begun   = make(chan struct{})
	)
	running.Go(func() {
		for first := true; !over.Load(); first = false {
			if _, err := taker.Exec(t.Context(), `select count(nextval('outbox.events_id_seq')) from generate_series(1, 100000)`); err != nil {
				t.Error(err)
				over.Store(true)
			}
			if first {
				close(begun)
			}
		}
	})
	<-begun
	_, err := asker.Exec(t.Context(), fmt.Sprintf(`
		do $$
		declare
			head bigint;
			later bigint;
		begin
			for i in 1..200000 loop
				head := %s;
				later := pg_sequence_last_value('outbox.events_id_seq');
				if head > later then
					raise exception 'the head was %%, and later %%', head, later;
				end if;
			end loop;
		end $$`, HeadSQL))
	if err != nil {
		t.Error(err)
	}
	over.Store(true)
	running.Wait()
}
