package config

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/text"
)

// Command is the command that is about the file itself, whose --config it reads by itself.
const Command = "config"

// Print writes settings as a configuration file, each with where its value comes from. Secrets are
// hidden. One that has no value is a comment.
func Print(w io.Writer, all []Setting) error {
	lines := make([]string, len(all)) // without the origin
	width := 0
	for i, s := range all {
		lines[i] = strings.Repeat("  ", s.depth())
		if len(s.Texts) == 0 {
			lines[i] += "# "
		}
		lines[i] += s.Name() + ":" + yamlValue(s)
		width = max(width, min(len(lines[i]), 48))
	}
	var b strings.Builder
	section := ""
	for i, s := range all {
		if s.Section != section {
			writeSection(&b, section, s.Section)
			section = s.Section
		}
		origin := s.Origin
		if len(s.Texts) == 0 {
			origin = "not set"
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, lines[i], origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// depth is how far a setting is indented.
func (s *Setting) depth() int {
	if s.Section == "" {
		return 0
	}
	return strings.Count(s.Section, " ") + 1
}

// writeSection begins the section of a command, within that of its parent.
func writeSection(b *strings.Builder, before, section string) {
	old, names := strings.Fields(before), strings.Fields(section)
	for i, name := range names {
		if i < len(old) && slices.Equal(old[:i+1], names[:i+1]) {
			continue
		}
		if i == 0 && b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", i), name)
	}
}

// yamlValue returns a value as it stands behind its key, with a space before it.
func yamlValue(s Setting) string {
	if len(s.Texts) == 0 {
		return ""
	}
	values := make([]string, len(s.Texts))
	for i, t := range s.Texts {
		if values[i] = Hide(t); command.TypeOf(s.Flag) == command.Text && !plain(values[i]) {
			values[i] = strconv.Quote(values[i])
		}
	}
	if _, list := s.Flag.(*cli.StringSliceFlag); list {
		return " [" + strings.Join(values, ", ") + "]"
	}
	return " " + values[0]
}

// plain reports whether YAML reads a text as it is, without quotes.
func plain(value string) bool {
	if value == "" || value == "true" || value == "false" || value == "null" || value == "~" {
		return false
	}
	if strings.ContainsAny(value[:1], "-?:,[]{}#&*!|>'\"%@`") {
		return false
	}
	return value == strings.TrimSpace(value) && !strings.Contains(value, ": ") &&
		!strings.Contains(value, " #") && !strings.HasSuffix(value, ":") &&
		!strings.ContainsAny(value, "\n\t\\") && !strings.ContainsAny(value, "[]{}")
}

// settingJSON is a setting as config print --json prints it.
type settingJSON struct {
	Command string   `json:"command"` // "" for all
	Name    string   `json:"name"`
	Values  []string `json:"values"`
	Origin  string   `json:"origin"`
}

// PrintJSON writes settings as JSON.
func PrintJSON(w io.Writer, all []Setting) error {
	list := []settingJSON{}
	for _, s := range all {
		values := []string{}
		for _, t := range s.Texts {
			values = append(values, Hide(t))
		}
		list = append(list, settingJSON{s.Section, s.Name(), values, s.Origin})
	}
	return text.WriteJSON(w, list)
}
