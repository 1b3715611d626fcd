package command

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

// Man writes the manual page of a command, or of the whole where path is empty, as roff.
func Man(w io.Writer, root *cli.App, path []*cli.Command) error {
	var b strings.Builder
	name := strings.ReplaceAll(nameOf(path), " ", "-")
	fmt.Fprintf(&b, "%% %s 1 \"\" \"%s %s\" \"User Commands\"\n", strings.ToUpper(name), root.Name,
		root.Version)
	usage, commands := root.Usage, root.Commands
	if len(path) > 0 {
		c := path[len(path)-1]
		usage, commands = c.Usage, c.Subcommands
	}
	fmt.Fprintf(&b, "# NAME\n%s - %s\n", name, escape(usage))
	if len(path) == 0 {
		fmt.Fprintf(&b, "# SYNOPSIS\n**%s** *COMMAND* [flags]\n", root.Name)
	} else {
		manCommand(&b, path)
	}
	if len(commands) > 0 {
		b.WriteString("# COMMANDS\n")
		for _, c := range commands {
			if !c.Hidden {
				fmt.Fprintf(&b, "**%s**\n: %s\n\n", c.Name, escape(c.Usage))
			}
		}
	}
	if len(path) > 0 {
		manFlags(&b, path)
	} else {
		b.WriteString("# SETTINGS\nEvery setting is a flag, an environment variable and a key of the " +
			"file that **--config** or **TOLLSTREAM\\_CONFIG** names: **--batch-rows**, " +
			"**TOLLSTREAM\\_BATCH\\_ROWS**, **batch-rows**. Flags override variables, which override the " +
			"file. **tollstream config print** shows all of them.\n")
	}
	b.WriteString("# EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n# SEE ALSO\n")
	if len(path) > 0 {
		fmt.Fprintf(&b, "**%s**(1)\n", root.Name)
	} else {
		var pages []string
		for _, c := range commands {
			if !c.Hidden {
				pages = append(pages, fmt.Sprintf("**%s-%s**(1)", root.Name, c.Name))
			}
		}
		b.WriteString(strings.Join(pages, ", ") + "\n")
	}
	_, err := w.Write(md2man.Render([]byte(b.String())))
	return err
}

func manCommand(b *strings.Builder, path []*cli.Command) {
	c := path[len(path)-1]
	fmt.Fprintf(b, "# SYNOPSIS\n**%s** [flags]", nameOf(path))
	if c.ArgsUsage != "" {
		b.WriteString(" " + escape(c.ArgsUsage))
	}
	b.WriteString("\n")
	if c.Description != "" {
		b.WriteString("# DESCRIPTION\n")
		for paragraph := range strings.SplitSeq(strings.TrimSpace(c.Description), "\n\n") {
			b.WriteString(escape(strings.Join(strings.Fields(paragraph), " ")) + "\n\n")
		}
	}
	if c.UsageText != "" {
		b.WriteString("# EXAMPLES\n```\n")
		for line := range strings.SplitSeq(strings.TrimSpace(c.UsageText), "\n") {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
		b.WriteString("```\n")
	}
}

// manFlags writes the flags of a command, and those of its subcommands below their names.
func manFlags(b *strings.Builder, path []*cli.Command) {
	categories, flags := flagsByCategory(path)
	for _, category := range categories {
		fmt.Fprintf(b, "# %s\n", strings.ToUpper(category))
		manFlagList(b, flags[category])
	}
	for _, c := range path[len(path)-1].Subcommands {
		if len(c.Flags) > 0 {
			fmt.Fprintf(b, "# FLAGS OF %s\n", strings.ToUpper(c.Name))
			_, own := flagsByCategory([]*cli.Command{c})
			manFlagList(b, slices.Concat(slices.Collect(maps.Values(own))...))
		}
	}
}

func manFlagList(b *strings.Builder, flags []cli.DocGenerationFlag) {
	for _, f := range flags {
		head, value, _ := strings.Cut(flagHead(f), " ")
		fmt.Fprintf(b, "**%s**", head)
		if value != "" {
			fmt.Fprintf(b, " *%s*", escape(value))
		}
		text := strings.ReplaceAll(f.GetUsage(), "`", "")
		if notes := flagNotes(f); notes != "" {
			text += " " + notes
		}
		fmt.Fprintf(b, "\n: %s\n\n", escape(text))
	}
}

// escape keeps Markdown from reading a text as anything but text.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune("\\`*_{}[]<>#|~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
