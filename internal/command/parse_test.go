package command

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
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
	} {
		if got := suggestion(word, known, "--", "help"); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}
