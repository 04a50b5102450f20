package naming

import (
	"regexp"
	"strings"
)

// command is the beginning of a command line of the program outbox, in a sentence, which may say already what it is about.
var command = regexp.MustCompile(`\boutbox (?:migrate|replay|status|(?:events|subscriptions|deliveries|keys) [a-z]+)\b(?: --outbox)?`)

// Advice is what a text for people says where it is about the outbox: tables by their names, and commands with their flag.
func (n Name) Advice(text string) string {
	if n == "" {
		return text
	}
	return command.ReplaceAllStringFunc(n.Render(text), func(found string) string {
		if strings.HasSuffix(found, " --outbox") {
			return found
		}
		return found + " --outbox " + string(n)
	})
}

// Advised is an error with Advice for its text. It is what err is.
func (n Name) Advised(err error) error {
	if n == "" || err == nil {
		return err
	}
	return &advised{n, err}
}

type advised struct {
	name Name
	err  error
}

func (a *advised) Error() string { return a.name.Advice(a.err.Error()) }
func (a *advised) Unwrap() error { return a.err }
