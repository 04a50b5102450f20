package guard

import (
	"context"
	"io"
	"log/slog"
	"os"
)

// Logger returns a logger that writes to the Handler of l and survives it. A line about which the Handler panics goes to
// standard error instead, with the reason as logger_fault: what happened must not be hidden by a log that is out of order.
func Logger(l *slog.Logger) *slog.Logger { return logger(l, os.Stderr) }

func logger(l *slog.Logger, spare io.Writer) *slog.Logger {
	if _, guarded := l.Handler().(*handler); guarded {
		return l
	}
	return slog.New(&handler{l.Handler(), slog.NewTextHandler(spare, nil)})
}

// A handler calls that of the application. Both of its own get what WithAttrs and WithGroup say.
type handler struct{ given, spare slog.Handler }

// Enabled takes what is at least an Info for enabled if the Handler does not say: so its Handle, or the spare, gets it.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	enabled := level >= slog.LevelInfo
	_ = Call(func() { enabled = h.given.Enabled(ctx, level) })
	return enabled
}

func (h *handler) Handle(ctx context.Context, record slog.Record) (err error) {
	whole := record.Clone()
	if fault := Call(func() { err = h.given.Handle(ctx, record) }); fault != nil {
		whole.AddAttrs(slog.String("logger_fault", fault.Error()))
		_ = Call(func() { err = h.spare.Handle(ctx, whole) })
	}
	return err
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}

// with leaves a handler as it is that does not return another.
func (h *handler) with(derive func(slog.Handler) slog.Handler) slog.Handler {
	derived := *h
	_ = Call(func() { derived.given = derive(h.given) })
	_ = Call(func() { derived.spare = derive(h.spare) })
	return &derived
}
