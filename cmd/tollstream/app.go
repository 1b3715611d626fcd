package main

import (
	"context"
	"io"
	"runtime/debug"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/topology/kafka"
)

// app is the command with its surroundings. Commands write what was asked for to stdout, all else
// to stderr.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// commands lists the commands in the order in which a newcomer meets them. Each has a file of its
// own.
//
// Of a cli.Command the help shows Usage (one line), Description (prose), UsageText (examples, one a
// line) and the flags by Category. A command that takes arguments says so in ArgsUsage; without it
// they are refused.
func (a *app) commands() []*cli.Command {
	return []*cli.Command{
		upCommand(),
		initCommand(),
		emitCommand(),
		processCommand(),
		a.viewCommand(),
		verifyCommand(),
		healthCommand(),
		sqlCommand(),
		deadLettersCommand(),
		rebuildCommand(),
		acceptLogCommand(),
		pruneCommand(),
		resetCommand(),
		demoCommand(),
	}
}

// quietLibraries is for tests, which run many commands in one process.
var quietLibraries = sync.OnceFunc(kafka.QuietLibraries)

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	quietLibraries()
	return command.Run(ctx, root(stdin, stdout, stderr), args)
}

func root(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	return &cli.App{
		Name:      "tollstream",
		Usage:     "stores the events of toll plazas exactly once, and proves it",
		Version:   buildVersion(),
		Commands:  a.commands(),
		Reader:    stdin,
		Writer:    stdout,
		ErrWriter: stderr,
	}
}

// version is set at build time: -ldflags '-X main.version=v1.2.3'.
var version string

// buildVersion returns the version of this build.
func buildVersion() string {
	v := version
	info, ok := debug.ReadBuildInfo()
	if v == "" && ok {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}
