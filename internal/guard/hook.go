package guard

import "log/slog"

// CallHook calls a hook that nothing depends on. If it panics, or ends its goroutine, that is a line in the log and is counted.
func CallHook(log *slog.Logger, name string, hook func()) {
	if fault := Call(hook); fault != nil {
		Count(Hook)
		log.Error("hook failed", "hook", name, "error", fault)
	}
}
