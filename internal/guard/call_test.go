package guard

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// A rude value panics, or ends its goroutine, when it is asked what it says.
type rude struct{ exits bool }

func (r rude) Error() string {
	if r.exits {
		runtime.Goexit()
	}
	panic(r)
}

func TestCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		f    func()
		want string
	}{
		"returns":                         {func() {}, ""},
		"panics":                          {func() { panic("boom") }, "panic: boom"},
		"panics with an error":            {func() { panic(errors.New("boom")) }, "panic: boom"},
		"panics with nil":                 {func() { panic(nil) }, "panic: panic called with nil argument"},
		"panics with what panics":         {func() { panic(rude{}) }, "panic: guard.rude"},
		"panics with what ends":           {func() { panic(rude{exits: true}) }, "panic: guard.rude"},
		"dereferences nil":                {func() { _ = *(*int)(nil) }, "panic: runtime error: invalid memory address"},
		"ends its goroutine":              {runtime.Goexit, "it called runtime.Goexit"},
		"ends it while it panics":         {func() { defer runtime.Goexit(); panic("boom") }, "it called runtime.Goexit"},
		"panics while it ends":            {func() { defer panic("boom"); runtime.Goexit() }, "panic: boom"},
		"panics after another, recovered": {func() { defer func() { _ = recover(); panic("second") }(); panic("first") }, "panic: second"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Call(test.f)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want nil", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			if p := new(PanicError); errors.As(err, &p) && !strings.Contains(string(p.Stack), "TestCall") {
				t.Errorf("the stack lacks what panicked:\n%s", p.Stack)
			}
		})
	}
}

func BenchmarkCall(b *testing.B) {
	for b.Loop() {
		_ = Call(func() {})
	}
}
