package command

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
)

func lineApp() *cli.App {
	action := func(*cli.Context) error { return nil }
	root := &cli.App{Name: "tollstream", Commands: []*cli.Command{
		{Name: "plain", Action: action,
			Flags: []cli.Flag{&cli.IntFlag{Name: "n"}, &cli.BoolFlag{Name: "json"},
				&cli.DurationFlag{Name: "for"}}},
		{Name: "words", Action: action, ArgsUsage: "[NAME]",
			Flags: []cli.Flag{&cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "must", Required: true}}},
		{Name: "parent", Action: action, Flags: []cli.Flag{&cli.StringFlag{Name: "topic"}},
			Subcommands: []*cli.Command{
				{Name: "list", Action: action, Flags: []cli.Flag{&cli.IntFlag{Name: "n"}}},
				{Name: "retry", Action: action, ArgsUsage: "ID"},
			}},
	}}
	return root
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]string{
		"plain":                            "plain",
		"plain --n 3 --json":               "plain --n=3 --json=true",
		"plain -n -3":                      "plain --n=-3",
		"plain --json=false --for=2s":      "plain --json=false --for=2s",
		"plain --for 1d2h":                 "plain --for=1d2h",
		"words a --json --must x":          "words --json=true --must=x -- a",
		"words --must x -- --json":         "words --must=x -- --json",
		"words --must x -":                 "words --must=x -- -",
		"words --must -x":                  "words --must=-x",
		"parent":                           "parent",
		"parent list --topic t --n 2":      "parent --topic=t list --n=2",
		"parent --topic t retry 7":         "parent --topic=t retry -- 7",
		"parent --help":                    "help",
		"help parent list":                 "help",
		"plain --n x --help":               `error --n: "x" is not a whole number`,
		"plain --n 9999999999999999999999": `error --n: "9999999999999999999999" is not a whole number`,
		"plain --for 3":                    `error --for: "3" is not a duration`,
		"plain x":                          `error unexpected argument "x"`,
		"plain --n":                        "error --n needs a value",
		"plain --n --json":                 "error --n needs a value",
		"words":                            "error --must is missing",
		"words --must=":                    "error --must: the value is empty",
		"parent lits":                      `error unknown parent command "lits"`,
		"parent list x":                    `error unexpected argument "x"`,
		"parent list --json":               "error unknown flag --json",
		"--json plain":                     "error unknown flag --json",
		"-- plain":                         `error unknown command "plain"`,
	} {
		l, err := Parse(lineApp(), strings.Fields(line))
		var got string
		switch {
		case err != nil:
			got = "error " + err.Error()
		case l.Help:
			got = "help"
		default:
			got = strings.Join(l.args()[1:], " ")
		}
		if !strings.HasPrefix(got, want) || err == nil && got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestSuggestion(t *testing.T) {
	known := []string{"emit", "view", "init", "accept-log"}
	for word, want := range map[string]string{
		"emti": "did you mean --emit?", "veiw": "did you mean --view?", "inti": "did you mean --init?",
		"aceptlog": "did you mean --accept-log?", "ab": "help", "": "help", "process": "help",
		"accept": "did you mean --accept-log?",
	} {
		if got := Suggestion(word, known, "--", "help"); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}

func TestEnv(t *testing.T) {
	if got := Env("batch-rows"); len(got) != 1 || got[0] != "TOLLSTREAM_BATCH_ROWS" {
		t.Error(got)
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90d": 90 * day, "48h": 48 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute,
		"400d": 400 * day, "10m": 10 * time.Minute,
	} {
		got, err := ParseAge(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := ParseAge(FormatAge(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %v, %v", text, FormatAge(got), again, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5h", "1.5d", "90", "9999999d", "99999999h",
		"a week"} {
		if got, err := ParseAge(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestDurationsWithDays reads a duration from the command line, from its variable, and the default.
func TestDurationsWithDays(t *testing.T) {
	const fallback = 90 * time.Minute
	read := func(args ...string) (d time.Duration, set bool) {
		t.Helper()
		c := &cli.Command{Name: "wait", Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for-long", EnvVars: Env("for-long"), Value: fallback},
		}, Action: func(c *cli.Context) error {
			d, set = c.Duration("for-long"), c.IsSet("for-long")
			return nil
		}}
		root := &cli.App{Name: "tollstream", Commands: []*cli.Command{c}}
		line, err := Parse(root, append([]string{"wait"}, args...))
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Run(line.args()); err != nil {
			t.Fatal(err)
		}
		return d, set
	}
	check := func(want time.Duration, wantSet bool, args ...string) {
		t.Helper()
		if got, set := read(args...); got != want || set != wantSet {
			t.Errorf("%v: got %v, set %v; want %v, %v", args, got, set, want, wantSet)
		}
	}
	check(fallback, false)
	check(26*24*time.Hour+8*time.Hour, true, "--for-long", "26d8h")
	check(0, true, "--for-long=0")
	t.Setenv("TOLLSTREAM_FOR_LONG", "2d")
	check(48*time.Hour, true)
	check(time.Second, true, "--for-long", "1s")
}

func TestLoopbackAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:9092": "127.0.0.1:9092", ":0": "127.0.0.1:0", "localhost:1": "127.0.0.1:1",
		"[::1]:7":   "[::1]:7",
		"0.0.0.0:1": "", "10.0.0.1:1": "", "example.org:1": "", "9092": "", "127.0.0.1:": "",
		"127.0.0.1:x": "", "127.0.0.1:70000": "", "": "",
	} {
		got, err := LoopbackAddr("kafka-listen", addr, "use 127.0.0.1")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", addr, got, err, want)
		}
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{ErrReported, 1, ""},
		{Exit(3), 3, ""},
		{errors.New("a\nb\x1b"), 1, "tollstream: a; b\\x1b\n"},
		{hint.Usagef("--x: %q", "y"), 2, "tollstream: --x: \"y\"\n"},
		{hint.With(hint.Usagef("a"), "b"), 2, "tollstream: a\nhint: b\n"},
		{context.Canceled, 1, "tollstream: interrupted\n"},
	} {
		var out strings.Builder
		if code := Report(&out, c.err); code != c.code || out.String() != c.want {
			t.Errorf("%v: %d %q, want %d %q", c.err, code, out.String(), c.code, c.want)
		}
	}
}

func TestLogger(t *testing.T) {
	var b strings.Builder
	log, err := NewLogger(&b, LogText, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unseen")
	log.With("partition", 3).WithGroup("g").Warn("two\nlines", "why", "a b", slog.Group("h", "x", 1),
		"e", "")
	if got := b.String()[len(
		"10:23:02 "):]; got != "warn  two; lines partition=3 g.why=\"a b\" g.h.x=1 g.e=\"\"\n" {
		t.Errorf("%q", got)
	}
	b.Reset()
	if log, err = NewLogger(&b, LogJSON, slog.LevelError); err != nil {
		t.Fatal(err)
	}
	log.Warn("unseen")
	log.Error("seen")
	if got := b.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"seen"`) ||
		strings.Contains(got, "unseen") {
		t.Errorf("%q", got)
	}
	if _, err := NewLogger(&b, "xml", slog.LevelInfo); err == nil {
		t.Error("xml is taken")
	}
}

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := NewSteps(&out, "connecting")
		time.Sleep(firstReport - time.Second)
		s.Begin("reading")
		time.Sleep(moreReports + 2*time.Second)
		s.End()
		time.Sleep(time.Hour)
		if want := "tollstream: reading (10s so far)\ntollstream: reading (40s so far)\n"; out.String() !=
			want {
			t.Errorf("printed %q, want %q", &out, want)
		}
	})
}
