package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/signalbox-go/signalbox/internal/engine"
)

const (
	// busyRate is how many notifications a second publishers may send before the sentinel spares them that and looks for
	// itself. All workers hear each of them, and read: so it is wakeUps divided by their number, if that is less. Where quietPart of it
	// publish, or fewer, it lets them ring again.
	busyRate, wakeUps, quietPart = 300, 1500, 0.5

	armedLook = 50 * time.Millisecond // over which notifications are counted
	stuckLook = time.Second           // between looks at whether notifications are stuck, while none are heard
	quietLook = 100 * time.Millisecond
	// probeTick is how often it looks while publishers do not ring. After a look that found muchFound or more, or of which it has to tell other
	// workers, it leaves one out: then the processors are worth more than two milliseconds are to an event. For a fleet it leaves out more: one
	// for each of readersFor workers that will read and record what was found, and for each of hearersFor that will only hear of it.
	probeTick              = 2 * time.Millisecond
	muchFound              = 6
	readersFor, hearersFor = 2, 25
	armingFor              = 200 * time.Millisecond // that a request for the bell's lock stays in the queue
)

// answerDoorbell is the other part: it finds out for all workers what was published. It is like a network driver: publishers ring when it is quiet, and
// are looked after by polling under load.
func (s *session) answerDoorbell(ctx context.Context, log *slog.Logger, works func()) error {
	lock, err := s.openOurs(ctx, s.name("bell"))
	if err != nil {
		return err
	}
	defer shut(lock)
	probe, err := s.openOurs(ctx, s.name("probe"))
	if err != nil {
		return err
	}
	defer shut(probe)
	bell, err := engine.NewBell(ctx, lock, probe, s.subs[0])
	if err != nil {
		return err
	}
	// What this session hears over probe, its runners have heard already: a second wake-up would have them read for nothing.
	s.ringer.Store(probe.PgConn().PID())
	defer s.ringer.Store(0)
	// What the last sentinel left is unknown.
	if err := engine.RingAll(ctx, probe); err != nil {
		return err
	}
	s.ring(ctx, engine.ParseRing(""))
	works()
	for {
		if err := s.poll(ctx, bell); err != nil {
			return err
		}
		log.Debug("doorbell is armed")
		if err := s.stayArmed(ctx, bell); err != nil {
			return err
		}
		log.Debug("doorbell is polling")
	}
}

// poll looks for events until few are published, and returns when the bell is armed. It looks at each tick, unless only this worker
// would be told, and its reader finds events whenever it looks: then that looks instead, once for both.
func (s *session) poll(ctx context.Context, bell *engine.Bell) error {
	var (
		ticks      = time.NewTicker(probeTick)
		since      = time.Now()
		publishers int
		leaveOut   int        // so many looks
		arming     chan armed // nil while no request for the lock is under way
	)
	defer ticks.Stop()
	defer func() {
		if arming != nil {
			<-arming // it ends with its timeout, or with ctx
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case got := <-arming:
			arming = nil
			if got.err != nil {
				return got.err
			}
			if got.granted {
				// Those who shared the lock have ended by now. This look finds what they published.
				_, err := s.probe(ctx, bell)
				return err
			}
			since, publishers = time.Now(), 0 // a publisher's transaction is long: look at the load again
		case <-ticks.C:
			if leaveOut > 0 {
				leaveOut--
				continue
			}
			elapsed := time.Since(since)
			if elapsed < quietLook && s.alone() && s.reader.flows() {
				leaveOut = s.looksLess(int(s.reader.found.Load()))
				s.ring(ctx, engine.ParseRing(""))
				continue
			}
			n, err := s.probe(ctx, bell) // for all that was published since the last time, however many ticks ago
			if err != nil {
				return err
			}
			publishers, leaveOut = publishers+n, s.looksLess(n)
			if elapsed < quietLook {
				continue
			}
			if arming == nil && !s.stuck.Load() && float64(publishers) < quietPart*s.busyRate()*elapsed.Seconds() {
				arming = make(chan armed, 1)
				go func() {
					granted, err := bell.Arm(ctx, armingFor)
					arming <- armed{granted, err}
				}()
			}
			since, publishers = time.Now(), 0
		}
	}
}

// alone reports whether there is no other worker to be told.
func (s *session) alone() bool { return s.workers.Load() == 1 }

// busyRate is how many notifications a second publishers may send.
func (s *session) busyRate() float64 { return min(busyRate, wakeUps/float64(max(1, s.workers.Load()))) }

// looksLess is how many looks are left out after one that found so many.
func (s *session) looksLess(found int) int {
	switch {
	case found > 0 && !s.alone():
		workers := int(s.workers.Load())
		return max(1, min(found, workers, engine.Lanes)/readersFor+workers/hearersFor)
	case found >= muchFound:
		return 1
	default:
		return 0
	}
}

type armed struct {
	granted bool
	err     error
}

func (s *session) probe(ctx context.Context, bell *engine.Bell) (publishers int, err error) {
	ring, publishers, err := bell.Probe(ctx)
	if err != nil {
		return 0, err
	}
	s.ring(ctx, ring) // its own runners do not wait for the notification
	return publishers, nil
}

// stayArmed sleeps while publishers ring, and disarms the bell when that costs them too much.
func (s *session) stayArmed(ctx context.Context, bell *engine.Bell) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	lost := make(chan error, 1)
	go func() { lost <- bell.Watch(watching, s.w.cfg.Lease/2) }()
	for {
		select {
		case err := <-lost:
			return err
		case <-s.rang:
		case <-time.After(stuckLook):
			if !s.stuck.Load() {
				continue
			}
		}
		before, start := s.trigger.Load(), time.Now()
		select {
		case err := <-lost:
			return err
		case <-time.After(armedLook):
		}
		rate := float64(s.trigger.Load()-before+1) / time.Since(start).Seconds()
		crowded, err := bell.Crowded(ctx)
		if err == nil && !crowded && !s.stuck.Load() && rate <= s.busyRate() {
			continue
		}
		stop()
		if watched := <-lost; err == nil {
			err = watched
		}
		if err != nil {
			return err
		}
		return bell.Disarm(ctx)
	}
}
