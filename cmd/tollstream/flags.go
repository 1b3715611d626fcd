package main

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// has reports whether a command has a flag, wherever its value comes from.
func has(c *cli.Context, name string) bool {
	return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool {
		return slices.Contains(f.Names(), name)
	})
}

// withoutFlags returns the flags less those with the given names.
func withoutFlags(flags []cli.Flag, names ...string) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool {
		return slices.Contains(names, f.Names()[0])
	})
}

// logFlags returns the flags that [loggerFrom] reads, for commands that run for long.
func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "log-format", EnvVars: env("log-format"), Value: logText, Category: "Log",
			Usage: "`FORMAT`: text or json",
		},
		&cli.StringFlag{
			Name: "log-level", EnvVars: env("log-level"), Value: "info", Category: "Log",
			Usage: "`LEVEL`: debug, info, warn or error",
		},
	}
}

// loggerFrom returns the logger that the log flags describe.
func loggerFrom(c *cli.Context) (*slog.Logger, error) {
	return newLogger(c.App.ErrWriter, setting(c, "log-format", logText), setting(c, "log-level", "info"))
}

// env names the environment variable of a setting: env("batch-rows") is TOLLSTREAM_BATCH_ROWS.
func env(name string) []string {
	return []string{"TOLLSTREAM_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

// setting returns a text setting. An empty variable, as compose files make them, counts as not set.
func setting(c *cli.Context, name, fallback string) string {
	if v := strings.TrimSpace(c.String(name)); v != "" {
		return v
	}
	return fallback
}

// givenKey is where the names of the flags on the command line are kept, in the application's
// metadata.
const givenKey = "given"

// given reports whether a flag is on the command line itself and not only in the environment.
func given(c *cli.Context, name string) bool {
	names, _ := c.App.Metadata[givenKey].(map[string]bool)
	return names[name]
}
