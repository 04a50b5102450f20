package cli

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

// Logging is the part of a command's flags about its log. Embed it.
type Logging struct {
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"Log this and what is worse: debug, info, warn or error."`
	LogFormat string `default:"auto" enum:"auto,text,json" help:"Log as text, as json, or auto: text on a terminal, else json."`
}

// Logger returns a logger that writes to w, which is standard error outside of tests. Text is coloured on a terminal,
// unless NO_COLOR is set.
func (l Logging) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.LogLevel)); err != nil {
		level = slog.LevelInfo // the zero Logging; a flag is one of the enum
	}
	terminal := IsTerminal(w)
	if l.LogFormat == "json" || l.LogFormat != "text" && !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level:      level,
		TimeFormat: "15:04:05.000",
		NoColor:    !terminal || os.Getenv("NO_COLOR") != "",
	}))
}

// IsTerminal reports whether w, or what is read from, is a terminal, with a person behind it.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}
