package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

// app returns a program of two commands, which print the settings that they see.
func app(out, errOut *bytes.Buffer) *cli.App {
	show := func(c *cli.Context) error {
		for _, name := range []string{"brokers", "latency", "rows", "standby", "hosts", plazasFlag} {
			switch {
			case !c.IsSet(name):
			case name == "hosts":
				fmt.Fprintf(out, "hosts=%s ", strings.Join(c.StringSlice(name), "+"))
			case name == "latency":
				fmt.Fprintf(out, "latency=%v ", c.Duration(name))
			default:
				fmt.Fprintf(out, "%s=%v ", name, c.Value(name))
			}
		}
		if c.Int("rows") > 100 {
			return hint.Usagef("--rows: %d is too many", c.Int("rows"))
		}
		return nil
	}
	shared := func() []cli.Flag {
		return append([]cli.Flag{&cli.StringFlag{Name: "brokers", EnvVars: command.Env("brokers"),
			Category: command.ConnectionCategory, Usage: "`HOST:PORT,…`"}}, command.LogFlags()...)
	}
	return &cli.App{Name: "tollstream", Writer: out, ErrWriter: errOut,
		Commands: AddFlag([]*cli.Command{
			{Name: "process", Action: show, Flags: append(shared(),
				&cli.DurationFlag{Name: "latency", EnvVars: command.Env("latency")},
				&cli.IntFlag{Name: "rows", EnvVars: command.Env("rows"), Value: 7},
				&cli.BoolFlag{Name: "standby", EnvVars: command.Env("standby")},
				&cli.BoolFlag{Name: "until-end"},
				&cli.StringFlag{Name: plazasFlag, EnvVars: command.Env(plazasFlag)},
				&cli.StringSliceFlag{Name: "hosts", EnvVars: command.Env("hosts")})},
			{Name: "letters", Flags: shared(), Subcommands: []*cli.Command{{Name: "retry", Action: show,
				Flags: []cli.Flag{&cli.IntFlag{Name: "rows", EnvVars: command.Env("rows")}}}}},
			{Name: "demo", Action: show},
		})}
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "toll.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrecedence(t *testing.T) {
	file := write(t, `
brokers: [a:1, b:2]
process:
  latency: 1d
  rows: 8
  hosts: [x, y]
  standby: true
letters:
  brokers: c:3
  retry: {rows: 9}
`)
	for _, c := range []struct{ line, env, want string }{
		{"process", "", "brokers=a:1,b:2 latency=24h0m0s rows=8 standby=true hosts=x+y "},
		{"process --rows 3 --standby=false", "4",
			"brokers=a:1,b:2 latency=24h0m0s rows=3 standby=false hosts=x+y "},
		{"process", "4", "brokers=a:1,b:2 latency=24h0m0s rows=4 standby=true hosts=x+y "},
		{"letters retry", "", "brokers=c:3 rows=9 "},
		{"letters --brokers d:4 retry", "", "brokers=d:4 rows=9 "},
		{"process --rows 101", "", "brokers=a:1,b:2 latency=24h0m0s rows=101 standby=true hosts=x+y " +
			"--rows: 101 is too many"},
	} {
		t.Setenv("TOLLSTREAM_ROWS", c.env)
		t.Setenv("TOLLSTREAM_CONFIG", file)
		var out, errOut bytes.Buffer
		err := command.Execute(t.Context(), app(&out, &errOut),
			append([]string{"tollstream"}, strings.Fields(c.line)...), Fill)
		if err != nil {
			out.WriteString(err.Error())
		}
		if out.String() != c.want || errOut.Len() > 0 {
			t.Errorf("%s\n got %s%s\nwant %s", c.line, &out, &errOut, c.want)
		}
	}
}

