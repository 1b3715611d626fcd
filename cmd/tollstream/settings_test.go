package main

import (
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
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
