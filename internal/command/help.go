package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/text"
)

// helpWidth is where help text wraps.
const helpWidth = 100

// printHelp prints the help of a command, or of the whole where path is empty.
//
// Of a command it shows Usage (one line), Description (prose), UsageText (examples, one a line),
// the flags by category: those of the connection only by name unless all are asked for.
func printHelp(root *cli.App, path []*cli.Command, all bool) error {
	var b strings.Builder
	if len(path) == 0 {
		helpRoot(&b, root)
	} else {
		helpCommand(&b, path, all)
	}
	_, err := io.WriteString(root.Writer, b.String())
	return err
}

func helpRoot(b *strings.Builder, root *cli.App) {
	fmt.Fprintf(b, "%s %s.\n\n", root.Name, root.Usage)
	fmt.Fprintf(b, "Usage:\n  %s COMMAND [flags]\n\n", root.Name)
	b.WriteString("Commands:\n")
	helpCommands(b, root.Commands)
	b.WriteString(
		"\nFlags:\n  --help      help, also of a command: tollstream emit --help\n" +
			"  --help-all  the same, with the flags of the connection\n" +
			"  --version   version of tollstream and of Go\n")
	b.WriteString(
		"\nEvery setting has an environment variable: --batch-rows is TOLLSTREAM_BATCH_ROWS; and a " +
			"key in\nthe file that --config names. Flags override variables, which override the file.\n")
	b.WriteString("Exit status: 0 done, 1 failed, 2 wrong usage.\n")
}

func helpCommands(b *strings.Builder, commands []*cli.Command) {
	width := 0
	for _, c := range commands {
		width = max(width, len(c.Name))
	}
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(b, "  %-*s  %s\n", width, c.Name, c.Usage)
		}
	}
}

func helpCommand(b *strings.Builder, path []*cli.Command, all bool) {
	c := path[len(path)-1]
	name := nameOf(path)
	fmt.Fprintf(b, "%s: %s\n\n", name, c.Usage)
	usage := name
	if len(c.Subcommands) > 0 && c.ArgsUsage == "" {
		usage += " [COMMAND]"
	}
	if c.ArgsUsage != "" {
		usage += " " + c.ArgsUsage
	}
	fmt.Fprintf(b, "Usage:\n  %s [flags]\n", usage)
	for paragraph := range strings.SplitSeq(strings.TrimSpace(c.Description), "\n\n") {
		if paragraph != "" {
			b.WriteByte('\n')
			writeWrapped(b, paragraph, 0)
		}
	}
	if c.UsageText != "" {
		b.WriteString("\nExamples:\n")
		for line := range strings.SplitSeq(strings.TrimSpace(c.UsageText), "\n") {
			fmt.Fprintf(b, "  %s\n", strings.TrimSpace(line))
		}
	}
	if len(c.Subcommands) > 0 {
		b.WriteString("\nCommands:\n")
		helpCommands(b, c.Subcommands)
	}
	helpFlags(b, path, all)
}

func helpFlags(b *strings.Builder, path []*cli.Command, all bool) {
	categories, byCategory := flagsByCategory(path)
	hidden := byCategory[ConnectionCategory]
	if all {
		hidden = nil
	} else {
		delete(byCategory, ConnectionCategory)
	}
	width := 0
	for _, flags := range byCategory {
		for _, f := range flags {
			width = max(width, utf8.RuneCountInString(flagHead(f)))
		}
	}
	for _, category := range categories {
		if byCategory[category] == nil {
			continue
		}
		fmt.Fprintf(b, "\n%s:\n", category)
		for _, f := range byCategory[category] {
			fmt.Fprintf(b, "  %-*s  ", width, flagHead(f))
			writeWrapped(b, strings.ReplaceAll(f.GetUsage(), "`", ""), width+4)
			if notes := flagNotes(f); notes != "" {
				b.WriteString(strings.Repeat(" ", width+4))
				writeWrapped(b, notes, width+4)
			}
		}
	}
	if len(hidden) > 0 {
		var names []string
		for _, f := range hidden[:min(len(hidden), 4)] {
			names = append(names, "--"+f.Names()[0])
		}
		fmt.Fprintf(b, "\nConnection (%s …):\n  %s --help-all\n", strings.Join(names, ", "),
			nameOf(path))
	}
}

// flagsByCategory returns the flags of a command that the help shows, and the headings in order.
func flagsByCategory(path []*cli.Command) (categories []string,
	byCategory map[string][]cli.DocGenerationFlag) {
	byCategory = map[string][]cli.DocGenerationFlag{}
	for _, c := range slices.Backward(path) {
		for _, f := range c.Flags {
			d, ok := f.(cli.DocGenerationFlag)
			if v, visible := f.(cli.VisibleFlag); !ok || visible && !v.IsVisible() {
				continue
			}
			category := cmp.Or(Category(f), "Flags")
			if byCategory[category] == nil {
				categories = append(categories, category)
			}
			byCategory[category] = append(byCategory[category], d)
		}
	}
	return categories, byCategory
}

// nameOf returns the words that name a command: "tollstream emit".
func nameOf(path []*cli.Command) string {
	name := "tollstream"
	for _, c := range path {
		name += " " + c.Name
	}
	return name
}

// flagHead returns a flag as it is written: --count N.
func flagHead(f cli.DocGenerationFlag) string {
	var names []string
	for _, n := range f.Names() {
		dash := "--"
		if len(n) == 1 {
			dash = "-"
		}
		names = append(names, dash+n)
	}
	head := strings.Join(names, ", ")
	if !f.TakesValue() {
		return head
	}
	if p := placeholder(f); p != "" {
		return head + " " + p
	}
	switch f.(type) {
	case *cli.IntFlag, *cli.Int64Flag, *cli.UintFlag, *cli.Uint64Flag, *cli.Float64Flag:
		return head + " N"
	}
	return head + " " + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))
}

// flagNotes returns a flag's default and its variable.
func flagNotes(f cli.DocGenerationFlag) string {
	var notes []string
	if d := strings.Trim(f.GetDefaultText(), `"`); f.TakesValue() && d != "" && d != "0" && d != "0s" {
		notes = append(notes, "default "+d)
	}
	if vars := f.GetEnvVars(); len(vars) > 0 {
		notes = append(notes, "env "+strings.Join(vars, ", "))
	}
	if len(notes) == 0 {
		return ""
	}
	return "[" + strings.Join(notes, "; ") + "]"
}

// writeWrapped writes words in lines of at most helpWidth; all but the first are indented.
func writeWrapped(b *strings.Builder, words string, indent int) {
	b.WriteString(strings.Join(text.Wrap(words, helpWidth-indent), "\n"+strings.Repeat(" ", indent)) +
		"\n")
}