// TestExplains names the place in the file of a value that only the command refuses.
func TestExplains(t *testing.T) {
	file := write(t, "process:\n  rows: 102\n")
	var out bytes.Buffer
	err := command.Execute(t.Context(), app(&out, &out),
		[]string{"tollstream", "process", "--config", file}, Fill)
	if err == nil || err.Error() != file+":2:9: --rows: 102 is too many" || !hint.IsUsage(err) {
		t.Error(err)
	}
}

// problems are files, and behind each an exclamation mark before each problem.
const problems = `# nothing

process:

broker: a:1
! 1:1: unknown setting "broker"; did you mean brokers?

proces: {}
! 1:1: unknown setting "proces"; did you mean process?

x: 1
! 1:1: unknown setting "x"; tollstream config print lists all

rows: 1
! 1:1: rows is a setting of a command: it belongs into a section, such as process

process: {row: 1}
! 1:11: unknown setting of process "row"; did you mean rows?

process: {until-end: true}
! 1:11: until-end is for one call, as a flag: tollstream process --until-end

process: {rows: a}
! 1:17: rows: "a" is text, want a whole number

process: {rows: "1"}
! 1:17: rows: "1" is text, want a whole number

process: {rows: 1.5}
! 1:17: rows: "1.5" is not a whole number

process: {rows: true}
! 1:17: rows: "true" is not a whole number

process: {rows: [1]}
! 1:17: rows: want one value

process: {rows: }
! 1:17: rows: the value is empty

process: {standby: yes}
! 1:20: standby: "yes" is not true or false

process: {standby: "true"}
! 1:20: standby: "true" is not true or false

process: {latency: 3}
! 1:20: latency: "3" is not a duration such as 500ms, 5m or 1d12h

process: {rows: 1, rows: 1}
! 1:20: rows is there twice

process: 3
! 1:10: process: want the settings of the command process, indented below it

letters: {rows: 3}
! 1:11: unknown setting of letters "rows"; tollstream config print lists all

letters: {retry: {brokers: a}}
! 1:19: unknown setting of letters retry "brokers"; letters retry does not use it

demo: {}
! 1:1: unknown setting "demo"; tollstream config print lists all

log-level: loud
! 1:12: log-level: "loud" is not one of debug, info, warn, error

config: x
! 1:1: unknown setting "config"; tollstream config print lists all

brokers: &a x
log-level: *a
! 2:12: log-level: aliases are not read

[a]: 1
! 1:1: want the name of a setting

- a
! 1:1: want settings, such as topic: toll

a
! 1:1: want settings, such as topic: toll

a: 1
---
b: 1
! 2:1: a second document; there is one

x: 1
a: b: c
! 2: mapping values are not allowed in this context

plazas: 3
! 1:9: plazas: want a list of plazas, such as - {id: 4856, lanes: 6}

plazas: [3]
! 1:10: plazas: want a list of plazas, such as - {id: 4856, lanes: 6}

plazas: [{id: 1, id: 2}]
! 1:22: plazas: id: want one value

plazas:
- {id: 1}
- {id: 1}
! plazas: line 3: plaza 1 is on line 2 already

plazas:
- {id: 1, lanes: six}
! plazas: line 2: lanes "six" is not a whole number

plazas:
- {lanes: 6}
! plazas: line 2: column id is missing

x: 1
process:
  rows: a
  y: 1
! 1:1: unknown setting "x"; tollstream config print lists all
! 3:9: rows: "a" is text, want a whole number
! 4:3: unknown setting of process "y"; tollstream config print lists all
`

func TestProblems(t *testing.T) {
	for block := range strings.SplitSeq(problems, "\n\n") {
		text, want, _ := strings.Cut(strings.TrimSpace(block)+"\n", "\n! ")
		want = strings.ReplaceAll(strings.TrimSpace(want), "\n! ", "\n")
		file := write(t, text)
		var got []string
		if _, err := Read(prepared(t), file); err != nil {
			if !hint.IsUsage(err) {
				t.Errorf("%s: %v is no error of usage", text, err)
			}
			for _, p := range Problems(err) {
				got = append(got, strings.TrimLeft(strings.TrimPrefix(p.Error(), file), ": "))
			}
		}
		if g := strings.Join(got, "\n"); g != want {
			t.Errorf("%s\n got %s\nwant %s", text, g, want)
		}
	}
}

