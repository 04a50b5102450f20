package worker

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
)

// A txGuard watches the statements of a connection while a handler has it. It refuses those that would end the transaction before they
// are sent: a plain "commit" would record the effects of other events of the window, and not that they are handled. And it notes
// when settings, temporary tables, cursors or prepared statements may be left, so that only then they are looked at one by one.
type txGuard struct {
	lent    atomic.Bool
	refused atomic.Bool
	touched atomic.Bool
}

// watchWith has a guard watch a connection, beside the tracer that the application may have.
func watchWith(g *txGuard) func(*connection) {
	return func(c *connection) {
		if c.Tracer == nil {
			c.Tracer = g
		} else {
			c.Tracer = multitracer.New(c.Tracer, g)
		}
	}
}

// look returns a context that has ended if the statement must not be sent.
func (g *txGuard) look(ctx context.Context, sql string) context.Context {
	if !g.lent.Load() {
		return ctx
	}
	for statement := range statements(sql) {
		switch effectOf(statement) {
		case ends:
			g.refused.Store(true)
			ended, cancel := context.WithCancelCause(ctx)
			cancel(errEnded)
			return ended
		case sets:
			g.touched.Store(true)
		}
	}
	return ctx
}

// TraceQueryStart looks at a statement before it is sent.
func (g *txGuard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return g.look(ctx, data.SQL)
}

// TraceQueryEnd has nothing to do.
func (g *txGuard) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart looks at the statements of a batch before it is sent.
func (g *txGuard) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, query := range data.Batch.QueuedQueries {
		ctx = g.look(ctx, query.SQL)
	}
	return ctx
}

// TraceBatchQuery has nothing to do.
func (g *txGuard) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd has nothing to do.
func (g *txGuard) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// TracePrepareStart looks at a statement before it is prepared: what runs it later has only its name.
func (g *txGuard) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	return g.look(ctx, data.SQL)
}

// TracePrepareEnd has nothing to do.
func (g *txGuard) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// An effect is what a statement does to the transaction or the session that it runs in.
type effect int

const (
	harmless effect = iota
	sets
	ends
)

// effectOf tells by a statement's first words what it does.
func effectOf(statement string) effect {
	words := strings.Fields(strings.ToLower(statement))
	if len(words) == 0 {
		return harmless
	}
	has := func(i int, word string) bool { return i < len(words) && words[i] == word }
	switch words[0] {
	case "commit", "end", "abort":
		return ends
	case "rollback":
		if has(1, "to") || (has(1, "work") || has(1, "transaction")) && has(2, "to") {
			return harmless
		}
		return ends
	case "prepare":
		if has(1, "transaction") {
			return ends
		}
		return sets
	case "set", "reset", "discard", "load", "do", "call", "declare":
		return sets
	}
	if text := strings.ToLower(statement); strings.Contains(text, "set_config") || strings.Contains(text, "temp") {
		return sets
	}
	return harmless
}

// statements yields the statements of a text, without its comments. What is in quotes ends none.
func statements(sql string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var current strings.Builder
		for i := 0; i < len(sql); {
			length, comment := token(sql[i:])
			switch {
			case comment:
				current.WriteByte(' ')
			case sql[i] == ';':
				if !yield(current.String()) {
					return
				}
				current.Reset()
			default:
				current.WriteString(sql[i : i+length])
			}
			i += length
		}
		yield(current.String())
	}
}

// token returns the length of what a text begins with: a comment, something in quotes, or a single byte.
func token(sql string) (length int, comment bool) {
	until := func(begin int, end string) int {
		if i := strings.Index(sql[begin:], end); i >= 0 {
			return begin + i + len(end)
		}
		return len(sql)
	}
	switch {
	case strings.HasPrefix(sql, "--"):
		return until(2, "\n"), true
	case strings.HasPrefix(sql, "/*"):
		depth, i := 1, 2
		for ; i < len(sql) && depth > 0; i++ {
			switch {
			case strings.HasPrefix(sql[i:], "/*"):
				depth++
				i++
			case strings.HasPrefix(sql[i:], "*/"):
				depth--
				i++
			}
		}
		return min(i, len(sql)), true
	case sql[0] == '\'' || sql[0] == '"':
		return until(1, sql[:1]), false
	case sql[0] == '$':
		if i := strings.IndexByte(sql[1:], '$'); i >= 0 && !strings.ContainsAny(sql[1:1+i], " \t\n;,()'\"") && (i == 0 || sql[1] < '0' || sql[1] > '9') {
			return until(i+2, sql[:i+2]), false
		}
	}
	return 1, false
}
