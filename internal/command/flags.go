package command

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
)

// Categories of flags that are headings in the help. What is in one of these is the same for all
// commands.
const (
	ConnectionCategory = "Connection"
	LogCategory        = "Log"
)

// Shared reports whether a flag is the same for all commands, so that a configuration file sets it
// once.
func Shared(f cli.DocGenerationFlag) bool {
	category := Category(f)
	return category == ConnectionCategory || category == LogCategory
}

// Category returns the heading of a flag in the help, "" for none.
func Category(f cli.Flag) string {
	if k, ok := f.(cli.CategorizableFlag); ok {
		return k.GetCategory()
	}
	return ""
}

// Type is what a flag holds, in words.
type Type string

const (
	Boolean  Type = "true or false"
	Whole    Type = "a whole number"
	Number   Type = "a number"
	Duration Type = "a duration such as 500ms, 5m or 1d12h"
	Text     Type = "text"
)

// TypeOf returns what a flag, or each element of its list, holds.
func TypeOf(f cli.Flag) Type {
	switch f := f.(type) {
	case *cli.BoolFlag:
		return Boolean
	case *cli.IntFlag, *cli.Int64Flag, *cli.UintFlag, *cli.Uint64Flag:
		return Whole
	case *cli.Float64Flag:
		return Number
	case *cli.GenericFlag:
		if isDuration(f) {
			return Duration
		}
	}
	return Text
}

// IsList reports whether a flag holds several values, with commas between them. Its placeholder
// then ends in an ellipsis, unless the flag may be repeated.
func IsList(f cli.DocGenerationFlag) bool {
	_, repeated := f.(*cli.StringSliceFlag)
	return repeated || strings.HasSuffix(placeholder(f), "…")
}

// placeholder returns what stands for the value of a flag in the help, "" for nothing special.
func placeholder(f cli.DocGenerationFlag) string {
	_, after, _ := strings.Cut(f.GetUsage(), "`")
	before, _, _ := strings.Cut(after, "`")
	return before
}

// Default returns the value of a flag that is not set, as it would be given; "" for none.
func Default(f cli.DocGenerationFlag) string {
	switch f := f.(type) {
	case *cli.BoolFlag:
		return fmt.Sprint(f.Value)
	case *cli.StringSliceFlag:
		return ""
	case *cli.GenericFlag:
		if d, ok := f.Value.(*durationValue); ok {
			return formatDuration(time.Duration(*d))
		}
	}
	return f.GetValue()
}

// choice is the value of a flag that takes one of a few words, in upper or lower case.
type choice struct {
	value string
	of    []string
}

func (c *choice) Set(text string) error { c.value = text; return nil }

func (c *choice) String() string {
	if c == nil {
		return ""
	}
	return c.value
}

// ChoiceFlag returns a flag with a variable that takes one of a few words.
func ChoiceFlag(name, category, value, usage string, of ...string) *cli.GenericFlag {
	return &cli.GenericFlag{Name: name, EnvVars: Env(name), Category: category,
		Value: &choice{value, of}, Usage: usage}
}

// Choices returns the words that a flag takes, nil for any.
func Choices(f cli.Flag) []string {
	if g, ok := f.(*cli.GenericFlag); ok {
		if c, ok := g.Value.(*choice); ok {
			return c.of
		}
	}
	return nil
}

// Has reports whether a command has a flag, wherever its value comes from.
func Has(c *cli.Context, name string) bool {
	return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool {
		return slices.Contains(f.Names(), name)
	})
}

// FlagsWhere returns those of the flags whose names are chosen.
func FlagsWhere(flags []cli.Flag, chosen func(name string) bool) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool { return !chosen(f.Names()[0]) })
}

// LogFlags returns the flags that [LoggerFrom] reads, for commands that run for long.
func LogFlags() []cli.Flag {
	return []cli.Flag{
		ChoiceFlag("log-format", LogCategory, LogText, "`FORMAT`: text or json", LogText, LogJSON),
		ChoiceFlag(LogLevelFlag, LogCategory, "info", "`LEVEL`: debug, info, warn or error",
			"debug", "info", "warn", "error"),
	}
}

// LoggerFrom returns the logger that the log flags describe. [SetLogLevel] changes its level.
func LoggerFrom(c *cli.Context) (*slog.Logger, error) {
	level := new(slog.LevelVar)
	c.App.Metadata[levelKey] = level
	if err := SetLogLevel(c, c.String(LogLevelFlag)); err != nil {
		return nil, err
	}
	return NewLogger(c.App.ErrWriter, Setting(c, "log-format", LogText), level)
}

// LogLevelFlag is the name of the flag of the log's level.
const LogLevelFlag = "log-level"

// levelKey is where the level of the log is kept, in the application's metadata.
const levelKey = "level"

// SetLogLevel changes the level of the logger that [LoggerFrom] returned; "" is that of the flag's
// default.
func SetLogLevel(c *cli.Context, text string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(cmp.Or(strings.TrimSpace(text), "info"))); err != nil {
		return hint.Usagef("--log-level: %q is not one of debug, info, warn, error", text)
	}
	if level, ok := c.App.Metadata[levelKey].(*slog.LevelVar); ok {
		level.Set(l)
	}
	return nil
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
