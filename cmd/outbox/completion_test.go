package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-go/signalbox/internal/needs"
)

func TestComplete(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":                                      {"completion", "db", "deliveries", "demo", "doctor", "events", "features", "health", "keys", "migrate", "relay", "replay", "status", "subscriptions", "ui"},
		"ev":                                    {"events"},
		"events ":                               {"list", "show", "tail"},
		"subscriptions pau":                     {"pause"},
		"completion ":                           {"bash", "fish", "zsh"},
		"completion bash ":                      nil,
		"migrate --set ":                        {"both", "outbox", "signals"},
		"deliveries list -s mails --state ":     {"all", "blocked", "dead", "retrying", "running", "skipped"},
		"deliveries list --state d":             {"dead"},
		"deliveries list --state=d":             {"--state=dead"},
		"deliveries list --state = d":           {"dead"}, // as bash splits it
		"deliveries list --state =":             {"all", "blocked", "dead", "retrying", "running", "skipped"},
		"deliveries list --nope=d":              nil,
		"deliveries list -s mails --un":         {"--until"},
		"deliveries list --subscription=x --li": {"--limit"},
		"deliveries retry --yes --sub":          {"--subscription"},
		"subscriptions delete --force x --y":    {"--yes"},
		"events show 17 ":                       nil,
	} {
		args := append([]string{"complete", "--"}, strings.Split(line, " ")...)
		got, err := run(t, args...)
		if err != nil || !slices.Equal(strings.Fields(got), want) {
			t.Errorf("%q: %v, %v; want %v", line, strings.Fields(got), err, want)
		}
	}
}

// A shell does with the script what it is meant to do.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash := needs.Program(t, "apt-get install bash, or brew install bash", "bash")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
source <(outbox completion bash)
complete -p outbox
COMP_WORDS=(outbox deliveries list --state re) COMP_CWORD=4
_outbox
echo "${COMPREPLY[@]}"
COMP_WORDS=(outbox subscriptions "") COMP_CWORD=2
_outbox
echo "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(t.Context(), bash, "-c", script)
	cmd.Env = append(cmd.Environ(), "PATH="+filepath.Dir(path)+":"+"/usr/bin:/bin")
	out, err := cmd.CombinedOutput()
	if want := "complete -o default -F _outbox outbox\nretrying\ncreate delete list pause probe resume set-topics show\n"; err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for shell, part := range map[string]string{"bash": "complete -o default", "zsh": "compdef _outbox outbox", "fish": "complete -c outbox"} {
		if got := execute(t, "", "completion", shell); got.code != 0 || !strings.Contains(got.stdout, part) {
			t.Errorf("%s: %+v", shell, got)
		}
	}
	refuse(t, "", 2, "must be one of", "completion", "tcsh")
}
