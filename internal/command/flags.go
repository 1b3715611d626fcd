package command

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Has reports whether a command has a flag, wherever its value comes from.
func Has(c *cli.Context, name string) bool {
	return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool {
		return slices.Contains(f.Names(), name)
	})
}

// WithoutFlags returns the flags less those with the given names.
func WithoutFlags(flags []cli.Flag, names ...string) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool {
		return slices.Contains(names, f.Names()[0])
	})
}

// LogFlags returns the flags that [LoggerFrom] reads, for commands that run for long.
func LogFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "log-format", EnvVars: Env("log-format"), Value: LogText, Category: "Log",
			Usage: "`FORMAT`: text or json",
		},
		&cli.StringFlag{
			Name: "log-level", EnvVars: Env("log-level"), Value: "info", Category: "Log",
			Usage: "`LEVEL`: debug, info, warn or error",
		},
	}
}

// LoggerFrom returns the logger that the log flags describe.
func LoggerFrom(c *cli.Context) (*slog.Logger, error) {
	return NewLogger(c.App.ErrWriter, Setting(c, "log-format", LogText),
		Setting(c, "log-level", "info"))
}

// Env names the environment variable of a setting: env("batch-rows") is TOLLSTREAM_BATCH_ROWS.
func Env(name string) []string {
	return []string{"TOLLSTREAM_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

// Setting returns a text setting. An empty variable, as compose files make them, counts as not set.
func Setting(c *cli.Context, name, fallback string) string {
	if v := strings.TrimSpace(c.String(name)); v != "" {
		return v
	}
	return fallback
}

// givenKey is where the names of the flags on the command line are kept, in the application's
// metadata.
const givenKey = "given"

// Given reports whether a flag is on the command line itself and not only in the environment.
func Given(c *cli.Context, name string) bool {
	names, _ := c.App.Metadata[givenKey].(map[string]bool)
	return names[name]
}
