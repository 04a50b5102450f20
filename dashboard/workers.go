package dashboard

import (
	"context"
	"net/http"

	"github.com/signalbox-go/signalbox/outbox/admin"
)

// workersPage is who works.
type workersPage struct {
	Doorbell admin.Doorbell
	Workers  []workerLine
}

// A workerLine is a worker with its lanes.
type workerLine struct {
	admin.WorkerStatus
	Serves []served
}

// served is a subscription with how many of its lanes a worker owns. Workers of the same name share the number.
type served struct {
	Subscription string
	Lanes        int
}

func (h *Handler) workers(ctx context.Context, _ *http.Request) (*view, error) {
	status, err := h.status.get(ctx, h.db, h.every)
	if err != nil {
		return nil, err
	}
	lanes := map[string]map[int64]int{}
	for _, s := range status.Subscriptions {
		lanes[s.Name] = s.Lanes
	}
	p := &workersPage{Doorbell: status.Doorbell}
	for _, w := range status.Workers {
		line := workerLine{WorkerStatus: w}
		for _, name := range w.Subscriptions {
			line.Serves = append(line.Serves, served{name, lanes[name][w.ID]})
		}
		p.Workers = append(p.Workers, line)
	}
	return &view{Title: "Workers", Nav: "workers", Template: "workers", Data: p, Live: true}, nil
}
