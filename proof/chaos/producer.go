package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The producer is the real one, cmd/producer, as a process that can be killed. Whenever it ends, it is started again.
type producerProcess struct {
	program string
	address string
	proxy   *proxy
	stop    context.CancelFunc
	running sync.WaitGroup

	mu  sync.Mutex
	cmd *exec.Cmd
}

// startProducer builds the producer and keeps it running.
func startProducer(ctx context.Context, folder, target string, url func(address string) string) (*producerProcess, error) {
	p := &producerProcess{program: filepath.Join(folder, "producer")}
	build := exec.CommandContext(ctx, "go", "build", "-o", p.program, "github.com/signalbox-go/signalbox/cmd/producer")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build cmd/producer: %w: %s", err, out)
	}
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for the producer: %w", err)
	}
	p.address = free.Addr().String()
	_ = free.Close()
	if p.proxy, err = newProxy("producer", target); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "producer.log"))
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.running.Go(func() {
		defer log.Close()
		for life.Err() == nil {
			p.run(life, log, url(p.proxy.address()))
			select {
			case <-life.Done():
			case <-time.After(100 * time.Millisecond): // it ends at once while the database is away
			}
		}
	})
	return p, nil
}

func (p *producerProcess) run(ctx context.Context, log *os.File, url string) {
	cmd := exec.Command(p.program, "--listen", p.address, "--log-level", "warn")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
	cmd.Stdout, cmd.Stderr = log, log
	p.mu.Lock()
	if ctx.Err() != nil || cmd.Start() != nil {
		p.mu.Unlock()
		return
	}
	p.cmd = cmd
	p.mu.Unlock()
	_ = cmd.Wait() // however it ended, another one comes
}

func (p *producerProcess) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

func (p *producerProcess) close() {
	p.stop()
	p.signal(syscall.SIGKILL)
	p.running.Wait()
	p.proxy.close()
}
