package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

func completionCommand() *cli.Command {
	scripts := command.Completions()
	shells := slices.Sorted(maps.Keys(scripts))
	c := &cli.Command{
		Name:  "completion",
		Usage: "prints the script by which a shell completes the command line",
		Description: `The shell then completes commands, flags, their values where these are few words,
			and files.`,
		UsageText: `source <(tollstream completion bash)
			tollstream completion zsh > "${fpath[1]}/_tollstream"
			tollstream completion fish > ~/.config/fish/completions/tollstream.fish`,
		Action: func(*cli.Context) error {
			return hint.Usagef("completion needs a shell: %s", strings.Join(shells, ", "))
		},
	}
	for _, shell := range shells {
		c.Subcommands = append(c.Subcommands, &cli.Command{
			Name: shell, Usage: "prints that of " + shell,
			UsageText: "tollstream completion " + shell,
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, scripts[shell])
				return err
			},
		})
	}
	return c
}

// completeCommand is what those scripts ask.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name:      "complete",
		Hidden:    true,
		Usage:     "completes the last of some words, for the scripts of completion",
		UsageText: "tollstream complete -- emit --fo",
		ArgsUsage: "-- WORD …",
		Action: func(c *cli.Context) error {
			return command.Complete(c.App.Writer, c.App, c.Args().Slice())
		},
	}
}

func manCommand() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "prints the manual page of tollstream, or of a command",
		ArgsUsage: "[COMMAND]",
		UsageText: `tollstream man | man -l -
			tollstream man process > tollstream-process.1`,
		Action: func(c *cli.Context) error {
			var path []*cli.Command
			for _, name := range c.Args().Slice() {
				sub := c.App.Command(name)
				if sub == nil || len(path) > 0 {
					return hint.With(hint.Usagef("there is no manual page of %q",
						strings.Join(c.Args().Slice(), " ")), "tollstream man COMMAND")
				}
				path = append(path, sub)
			}
			return command.Man(c.App.Writer, c.App, path)
		},
	}
}
