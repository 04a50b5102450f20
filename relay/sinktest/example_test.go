package sinktest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/signalbox-go/signalbox/relay"
	"github.com/signalbox-go/signalbox/relay/sinktest"
	"github.com/signalbox-go/signalbox/worker"
)

// A journal is a sink that appends each message as a line to a file, which is named by its destination. Messages that come while others are written are
// written together, with one fsync: that is what answers that come later are good for.
type journal struct {
	root  *os.Root
	queue chan sending
	ended chan struct{}
}

// A sending is what Send was called with.
type sending struct {
	ctx  context.Context
	m    *relay.Message
	done func(error)
}

// entry is a line.
type entry struct {
	ID      string            `json:"id"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func openJournal(dir string) (*journal, error) {
	root, err := os.OpenRoot(dir) // destinations come from events: they must not lead out of the folder
	if err != nil {
		return nil, err
	}
	j := &journal{root: root, queue: make(chan sending, 1000), ended: make(chan struct{})}
	go j.run()
	return j, nil
}

// Send hands the message over. It may block while the queue is full.
func (j *journal) Send(ctx context.Context, m *relay.Message, done func(error)) {
	select {
	case j.queue <- sending{ctx, m, done}:
	case <-ctx.Done():
		done(context.Cause(ctx))
	}
}

// Pipelined reports false: what is behind a message that failed is written all the same, so one of a key may be under way at a time.
func (j *journal) Pipelined() bool { return false }

// Check says whether the folder is there. Files are made as they are needed.
func (j *journal) Check(context.Context, []string) error {
	_, err := j.root.Stat(".")
	return err
}

// Close ends the goroutine.
func (j *journal) Close() error {
	close(j.queue)
	<-j.ended
	return j.root.Close()
}

func (j *journal) run() {
	defer close(j.ended)
	for first := range j.queue {
		files := map[string][]sending{first.m.Destination: {first}}
		for n := len(j.queue); n > 0; n-- {
			s := <-j.queue
			files[s.m.Destination] = append(files[s.m.Destination], s)
		}
		for name, list := range files {
			j.write(name, list)
		}
	}
}

// write appends messages to a file, and answers them.
func (j *journal) write(name string, list []sending) {
	var lines bytes.Buffer
	var written []sending
	for _, s := range list {
		line, err := json.Marshal(entry{s.m.ID, s.m.Key, s.m.Headers, string(s.m.Body)})
		switch {
		case s.ctx.Err() != nil: // the worker stops, or does not wait any longer
			s.done(context.Cause(s.ctx))
		case err != nil: // it will never do
			s.done(worker.DeadLetter(err))
		case !filepath.IsLocal(name):
			s.done(worker.DeadLetter(fmt.Errorf("destination %q is no name of a file", name)))
		default:
			lines.Write(append(line, '\n'))
			written = append(written, s)
		}
	}
	if len(written) == 0 {
		return
	}
	err := j.store(name, lines.Bytes())
	if err != nil {
		err = worker.Outage(err) // such as a full disk: no message's own fault
	}
	for _, s := range written {
		s.done(err)
	}
}

// store writes and syncs, or leaves the file as it was.
func (j *journal) store(name string, lines []byte) (err error) {
	f, err := j.root.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err = f.Write(lines); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return nil
}

// A sink of one's own. A relay calls Send for each event, and settles those that were answered with nil.
func Example() {
	dir, err := os.MkdirTemp("", "journal-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	sink, err := openJournal(dir)
	if err != nil {
		panic(err)
	}
	answer := make(chan error)
	m := &relay.Message{ID: "01900000-0000-7000-8000-000000000001", Destination: "orders", Key: "A-17", Body: []byte(`{"total":12}`)}
	sink.Send(context.Background(), m, func(err error) { answer <- err })
	fmt.Println(<-answer)
	if err := sink.Close(); err != nil {
		panic(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "orders"))
	fmt.Println(string(text), err)
	// Output:
	// <nil>
	// {"id":"01900000-0000-7000-8000-000000000001","key":"A-17","headers":null,"body":"{\"total\":12}"}
	//  <nil>
}

// TestJournal has the example pass what every sink passes.
func TestJournal(t *testing.T) { //nolint:paralleltest // see Run
	dir, files := t.TempDir(), 0
	sinktest.Run(t, sinktest.Target{
		New: func(t *testing.T) relay.Sink {
			sink, err := openJournal(dir)
			if err != nil {
				t.Fatal(err)
			}
			return sink
		},
		Destination: func(*testing.T) string { files++; return fmt.Sprint("file-", files) },
		Received: func(t *testing.T, destination string) (received []sinktest.Received) {
			f, err := os.Open(filepath.Join(dir, destination))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for lines := bufio.NewScanner(f); lines.Scan(); {
				var e entry
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
					t.Fatal(err)
				}
				received = append(received, sinktest.Received{ID: e.ID, Key: e.Key, Headers: e.Headers, Body: []byte(e.Body)})
			}
			return received
		},
		Refused: "../elsewhere",
	})
}
