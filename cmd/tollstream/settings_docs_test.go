package main

import (
	"cmp"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
)

// setting is a flag with a variable, and the commands that have it.
type setting struct {
	flag     cli.DocGenerationFlag
	commands []string
}

// settingsOf adds the settings of commands and of their subcommands to all. Where commands
// describe a setting differently, process counts, else the first.
func settingsOf(all map[string]*setting, parents string, commands []*cli.Command) {
	for _, c := range commands {
		for _, f := range c.Flags {
			d := f.(cli.DocGenerationFlag)
			if len(d.GetEnvVars()) == 0 {
				continue
			}
			name := d.Names()[0]
			if all[name] == nil {
				all[name] = &setting{flag: d}
			}
			if c.Name == "process" {
				all[name].flag = d
			}
			all[name].commands = append(all[name].commands, parents+c.Name)
		}
		settingsOf(all, parents+c.Name+" ", c.Subcommands)
	}
}

var settingRow = regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| `TOLLSTREAM_.*\n")

// TestSettingsPage compares the tables of docs/settings.md with the flags, and with -update writes
// them again. The order of the rows is the page's own; what comes new is put into it by hand.
func TestSettingsPage(t *testing.T) {
	app := root(nil, io.Discard, io.Discard)
	// Printing its help makes the flags what they are when a command runs.
	if err := command.Execute(t.Context(), app, []string{app.Name}, config.Fill); err != nil {
		t.Fatal(err)
	}
	all := map[string]*setting{}
	settingsOf(all, "", app.Commands)
	of := func(s *setting) string {
		switch {
		case len(s.commands) <= 4:
			return "`" + strings.Join(s.commands, "`, `") + "`"
		case slices.Equal(s.commands, all["brokers"].commands):
			return "those with Kafka"
		case slices.Equal(s.commands, all["mysql"].commands):
			return "those with a database"
		}
		return "most"
	}
	name := docs + "settings.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	want := settingRow.ReplaceAllStringFunc(string(text), func(row string) string {
		flag := settingRow.FindStringSubmatch(row)[1]
		s := all[flag]
		if s == nil {
			t.Errorf("%s has --%s, which no command knows", name, flag)
			return row
		}
		seen[flag] = true
		value := cmp.Or(command.Default(s.flag), strings.Trim(s.flag.GetDefaultText(), `"`))
		switch {
		case command.TypeOf(s.flag) == command.Boolean:
			value = "no"
		case strings.Contains(value, " "): // words
		case value != "":
			value = "`" + value + "`"
		}
		cells := []string{"", "`--" + flag + "`", "`" + s.flag.GetEnvVars()[0] + "`", value, of(s),
			s.flag.GetUsage(), ""}
		return strings.TrimSpace(strings.ReplaceAll(strings.Join(cells, " | "), "|  |", "| |")) + "\n"
	})
	for flag := range all {
		if !seen[flag] {
			t.Errorf("%s has no row of --%s: add one with these two cells, then -update", name, flag)
		}
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Errorf("%s differs from the flags: go test ./cmd/tollstream -run TestSettingsPage -update",
			name)
		return
	}
	if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
