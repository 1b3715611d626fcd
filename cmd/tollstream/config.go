package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  config.Command,
		Usage: "checks the configuration file, and shows the settings with their origins",
		Description: `All settings of all commands may stand in one YAML file, which --config or
			TOLLSTREAM_CONFIG names. Its keys are the names of flags: connections and log at the top,
			all else in the section of its command. A flag overrides a variable, which overrides the
			file.`,
		UsageText: `tollstream config check tollstream.yaml
			tollstream config print --config tollstream.yaml process
			tollstream config schema > tollstream.schema.json`,
		Flags:  []cli.Flag{config.Flag()},
		Action: printConfig, // without a subcommand
		Subcommands: []*cli.Command{
			{
				Name:      "check",
				Usage:     "checks a file: names, types, and the values of commands that run for long",
				ArgsUsage: "[FILE]",
				UsageText: "tollstream config check tollstream.yaml",
				Action:    checkConfig,
			},
			{
				Name:  "print",
				Usage: "prints all settings, or those of some commands, with their origins",
				Description: `What is printed is a configuration file itself: of each setting the value that
					counts, and behind it whether that is the default, or the variable or the line of the file
					that sets it. Secrets are hidden.`,
				ArgsUsage: "[COMMAND …]",
				UsageText: "tollstream config print\ntollstream config print process view",
				Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print them as JSON"}},
				Action:    printConfig,
			},
			{
				Name:      "schema",
				Usage:     "prints the JSON Schema of the file, for editors",
				UsageText: "tollstream config schema > tollstream.schema.json",
				Action: func(c *cli.Context) error {
					return text.WriteJSON(c.App.Writer, config.Schema(c.App))
				},
			},
		},
	}
}

func checkConfig(c *cli.Context) error {
	if c.NArg() > 1 {
		return hint.Usagef("unexpected argument %q", c.Args().Get(1))
	}
	name := cmp.Or(c.Args().First(), command.Setting(c, "config", ""))
	if name == "" {
		return hint.With(hint.Usagef("no file is named"), "tollstream config check FILE")
	}
	f, err := config.Read(c.App, name)
	if err != nil {
		problems := config.Problems(err)
		if len(problems) == 1 {
			return err
		}
		for _, p := range problems {
			fmt.Fprintln(c.App.ErrWriter, p)
		}
		return hint.Usagef("%s has %d problems", name, len(problems))
	}
	return checked(c, f)
}

// checks read the settings of the commands that run for long, and start nothing.
func checks() map[string]cli.ActionFunc {
	return map[string]cli.ActionFunc{
		"process": func(c *cli.Context) error {
			_, errMetrics := metricsConfigFrom(c)
			_, _, err := processConfig(c)
			return cmp.Or(err, errMetrics)
		},
		"view": func(c *cli.Context) error {
			_, _, errListen := listenConfigFrom(c)
			_, err := endpoint.From(c)
			return cmp.Or(err, errListen)
		},
		"emit": func(c *cli.Context) error { _, err := emitConfig(c); return err },
		"up":   func(c *cli.Context) error { _, err := sandboxFrom(c); return err },
	}
}

// checked reports what a file sets, once the commands that it is for have read it.
func checked(c *cli.Context, f *config.File) error {
	n, top := 0, false
	sections := map[string]bool{}
	for _, s := range f.Settings() {
		if s.From(f) {
			n++
			sections[s.Section] = true
			top = top || s.Section == ""
		}
	}
	all, errOut := checks(), c.App.ErrWriter
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !sections[name] && !(name == "process" && top) {
			continue
		}
		app := root(c.App.Reader, io.Discard, errOut)
		errOut = io.Discard // warnings come once
		app.Command(name).Action = all[name]
		line := []string{app.Name, name, "--config", f.Name}
		if err := command.Execute(c.Context, app, line, config.Fill); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s is right: %s\n", f.Name, text.Count(int64(n), "setting"))
	return err
}

func printConfig(c *cli.Context) error {
	f, err := config.Open(c.App, command.Setting(c, "config", ""))
	if err != nil {
		return errors.Join(config.Problems(err)...)
	}
	all := f.Settings()
	if c.NArg() > 0 {
		for _, name := range c.Args().Slice() {
			if c.App.Command(name) == nil {
				return hint.Usagef("there is no command %q", name)
			}
		}
		all = config.OfCommands(all, c.Args().Slice())
	}
	if c.Bool("json") {
		return config.PrintJSON(c.App.Writer, all)
	}
	return config.Print(c.App.Writer, all)
}
