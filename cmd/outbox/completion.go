package main

import (
	"context"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell: bash, zsh or fish."`
}

// Help is what "outbox completion --help" explains.
func (*completionCommand) Help() string {
	return `Prints a script that completes this program's commands, flags and their values. Have the shell read it when it starts:

	source <(outbox completion bash)                                    # in ~/.bashrc
	source <(outbox completion zsh)                                     # in ~/.zshrc, after compinit
	outbox completion fish > ~/.config/fish/completions/outbox.fish`
}

// What could come next, the program knows best: the scripts ask it.
var completionScripts = map[string]string{
	"bash": `_outbox() {
	local IFS=$'\n'
	COMPREPLY=($(outbox complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _outbox outbox
`,
	"zsh": `#compdef outbox
_outbox() {
	local -a candidates
	candidates=("${(@f)$(outbox complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	compadd -- $candidates
}
compdef _outbox outbox
`,
	"fish": `complete -c outbox -f -a '(outbox complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
}

func (p *completionCommand) Run(c *console) error { return c.write(completionScripts[p.Shell]) }

type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"The words after the program's name, the last one unfinished."`
}

func (p *completeCommand) Run(_ context.Context, c *console, parser *kong.Kong) error {
	words := p.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range candidates(parser.Model.Node, words) {
		if err := c.write(candidate + "\n"); err != nil {
			return err
		}
	}
	return nil
}

// candidates are what the last of the words, which may be empty, could become.
func candidates(node *kong.Node, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last, before := words[len(words)-1], words[:len(words)-1]
	var awaited *kong.Flag // the flag that the next word is the value of
	arguments := 0
	for _, word := range before {
		switch child := childOf(node, word); {
		case word == "=": // bash takes --state=dead for three words
		case awaited != nil:
			awaited = nil
		case strings.HasPrefix(word, "-") && !strings.Contains(word, "="):
			if awaited = flagOf(node, word); awaited != nil && awaited.IsBool() {
				awaited = nil
			}
		case strings.HasPrefix(word, "-"):
		case child != nil:
			node = child
		default:
			arguments++
		}
	}
	if last == "=" {
		last = ""
	}
	var all []string
	name, _, given := strings.Cut(last, "=")
	switch {
	case awaited != nil:
		all = values(awaited.Value)
	case strings.HasPrefix(last, "-") && given:
		if flag := flagOf(node, name); flag != nil {
			for _, value := range values(flag.Value) {
				all = append(all, name+"="+value)
			}
		}
	case strings.HasPrefix(last, "-"):
		for flag := range flagsOf(node) {
			if !flag.Hidden {
				all = append(all, "--"+flag.Name)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				all = append(all, child.Name)
			}
		}
		if arguments < len(node.Positional) {
			all = append(all, values(node.Positional[arguments])...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return !strings.HasPrefix(s, last) })
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// flagsOf goes through the flags that may be given behind a node.
func flagsOf(node *kong.Node) func(yield func(*kong.Flag) bool) {
	return func(yield func(*kong.Flag) bool) {
		for ; node != nil; node = node.Parent {
			for _, flag := range node.Flags {
				if !yield(flag) {
					return
				}
			}
		}
	}
}

func flagOf(node *kong.Node, word string) *kong.Flag {
	for flag := range flagsOf(node) {
		if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
			return flag
		}
	}
	return nil
}

// values are those that a flag or an argument may have, where they are known.
func values(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}
