package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signalbox-go/signalbox/bench/measure"
	"github.com/signalbox-go/signalbox/bench/stage"
	"github.com/signalbox-go/signalbox/bench/systems"
	"github.com/signalbox-go/signalbox/dashboard"
)

const (
	viewerCount = 3
	// viewerEvery is how often each of them opens a page.
	viewerEvery = time.Second
)

// viewed are the pages that viewers open, in turns.
var viewed = []string{"", "subscription?name=" + systems.DefaultSubscription, "events", "deadletters", "workers"}

// viewers are browsers in front of a dashboard that this process serves: each has the overview open, which comes anew whenever it
// changes, and opens another page each second.
type viewers struct {
	site   *site
	took   *measure.Latencies // of pages
	news   atomic.Int64       // how often an overview came
	cancel context.CancelFunc
	group  *errgroup.Group
}

// A site is an HTTP server on this machine.
type site struct {
	url    string
	server *http.Server
}

func serve(handler http.Handler) (*site, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return &site{"http://" + listener.Addr().String() + "/", server}, nil
}

func (s *site) close() { _ = s.server.Close() }

// view has viewers look at a database, and returns when each has seen the overview.
func view(ctx context.Context, d *stage.Database) (*viewers, error) {
	handler, err := dashboard.NewHandler(d.Pool, dashboard.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	s, err := serve(handler)
	if err != nil {
		return nil, err
	}
	v := &viewers{site: s, took: measure.NewLatencies()}
	ctx, v.cancel = context.WithCancel(ctx)
	v.group, ctx = errgroup.WithContext(ctx)
	for n := range viewerCount {
		v.group.Go(func() error { return unless(ctx, v.watch(ctx)) })
		v.group.Go(func() error { return unless(ctx, v.browse(ctx, n)) })
	}
	if err := stage.Await(ctx, time.Minute, "the dashboard is shown", func() bool { return v.news.Load() >= viewerCount }); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

// close has them leave, and returns what went wrong.
func (v *viewers) close() error {
	v.cancel()
	err := v.group.Wait()
	v.site.close()
	return err
}

// unless is an error that does not come from the end of ctx.
func unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watch keeps the overview open.
func (v *viewers) watch(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.site.url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("watch the overview: %s", response.Status)
	}
	for lines := bufio.NewReader(response.Body); ; {
		switch line, err := lines.ReadString('\n'); {
		case err != nil:
			return fmt.Errorf("watch the overview: %w", err)
		case strings.HasPrefix(line, "event: page"):
			v.news.Add(1)
		case strings.HasPrefix(line, "event: down"):
			why, _ := lines.ReadString('\n')
			return fmt.Errorf("watch the overview: %s", strings.TrimSpace(why))
		}
	}
}

// browse opens pages, beginning with the n-th.
func (v *viewers) browse(ctx context.Context, n int) error {
	looks := time.NewTicker(viewerEvery)
	defer looks.Stop()
	for ; ; n++ {
		start := time.Now()
		if _, err := fetch(ctx, v.site.url+viewed[n%len(viewed)]); err != nil {
			return err
		}
		v.took.Add(time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-looks.C:
		}
	}
}

// fetch reads a page, and returns how many bytes it has.
func fetch(ctx context.Context, url string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("open %s: %s", url, response.Status)
	}
	return n, err
}
