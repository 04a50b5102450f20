package cli_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/cli"
)

func TestLoggerWritesJSONToPipes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := cli.Logging{LogLevel: "info", LogFormat: "auto"}.Logger(&out)
	logger.Debug("unseen")
	logger.Info("seen", "name", "a\nb")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one JSON object: %v\n%s", err, &out)
	}
	if line["msg"] != "seen" || line["name"] != "a\nb" {
		t.Errorf("got %v", line)
	}
}

func TestLoggerText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cli.Logging{LogLevel: "debug", LogFormat: "text"}.Logger(&out).Debug("seen", "n", 1)
	if got := out.String(); !strings.Contains(got, "seen n=1") || strings.Contains(got, "\x1b") {
		t.Errorf("got %q, want plain text without colour", got)
	}
}
