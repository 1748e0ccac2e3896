package manual

import (
	_ "embed" // the scripts
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
)

var (
	//go:embed completion.bash
	bash string
	//go:embed completion.zsh
	zsh string
	//go:embed completion.fish
	fish string
)

// Completion is streamer completion: it prints the script of a shell. The
// script asks [Complete] at each press of the tab key.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help is shown by streamer completion --help.
func (Completion) Help() string {
	return `Prints a script with which the shell completes commands, flags, their values and the
configuration keys of --set. The packages install it.

Examples:
  source <(streamer completion bash)                # in ~/.bashrc
  source <(streamer completion zsh)                 # in ~/.zshrc, after compinit
  streamer completion fish > ~/.config/fish/completions/streamer.fish`
}

// Run is the command.
func (command Completion) Run(std console.Streams) error {
	_, err := fmt.Fprint(std.Out, map[string]string{"bash": bash, "zsh": zsh, "fish": fish}[command.Shell])
	return err
}

// Complete is streamer complete, which the scripts call. It prints what can
// stand at the cursor, one candidate in each line: word, tab, meaning. Without
// candidates the shell completes file names.
type Complete struct {
	Words []string `arg:"" optional:"" help:"The words after streamer, up to the cursor. The last one is being written."`
}

// Help is shown by streamer complete --help.
func (Complete) Help() string {
	return `Prints what can stand at the cursor. The scripts of streamer completion call it.

Example:
  streamer complete -- tail --fr`
}

// Run is the command.
func (command Complete) Run(line *kong.Context, std console.Streams) error {
	for _, c := range candidates(line.Model.Node, command.Words) {
		fmt.Fprintf(std.Out, "%s\t%s\n", c.word, c.help)
	}
	return nil
}

// candidate is a word that can stand at the cursor.
type candidate struct{ word, help string }

// candidates returns what the last word can become.
func candidates(node *kong.Node, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	var pending *kong.Flag // its value comes next
	for _, word := range words[:len(words)-1] {
		switch {
		case word == "=": // bash splits --flag=value into three words
		case pending != nil:
			pending = nil
		case strings.HasPrefix(word, "-"):
			if name, _, valued := strings.Cut(word, "="); !valued {
				pending = valueFlag(node, name)
			}
		default:
			node = child(node, word)
		}
	}
	return matching(possible(node, pending, words[len(words)-1]), words[len(words)-1])
}

// possible returns everything of the kind that the word is: values, flags,
// commands or arguments.
func possible(node *kong.Node, pending *kong.Flag, word string) []candidate {
	if pending != nil {
		return values(pending.Value)
	}
	if name, _, valued := strings.Cut(word, "="); valued && strings.HasPrefix(name, "--") {
		var all []candidate
		if f := valueFlag(node, name); f != nil {
			for _, v := range values(f.Value) {
				all = append(all, candidate{name + "=" + v.word, v.help})
			}
		}
		return all
	}
	if strings.HasPrefix(word, "-") {
		return flags(node)
	}
	var all []candidate
	for _, c := range node.Children {
		if !c.Hidden {
			all = append(all, candidate{c.Name, c.Help})
		}
	}
	for _, argument := range node.Positional {
		all = append(all, values(argument)...)
	}
	return all
}

func matching(all []candidate, prefix string) (some []candidate) {
	for _, c := range all {
		if strings.HasPrefix(c.word, prefix) {
			some = append(some, c)
		}
	}
	return some
}

// child returns the command with this name, or the node itself: the word is
// then an argument.
func child(node *kong.Node, name string) *kong.Node {
	for _, c := range node.Children {
		if c.Name == name {
			return c
		}
	}
	return node
}

// flags are those of the command and of the commands above it.
func flags(node *kong.Node) (all []candidate) {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			all = append(all, candidate{"--" + f.Name, f.Help})
		}
	}
	return all
}

// valueFlag returns the flag, if it takes a value.
func valueFlag(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if (name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short)) && !f.IsBool() && !f.IsCounter() {
				return f
			}
		}
	}
	return nil
}

// values are those that a flag or an argument takes, where there is a list.
func values(v *kong.Value) (all []candidate) {
	if v.Flag != nil && v.Flag.Name == "set" {
		for _, k := range config.Keys() {
			all = append(all, candidate{k.Path + "=", k.Doc})
		}
		return all
	}
	if v.Enum == "" {
		return nil
	}
	for _, word := range v.EnumSlice() {
		if word != "" {
			all = append(all, candidate{word, ""})
		}
	}
	return all
}
