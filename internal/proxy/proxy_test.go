package proxy_test

import (
	"bufio"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/proxy"
)

// echo is a server that answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = conn.Write(append(lines.Bytes(), '\n'))
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	p, err := proxy.New("test", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp4", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	// say sends a line, and returns what comes back in time.
	say := func(conn net.Conn, line string, within time.Duration) (string, error) {
		_, _ = conn.Write([]byte(line + "\n"))
		_ = conn.SetReadDeadline(time.Now().Add(within))
		answer, err := bufio.NewReader(conn).ReadString('\n')
		return answer, err
	}
	conn := dial()
	if got, err := say(conn, "hello", time.Minute); got != "hello\n" {
		t.Fatalf("got %q, %v", got, err)
	}

	p.Slow(100 * time.Millisecond)
	begun := time.Now()
	if got, _ := say(conn, "slowly", time.Minute); got != "slowly\n" || time.Since(begun) < 200*time.Millisecond {
		t.Errorf("got %q after %v, want it delayed in both directions", got, time.Since(begun))
	}
	p.Slow(-100 * time.Millisecond)

	// Half-open: no answer, and no error either; what was held up comes when it is over.
	p.Block(1)
	if got, err := say(conn, "held", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
	fresh := dial() // is accepted, and gets nowhere
	if got, err := say(fresh, "new", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
	p.Block(-1)
	for c, want := range map[net.Conn]string{conn: "held\n", fresh: "new\n"} {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if got, err := bufio.NewReader(c).ReadString('\n'); got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}

	// One connection alone passes nothing, the second that there is.
	loud := conn
	end := p.Silence(1)
	if got, err := say(fresh, "held", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
	if got, err := say(loud, "passed", time.Minute); got != "passed\n" {
		t.Errorf("got %q, %v", got, err)
	}
	end()
	_ = fresh.SetReadDeadline(time.Now().Add(time.Minute))
	if got, err := bufio.NewReader(fresh).ReadString('\n'); got != "held\n" {
		t.Errorf("got %q, %v", got, err)
	}

	p.Cut()
	if got, err := say(conn, "cut", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want the connection's end", got, err)
	}
	p.Refuse(1)
	if got, err := say(dial(), "refused", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want the connection's end", got, err)
	}
	p.Refuse(-1)
	if got, err := say(dial(), "again", time.Minute); got != "again\n" {
		t.Errorf("got %q, %v", got, err)
	}

	// The server hears everything, and is not heard; then the connection ends.
	deaf := dial()
	if got, err := say(deaf, "hello", time.Minute); got != "hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
	p.Deafen(1)
	if got, err := say(deaf, "lost", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
	p.Deafen(-1)
	if got, err := say(deaf, "late", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want the connection's end", got, err)
	}
	if got, err := say(dial(), "again", time.Minute); got != "again\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
