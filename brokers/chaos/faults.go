package main

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// The kinds of faults that every place has. Each function injects one, and returns when it is over.
var kinds = []kind{
	{name: "relay killed", most: 3 * time.Second, run: killRelay},
	{name: "relay frozen", least: 300 * time.Millisecond, most: 4 * time.Second, run: freezeRelay},
	{name: "relay frozen for longer than its lease", least: time.Second, most: 3 * time.Second, pastLease: true, run: freezeRelay},
	{name: "relays restarted one by one", most: 0, run: restartRelays},
	{name: "broker killed", most: 2 * time.Second, run: killBroker},
	{name: "broker frozen", least: 300 * time.Millisecond, most: 5 * time.Second, run: freezeBroker},
	{name: "connections cut", least: 200 * time.Millisecond, most: 2 * time.Second, run: cutConnections},
	{name: "connections refused", least: 500 * time.Millisecond, most: 4 * time.Second, run: refuseConnections},
	{name: "network half-open", least: 500 * time.Millisecond, most: 5 * time.Second, run: blockNetwork},
	{name: "acknowledgements lost", least: 500 * time.Millisecond, most: 4 * time.Second, run: loseAcknowledgements},
	{name: "network slow", least: time.Second, most: 4 * time.Second, run: slowNetwork},
	{name: "poison", least: time.Second, most: 2 * time.Second, run: poison},
}

// killRelay kills one. Its place stays empty for a while.
func killRelay(ctx context.Context, w *world, f *fault) error {
	p := w.posts[f.pick]
	p.hold(true)
	defer p.hold(false)
	<-p.signal(syscall.SIGKILL)
	pause(ctx, f.length)
	return nil
}

// freezeRelay has one stand still. If that is for longer than its lease, it wakes up as a zombie: its lanes are others'.
func freezeRelay(ctx context.Context, w *world, f *fault) error {
	p := w.posts[f.pick]
	p.signal(syscall.SIGSTOP)
	pause(ctx, f.length)
	p.signal(syscall.SIGCONT)
	return nil
}

// restartRelays has each finish what it began, and be replaced.
func restartRelays(ctx context.Context, w *world, _ *fault) error {
	for _, p := range w.posts {
		select {
		case <-p.signal(syscall.SIGTERM):
		case <-ctx.Done():
		}
	}
	return nil
}

func killBroker(ctx context.Context, w *world, f *fault) error {
	w.killing.Lock()
	defer w.killing.Unlock()
	w.brokerDown.Lock()
	defer w.brokerDown.Unlock()
	w.broker.kill()
	pause(ctx, f.length)
	return w.host.Do(func(t testing.TB) { w.broker.restart(t) })
}

func freezeBroker(ctx context.Context, w *world, f *fault) error {
	w.brokerDown.Lock()
	defer w.brokerDown.Unlock()
	err := w.host.Do(func(t testing.TB) { w.broker.freeze(t) })
	pause(ctx, f.length)
	w.broker.thaw()
	return err
}

// cutConnections cuts all of them, again and again.
func cutConnections(ctx context.Context, w *world, f *fault) error {
	for end := time.Now().Add(f.length); time.Now().Before(end) && ctx.Err() == nil; {
		w.proxy.Cut()
		pause(ctx, 300*time.Millisecond)
	}
	return nil
}

func refuseConnections(ctx context.Context, w *world, f *fault) error {
	w.proxy.Refuse(1)
	defer w.proxy.Refuse(-1)
	w.proxy.Cut()
	pause(ctx, f.length)
	return nil
}

// blockNetwork lets nothing pass, and tells nobody. Afterwards, all of it arrives, or the connections turn out to be gone.
func blockNetwork(ctx context.Context, w *world, f *fault) error {
	w.proxy.Block(1)
	pause(ctx, f.length)
	if f.pick == 0 {
		w.proxy.Cut()
	}
	w.proxy.Block(-1)
	return nil
}

func loseAcknowledgements(ctx context.Context, w *world, f *fault) error {
	w.proxy.Deafen(1)
	defer w.proxy.Deafen(-1)
	pause(ctx, f.length)
	return nil
}

func slowNetwork(ctx context.Context, w *world, f *fault) error {
	const delay = 20 * time.Millisecond
	w.proxy.Slow(delay)
	defer w.proxy.Slow(-delay)
	pause(ctx, f.length)
	return nil
}

// poison has some events published that are too large.
func poison(ctx context.Context, w *world, f *fault) error {
	w.traffic.poison.Add(3)
	pause(ctx, f.length)
	return nil
}

// ownFault is one that a broker makes itself. It is begun and ended while the broker serves.
func ownFault(ctx context.Context, w *world, f *fault) error {
	if err := w.manage(ctx, f.kind.name, w.broker.begin); err != nil {
		return err
	}
	pause(ctx, f.length)
	return w.manage(context.WithoutCancel(ctx), f.kind.name, w.broker.end)
}

// manage has the broker changed. It may be killed, frozen or about to serve, so that is tried for a while.
func (w *world) manage(ctx context.Context, fault string, change func(ctx context.Context, t testing.TB, fault string) error) error {
	w.managing.Lock()
	defer w.managing.Unlock()
	for start := time.Now(); ; pause(ctx, 200*time.Millisecond) {
		w.brokerDown.Lock()
		var err error
		failed := w.host.Do(func(t testing.TB) {
			each, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			err = change(each, t, fault)
		})
		w.brokerDown.Unlock()
		switch {
		case failed != nil:
			return failed
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return nil
		case time.Since(start) > time.Minute:
			return fmt.Errorf("the broker cannot be changed: %w", err)
		}
	}
}
