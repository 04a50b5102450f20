package cli_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/internal/cli"
)

// TestLimits gives flags for limits what they take, and what they do not: 0 and negative numbers mean nothing to the command line.
func TestLimits(t *testing.T) {
	t.Parallel()
	parse := func(args ...string) (time.Duration, int, error) {
		var flags struct {
			Timeout  cli.DurationLimit `default:"30s"`
			Attempts cli.CountLimit    `default:"20"`
		}
		_, err := cli.Parse("test", "", &flags, args, io.Discard)
		return time.Duration(flags.Timeout), int(flags.Attempts), err
	}
	for _, test := range []struct {
		args    []string
		timeout time.Duration
		count   int
	}{
		{nil, 30 * time.Second, 20},
		{[]string{"--timeout=1m30s", "--attempts=1"}, 90 * time.Second, 1},
		{[]string{"--timeout=unlimited", "--attempts", "unlimited"}, cli.Unlimited, cli.Unlimited},
	} {
		if timeout, count, err := parse(test.args...); err != nil || timeout != test.timeout || count != test.count {
			t.Errorf("%q: %v, %d, %v", test.args, timeout, count, err)
		}
	}
	for _, arg := range []string{"--timeout=0", "--timeout=0s", "--timeout=-1ns", "--timeout=soon", "--timeout=", "--attempts=0", "--attempts=-1", "--attempts=1.5"} {
		name, value, _ := strings.Cut(arg, "=")
		_, _, err := parse(arg)
		if u := new(cli.UsageError); !errors.As(err, &u) || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), `"`+value+`" must be`) || !strings.Contains(err.Error(), "or unlimited") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
