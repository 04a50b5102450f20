package admin_test

import (
	"testing"
	"time"

	"github.com/signalbox-go/signalbox/outbox"
	"github.com/signalbox-go/signalbox/outbox/admin"
)

// A time without a zone is in UTC, also on a machine in another zone.
func TestParseTime(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-01-31T12:00:00Z": noon, "2026-01-31 12:00": noon, "2026-01-31T12:00": noon, "2026-01-31 12:00:00": noon,
		"2026-01-31T13:00:00+01:00": noon, "2026-01-31 13:00+01:00": noon, "2026-01-31 13:00:00 +01:00": noon, " 2026-01-31T12:00Z ": noon,
		"2026-01-31": noon.Add(-12 * time.Hour), "2026-01-31 12:00:00.25": noon.Add(250 * time.Millisecond),
	} {
		if got, err := admin.ParseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"now": 0, "0s": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2h ago": 2 * time.Hour, "7d": 7 * 24 * time.Hour, "1.5d ago": 36 * time.Hour,
	} {
		got, err := admin.ParseTime(text)
		if off := time.Since(got) - want; err != nil || off < 0 || off > time.Minute {
			t.Errorf("%q is %v (%v), want %v ago", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1h", "-1d", "NaNd", "1e9d", "d", "ago", "12:00", "31.1.2026", "2026-02-30", "17", "yesterday", "beginning", "0001-01-01", "12"} {
		if got, err := admin.ParseTime(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestParsePosition(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]outbox.Position{
		"beginning": outbox.FromBeginning, "now": outbox.FromNow, " 17 ": outbox.FromID(17),
		"2026-01-31 12:00": outbox.FromTime(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)),
	} {
		got, err := admin.ParsePosition(text)
		if err != nil || got != want {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
		if again, err := admin.ParsePosition(admin.FormatPosition(got)); err != nil || again != want {
			t.Errorf("%q is written %q, which is %+v (%v)", text, admin.FormatPosition(got), again, err)
		}
	}
	for _, text := range []string{"", "0", "-3", "end", "9223372036854775808"} {
		if got, err := admin.ParsePosition(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
}

// What is written means the same later, to the microsecond.
func TestFormatTime(t *testing.T) {
	t.Parallel()
	at, err := admin.ParseTime("2h")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := admin.ParseTime(admin.FormatTime(at)); err != nil || !again.Equal(at.Truncate(time.Microsecond)) {
		t.Errorf("%v is written %q, which is %v (%v)", at, admin.FormatTime(at), again, err)
	}
	if got := admin.FormatTime(time.Time{}); got != "" {
		t.Errorf("no time is %q", got)
	}
}
