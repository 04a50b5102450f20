package kafka

import "sync"

// answers tells messages what became of them, in order, by a goroutine of its own: the client's must not wait for the relay.
type answers struct {
	mu     sync.Mutex
	more   sync.Cond
	queue  []answer
	closed bool
}

type answer struct {
	done func(error)
	err  error
}

func newAnswers() *answers {
	a := &answers{}
	a.more.L = &a.mu
	return a
}

func (a *answers) add(done func(error), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, answer{done, err})
	a.more.Signal()
}

func (a *answers) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.more.Signal()
}

// run ends when it is closed and everything is told.
func (a *answers) run() {
	for {
		a.mu.Lock()
		for len(a.queue) == 0 && !a.closed {
			a.more.Wait()
		}
		queue := a.queue
		a.queue = nil
		a.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, answer := range queue {
			answer.done(answer.err)
		}
	}
}
