package main

import (
	"cmp"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/internal/deadletters"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// TestHelpNamesEverySetting holds all commands to the rules of the command line.
func TestHelpNamesEverySetting(t *testing.T) {
	t.Parallel()
	for _, c := range root(nil, nil, nil).Commands {
		if c.Usage == "" || c.UsageText == "" {
			t.Errorf("%s: lacks a description or an example", c.Name)
		}
		for _, f := range c.Flags {
			d, ok := f.(cli.DocGenerationFlag)
			if !ok {
				t.Errorf("%s --%s: can't be documented", c.Name, f.Names()[0])
				continue
			}
			if d.GetUsage() == "" {
				t.Errorf("%s --%s: no description", c.Name, f.Names()[0])
			}
			if vars := d.GetEnvVars(); len(vars) > 0 && vars[0] != command.Env(f.Names()[0])[0] {
				t.Errorf("%s --%s: variable %s", c.Name, f.Names()[0], vars[0])
			}
		}
	}
}

// TestEveryDurationAcceptsDays finds flags that [command.acceptDays] does not reach.
func TestEveryDurationAcceptsDays(t *testing.T) {
	var look func(commands []*cli.Command)
	look = func(commands []*cli.Command) {
		for _, c := range commands {
			for _, f := range c.Flags {
				if d, ok := f.(*cli.DurationFlag); ok {
					t.Errorf("%s --%s does not accept days", c.Name, d.Name)
				}
			}
			look(c.Subcommands)
		}
	}
	all := root(nil, nil, nil)
	if _, err := command.Parse(all, nil); err != nil {
		t.Fatal(err)
	}
	look(all.Commands)
}

func TestRetentionSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--keep-batches 5m", "--keep-batches is 5m, want at least 10m, or 0 to keep all"},
		{"--keep-minutes 1d", "--keep-minutes is 1d, want at least 4d, or 0 to keep all"},
		{"--keep-windows 30d", "--keep-windows is 30d, want at least 60d, or 0 to keep all"},
		{"--keep-dead-letters 1d", "--keep-dead-letters is 1d, want at least 30d, or 0 to keep all"},
		{"--keep-windows soon", `--keep-windows: "soon" is not a time such as 90d, 48h or 0`},
	} {
		var out, stderr strings.Builder
		code := run(t.Context(), append([]string{"tollstream", "process"}, strings.Fields(c.args)...),
			strings.NewReader(""), &out, &stderr)
		if code != 2 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: %d, %s", c.args, code, stderr.String())
		}
	}
	if maintenance.DefaultRetention().Minutes != toll.MinKeptMinutes ||
		retention.KeepWindows(&pipeline.DefaultWindows().Kinds[0],
			maintenance.DefaultRetention().Windows) != 40*24*time.Hour {
		t.Error("the help differs")
	}
}

// FuzzSettings: no text of a setting crashes its parser, and what is refused is refused in one line
// that a terminal can show.
func FuzzSettings(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{
		"kafka:9092,[::1]:1", "0-32767,4856", "toll:toll@tcp(127.0.0.1:3306)/tolldata?tls=true",
		"u:p@ss/w@unix(/s)/d", "Europe/Berlin", "90d", "48h",
		"4007,+26d8h,1h,blockage", "60x", "2022-02-10 10:23:02", "car=1,truck=2.5", "3:1234",
		"\x1b[2J\x00\u202e", "1e999", "../../etc/passwd",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, line string) {
		refused := func(err error) {
			if err == nil {
				return
			}
			var out strings.Builder
			command.Report(&out, err)
			shown := strings.TrimSuffix(out.String(), "\n")
			if strings.Count(shown, "\n") > 1 ||
				strings.ContainsFunc(strings.ReplaceAll(shown, "\n", ""), func(r rune) bool {
					return !text.Printable(r)
				}) || !utf8.ValidString(shown) {
				t.Fatalf("%q is refused with %q", line, shown)
			}
		}
		_, err := endpoint.ParseBrokers(line)
		refused(err)
		plazas, err := emit.ParsePlazas(line)
		refused(err)
		if len(plazas) > 1<<16*(1+strings.Count(line, ",")) {
			t.Fatalf("%q: %d plazas", line, len(plazas))
		}
		refused(endpoint.CheckName("topic", line))
		_, err = endpoint.ParseLocation(line)
		refused(err)
		_, err = emit.ParseTime(line, time.UTC)
		refused(err)
		_, err = emit.ParseIncident(line, time.Unix(0, 0))
		refused(err)
		_, err = emit.ParseSpeed(line)
		refused(err)
		_, err = command.ParseAge(line)
		refused(err)
		_, err = deadletters.ParseOrigin("x", line)
		refused(err)
		_, err = traffic.ParseEquivalents(line)
		refused(err)
		if !utf8.ValidString(text.Escape(line)) ||
			strings.ContainsFunc(text.Escape(line), func(r rune) bool {
				return !text.Printable(r)
			}) {
			t.Fatalf("%q is shown as %q", line, text.Escape(line))
		}
	})
}

// FuzzCommandLine: no command line crashes the reader of it.
func FuzzCommandLine(f *testing.F) {
	corpus.Add(f)
	f.Add("emit\x00--count\x005")
	f.Add("view\x00--plaza=4001\x00--\x00x")
	f.Add("dead-letters\x00show\x000:1\x00--jsn")
	f.Add("\x00-\x00--=\x00--help")
	f.Fuzz(func(t *testing.T, words string) {
		line, err := command.Parse(root(nil, nil, nil), strings.Split(words, "\x00"))
		if err != nil {
			if !hint.IsUsage(err) {
				t.Fatalf("%q: %v is no error of usage", words, err)
			}
			return
		}
		if !line.Help && !line.Version && len(line.Path) == 0 {
			t.Fatalf("%q names no command and is accepted", words)
		}
	})
}

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
