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
	parse := func(args ...string) (time.Duration, int, float64, error) {
		var flags struct {
			Timeout  cli.DurationLimit `default:"30s"`
			Attempts cli.CountLimit    `default:"20"`
			Rate     cli.RateLimit     `default:"unlimited"`
		}
		_, err := cli.Parse("test", "", &flags, args, io.Discard)
		return time.Duration(flags.Timeout), int(flags.Attempts), float64(flags.Rate), err
	}
	for _, test := range []struct {
		args    []string
		timeout time.Duration
		count   int
		rate    float64
	}{
		{nil, 30 * time.Second, 20, cli.Unlimited},
		{[]string{"--timeout=1m30s", "--attempts=1", "--rate=0.5"}, 90 * time.Second, 1, 0.5},
		{[]string{"--timeout=unlimited", "--attempts", "unlimited", "--rate", "unlimited"}, cli.Unlimited, cli.Unlimited, cli.Unlimited},
	} {
		if timeout, count, rate, err := parse(test.args...); err != nil || timeout != test.timeout || count != test.count || rate != test.rate {
			t.Errorf("%q: %v, %d, %v, %v", test.args, timeout, count, rate, err)
		}
	}
	for _, arg := range []string{"--timeout=0", "--timeout=0s", "--timeout=-1ns", "--timeout=soon", "--timeout=", "--attempts=0", "--attempts=-1", "--attempts=1.5", "--rate=0", "--rate=-1", "--rate=NaN"} {
		name, value, _ := strings.Cut(arg, "=")
		_, _, _, err := parse(arg)
		if u := new(cli.UsageError); !errors.As(err, &u) || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), `"`+value+`" must be`) || !strings.Contains(err.Error(), "or unlimited") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
