package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/brokers/certs"
	"github.com/signalbox-go/signalbox/brokers/drive"
	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/relay"
	sinks "github.com/signalbox-go/signalbox/relay/webhook"
)

// Faults of a receiver.
const (
	receiverFull = "receiver full: 507"
	receiverBusy = "receiver busy: 429"
)

var webhookPlace = place{
	name: "webhook", poison: 40 << 10, start: startWebhook,
	open: func(text string) (relay.Sink, error) {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		return sinks.FromURL(u)
	},
	own: []kind{
		{name: receiverFull, least: 500 * time.Millisecond, most: 4 * time.Second, run: ownFault},
		{name: receiverBusy, least: 500 * time.Millisecond, most: 4 * time.Second, run: ownFault},
	},
}

func startWebhook(t testing.TB, w *world) *broker {
	dir := t.TempDir()
	files := certs.New(t, dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := receiverConfig{Address: listener.Addr().String(), Folder: dir, Cert: files.Cert, Key: files.Key}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	address, err := w.open(cfg.Address)
	if err != nil {
		t.Fatal(err)
	}
	var process *proc.Process
	restart := func(t testing.TB) {
		env, err := receiverRole.Env(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if process, err = proc.Start(context.WithoutCancel(t.Context()), proc.Config{Env: []string{env}, Stderr: os.Stderr, Group: true}); err != nil {
			t.Fatal(err)
		}
		drive.Until(t, "the receiver serves", func() bool { return drive.Listens(cfg.Address) })
	}
	restart(t)
	t.Cleanup(func() { process.Kill() })
	sign := func(fault string) string { return filepath.Join(dir, signs[fault]) }
	return &broker{
		url:         fmt.Sprintf("https://%s/#unsigned=true&timeout=3s&concurrency=64&allow=127.0.0.0/8&ca_file=%s", address, url.QueryEscape(files.CA)),
		destination: "receiver",
		kill:        func() { process.Kill() }, restart: restart,
		freeze: func(t testing.TB) {
			process.Signal(syscall.SIGSTOP)
			drive.Until(t, "the receiver stands still", func() bool { return drive.Stopped(process.Pid()) })
		},
		thaw: func() { process.Signal(syscall.SIGCONT) },
		begin: func(_ context.Context, _ testing.TB, fault string) error {
			return os.WriteFile(sign(fault), nil, 0o600)
		},
		end: func(_ context.Context, _ testing.TB, fault string) error {
			if err := os.Remove(sign(fault)); err != nil && !os.IsNotExist(err) { // another one has ended it
				return err
			}
			return nil
		},
		received: func(context.Context, testing.TB) ([]received, error) { return readReceiver(cfg) },
	}
}
