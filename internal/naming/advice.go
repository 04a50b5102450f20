package naming

import "regexp"

// command is a command line of the program outbox, in a sentence.
var command = regexp.MustCompile(`\boutbox (?:migrate|replay|(?:subscriptions|deliveries) [a-z]+)\b`)

// Advice is what a text for people says where it is about the outbox: tables by their names, and commands with their flag.
func (n Name) Advice(text string) string {
	if n == "" {
		return text
	}
	return command.ReplaceAllString(n.Render(text), "${0} --outbox "+string(n))
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
