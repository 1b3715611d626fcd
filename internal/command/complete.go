package command

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// What a shell completes by itself.
const (
	completeFiles   = ":files"
	completeFolders = ":folders"
)

// Complete writes what the last of some words of a command line may be, one a line: the word, a
// tab, what it is about. A line :files or :folders lets the shell look for those.
func Complete(w io.Writer, root *cli.App, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	l, current := &Line{given: map[string]bool{}}, words[len(words)-1]
	var open cli.DocGenerationFlag // that awaits its value
	for _, word := range words[:len(words)-1] {
		switch name, dashed := strings.CutPrefix(word, "--"); {
		case word == "=" && open != nil: // bash splits there
		case open != nil:
			open = nil
		case dashed && !strings.Contains(name, "="):
			if f, _ := l.find(name); f != nil && f.TakesValue() {
				open = f
			}
		case !dashed && word != "help":
			if l.addWord(root, word) != nil {
				return nil // there is nothing to complete behind what is wrong
			}
		}
	}
	out := bufio.NewWriter(w)
	offer := func(word, about string) {
		if strings.HasPrefix(word, current) {
			fmt.Fprintf(out, "%s\t%s\n", word, about)
		}
	}
	name, _, assigned := strings.Cut(strings.TrimPrefix(current, "--"), "=")
	switch {
	case current == "=" && open != nil:
		current = ""
		offerValues(out, offer, open, "")
	case open != nil:
		offerValues(out, offer, open, "")
	case strings.HasPrefix(current, "-") && assigned:
		if f, _ := l.find(name); f != nil {
			offerValues(out, offer, f, "--"+name+"=")
		}
	case strings.HasPrefix(current, "-"):
		offerFlags(offer, root, l.Path)
	default:
		offerWords(out, offer, root, l)
	}
	return out.Flush()
}

func offerValues(w io.Writer, offer func(word, about string), f cli.DocGenerationFlag,
	prefix string) {
	switch p := placeholder(f); {
	case Choices(f) != nil:
		for _, word := range Choices(f) {
			offer(prefix+word, "")
		}
	case TypeOf(f) == Boolean:
		offer(prefix+"true", "")
		offer(prefix+"false", "")
	case p == "FILE":
		fmt.Fprintln(w, completeFiles)
	case p == "FOLDER":
		fmt.Fprintln(w, completeFolders)
	}
}

func offerFlags(offer func(word, about string), root *cli.App, path []*cli.Command) {
	categories, flags := flagsByCategory(path)
	for _, category := range categories {
		for _, f := range flags[category] {
			offer("--"+f.Names()[0], about(f))
		}
	}
	offer("--help", "help")
	if len(flags[ConnectionCategory]) > 0 || len(path) == 0 {
		offer("--help-all", "help, with the flags of the connection")
	}
	if len(path) == 0 {
		offer("--version", "version of "+root.Name)
	}
}

// about returns the first words of a flag's usage.
func about(f cli.DocGenerationFlag) string {
	usage := strings.ReplaceAll(f.GetUsage(), "`", "")
	if i := strings.IndexAny(usage, ";:,("); i > 0 {
		usage = usage[:i]
	}
	return strings.TrimSpace(usage)
}

func offerWords(w io.Writer, offer func(word, about string), root *cli.App, l *Line) {
	commands, c := root.Commands, l.command()
	if c != nil {
		commands = c.Subcommands
	}
	if len(l.arguments) == 0 {
		for _, sub := range commands {
			if !sub.Hidden {
				offer(sub.Name, sub.Usage)
			}
		}
	}
	if c == nil {
		return
	}
	switch {
	case strings.Contains(c.ArgsUsage, "FILE"):
		fmt.Fprintln(w, completeFiles)
	case strings.Contains(c.ArgsUsage, "COMMAND"):
		for _, other := range root.Commands {
			if !other.Hidden && !slices.Contains(l.arguments, other.Name) {
				offer(other.Name, other.Usage)
			}
		}
	}
}

//go:embed complete.bash
var bashCompletion string

//go:embed complete.zsh
var zshCompletion string

//go:embed complete.fish
var fishCompletion string

// Completions are the scripts that teach shells to complete the command line, by shell. They ask
// the hidden command complete.
func Completions() map[string]string {
	return map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
}