// prepared returns the program as a command line is read by it.
func prepared(t *testing.T) *cli.App {
	t.Helper()
	a := app(new(bytes.Buffer), new(bytes.Buffer))
	if _, err := command.Parse(a, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHide(t *testing.T) {
	for text, want := range map[string]string{
		"toll:se:cr@et@tcp(h:3306)/x":    "toll:•••@tcp(h:3306)/x",
		"toll@tcp(h:3306)/x":             "toll@tcp(h:3306)/x",
		"kafka1:9092,kafka2:9092":        "kafka1:9092,kafka2:9092",
		"https://hooks.example.org/a/b":  "https://hooks.example.org/•••",
		"https://u:p@registry:8081":      "https://registry:8081/•••",
		"http://127.0.0.1:4318":          "http://127.0.0.1:4318",
		"http://127.0.0.1:4318?token=ab": "http://127.0.0.1:4318/•••",
		"http://[a/b?secret":             "•••",
		"":                               "",
	} {
		if got := Hide(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestReload reports what changed in a file, but for what flags and variables set.
func TestReload(t *testing.T) {
	file := write(t, "log-level: info\nprocess:\n  rows: 8\n  latency: 1s\n")
	a := app(new(bytes.Buffer), new(bytes.Buffer))
	reload := func(c *cli.Context, text string) string {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		changes, err := Reload(c)
		if err != nil {
			return err.Error()
		}
		var all []string
		for _, ch := range changes {
			all = append(all, ch.Name+"="+ch.Value+" "+strings.TrimPrefix(ch.At, file))
		}
		return strings.Join(all, "; ")
	}
	a.Command("process").Action = func(c *cli.Context) error {
		for _, step := range []struct{ text, want string }{
			{"log-level: info\nprocess: {rows: 8, latency: 1s}", ""},
			{"log-level: debug\nprocess: {rows: 9, latency: 2s}", "log-level=debug :1:12; rows=9 :2:17"},
			{"log-level: loud", file + `:1:12: log-level: "loud" is not one of debug, info, warn, error`},
			{"log-level: debug", "rows= "},
			{"log-level: debug", ""},
		} {
			if got := reload(c, step.text); got != step.want {
				t.Errorf("%s\n got %s\nwant %s", step.text, got, step.want)
			}
		}
		return nil
	}
	if err := command.Execute(t.Context(), a,
		[]string{"tollstream", "process", "--latency", "3s", "--config", file}, Fill); err != nil {
		t.Error(err)
	}
}

// TestPrintedIsRead holds what is printed to be a file that sets the same.
func TestPrintedIsRead(t *testing.T) {
	file := write(t, "brokers: 'a:1'\nprocess:\n  rows: 8\n  hosts: ['x: y', '#z']\n")
	f, err := Read(prepared(t), file)
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := Print(&first, f.Settings()); err != nil {
		t.Fatal(err)
	}
	again, err := Read(prepared(t), write(t, first.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, &first)
	}
	if err := Print(&second, again.Settings()); err != nil {
		t.Fatal(err)
	}
	values := func(s string) (all []string) {
		for line := range strings.Lines(s) {
			value, _, _ := strings.Cut(line, "  # ")
			all = append(all, strings.TrimSpace(value))
		}
		return all
	}
	if a, b := strings.Join(values(first.String()), "\n"),
		strings.Join(values(second.String()), "\n"); a != b {
		t.Errorf("printed\n%s\nread and printed\n%s", a, b)
	}
	for _, want := range []string{"brokers: a:1", file + ":1:10", "hosts: [\"x: y\", \"#z\"]",
		"  rows: 8", "# default", "# plazas-file:"} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &first)
		}
	}
}
