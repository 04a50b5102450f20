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

	"github.com/signalbox-go/signalbox/internal/proc"
	"github.com/signalbox-go/signalbox/internal/proxy"
)

// The producer is the real one, cmd/producer, as a process that can be killed. Whenever it ends, it is started again.
type producerProcess struct {
	program string
	address string
	proxy   *proxy.Proxy
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	process *proc.Process
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
	if p.proxy, err = proxy.New("producer", target); err != nil {
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
			p.run(life, log, url(p.proxy.Address()))
			select {
			case <-life.Done():
			case <-time.After(100 * time.Millisecond): // it ends at once while the database is away
			}
		}
	})
	return p, nil
}

func (p *producerProcess) run(ctx context.Context, log *os.File, url string) {
	p.mu.Lock()
	if ctx.Err() != nil { // close has been here before
		p.mu.Unlock()
		return
	}
	process, err := proc.Start(context.WithoutCancel(ctx), proc.Config{
		Program: p.program, Args: []string{"--listen", p.address, "--log-level", "warn"}, Env: []string{"DATABASE_URL=" + url}, Stdout: log, Stderr: log,
	})
	p.process = process
	p.mu.Unlock()
	if err == nil {
		<-process.Ended() // however it ended, another one comes
	}
}

func (p *producerProcess) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		p.process.Signal(s)
	}
}

func (p *producerProcess) close() {
	p.stop()
	p.signal(syscall.SIGKILL)
	p.running.Wait()
	p.proxy.Close()
}
