package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-go/signalbox/internal/topic"
	"github.com/signalbox-go/signalbox/internal/uid"
	"github.com/signalbox-go/signalbox/outbox"
)

// filterSample is how many rows a window needs to tell whether most of them match, so that filtering them in the
// database would cost more than it saves.
const filterSample = 64

// collected is what one read statement returned.
type collected struct {
	reading
	events []Event
	bytes  int
	looked int     // how many rows were taken, wanted or not
	cut    []int16 // lanes that may have more to read at once
}

// errUnclean says that the read's transaction id may be older than its snapshot, which would lose events.
var errUnclean = errors.New("the transaction of the read has written before")

// collect takes the rows of readSQL, in the order in which they come, and of the events those that are wanted: no more than the limit, where that is
// less than one of each lane.
func (m *Member) collect(rows pgx.Rows, wants topic.Patterns, limit int, lanes []int16, after []int64, take []int32) (*collected, error) {
	defer rows.Close()
	got := &collected{reading: reading{stopped: map[int16]int64{}}, events: make([]Event, 0, m.lastCount)}
	var (
		arena  arena
		text   [uid.Len]byte
		bytes  int
		count  int
		full   bool         // the window has all that it may have
		name   string       // of a topic
		wanted bool         // whether that matches: LIKE lets a little more pass
		long   bool         // whether an event was kept back that is the next one of its lane, or of what is late
		last   [Lanes]int64 // id of the last row taken of each lane
		taken  [Lanes]int32
		missed [Lanes]bool // rows came that were not taken
		turned bool        // whether it is known which lane is first next time
	)
	for rows.Next() {
		raw := rows.RawValues()
		kind, id, lane := raw[0][1], int64(binary.BigEndian.Uint64(raw[1])), int16(binary.BigEndian.Uint16(raw[2]))
		if kind == 0 {
			if err := got.readMeta(raw, id); err != nil {
				return nil, err
			}
			continue
		}
		full = full || bytes > m.most || count >= limit && limit < len(lanes)
		if raw[3] != nil && string(raw[3]) != name {
			name = string(raw[3])
			wanted = wants.Match(name)
		}
		matches := raw[3] != nil && wanted
		kept := matches && raw[5] == nil // back, by the database
		if kind == 1 {
			if got.lateCut != 0 && id >= got.lateCut {
				continue // beyond the cut there may be others that were not read
			}
			if full || kept {
				long = long || count == 0
				got.lateCut = id
				continue
			}
		} else {
			if full || kept || missed[lane] || got.lateCut != 0 {
				long = long || kept && !missed[lane] && taken[lane] == 0
				if full && !turned && taken[lane] == 0 {
					m.first, turned = lane, true
				}
				missed[lane] = true
				continue
			}
			last[lane] = id
			taken[lane]++
		}
		got.looked++
		if !matches {
			continue
		}
		published := int64(binary.BigEndian.Uint64(raw[7])) + microsecondsTo2000
		e := Event{Lane: lane, Event: outbox.Event{
			ID: id, UID: arena.text(uid.Append(text[:0], m.tag, id, published)), Topic: name, Key: arena.text(raw[4]), Payload: arena.bytes(raw[5]), PublishedAt: time.UnixMicro(published).UTC(),
		}}
		e.Headers = ParseHeaders(raw[6])
		count++
		bytes += len(raw[3]) + len(raw[4]) + len(raw[5]) + len(raw[6]) + 64
		got.events = append(got.events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if count > 0 {
		m.eventBytes = (m.eventBytes + bytes/count) / 2
	}
	m.lastCount, m.long, got.bytes = count, long, bytes
	for i, lane := range lanes {
		switch {
		case take[i] == 0: // held: it stays where it is, however far the others get
			got.stopped[lane] = after[i]
			if m.left[lane] {
				got.cut = append(got.cut, lane)
			}
		case missed[lane], taken[lane] >= take[i]:
			got.stopped[lane] = max(after[i], last[lane])
			got.cut = append(got.cut, lane)
		}
	}
	return got, nil
}

// adapt has topics filtered in the database or not, as it suits what was read.
func (m *Member) adapt(got *collected) {
	if got.looked >= filterSample {
		m.filter = nil
		if len(got.events) < got.looked/2 {
			m.filter = m.topics.Like()
		}
	}
}

// readMeta takes the row about the read itself. It borrows the columns of the events.
func (r *reading) readMeta(raw [][]byte, head int64) (err error) {
	if raw[6] == nil {
		return errUnclean
	}
	r.head = head
	if r.snapshot, err = parseSnapshot(string(raw[3])); err != nil {
		return err
	}
	if raw[4] != nil {
		if r.next, err = strconv.ParseInt(string(raw[4]), 10, 64); err != nil {
			return fmt.Errorf("parse transaction id: %w", err)
		}
	}
	if raw[5] != nil { // the first late event beyond the window
		if r.lateCut, err = strconv.ParseInt(string(raw[5]), 10, 64); err != nil {
			return fmt.Errorf("parse late cut: %w", err)
		}
	}
	return nil
}

// byteLimit is how many events of the recent size fit in a window.
func (m *Member) byteLimit() int { return m.most / max(1, m.eventBytes) }

// PostgreSQL counts microseconds from the year 2000.
const microsecondsTo2000 = 946684800 * 1e6

// An arena holds the bytes of a window's events in a few pieces: an allocation for each would cost more than
// reading it. Pieces are never reused, so an event may outlive its window. They begin small, for windows that are.
type arena struct{ free []byte }

func (a *arena) bytes(b []byte) []byte {
	const least, most = 4 << 10, 256 << 10
	if len(b) > cap(a.free)-len(a.free) {
		if len(b) > most/4 {
			return slices.Clone(b)
		}
		a.free = make([]byte, 0, max(least, len(b), min(most, 2*cap(a.free))))
	}
	start := len(a.free)
	a.free = append(a.free, b...)
	return a.free[start:len(a.free):len(a.free)]
}

func (a *arena) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	kept := a.bytes(b)
	return unsafe.String(&kept[0], len(kept)) // nobody else has these bytes
}
