package main

import (
	"context"
	"io"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/topology"
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
		a.upCommand(),
		a.initCommand(),
		emitCommand(),
		processCommand(),
		a.viewCommand(),
		a.verifyCommand(),
		a.healthCommand(),
		a.sqlCommand(),
		a.deadLettersCommand(),
		a.rebuildCommand(),
		a.acceptLogCommand(),
		a.pruneCommand(),
		a.resetCommand(),
		a.demoCommand(),
	}
}

// quietLibraries is for tests, which run many commands in one process.
var quietLibraries = sync.OnceFunc(topology.QuietLibraries)

// run runs one command line and returns the exit code: 0 done, 1 failed, 2 usage.
//
// An interrupt arrives as the end of ctx. A command that runs until it is interrupted then returns
// nil.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	quietLibraries()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	return report(stderr, a.run(ctx, args))
}

func (a *app) run(ctx context.Context, args []string) error {
	root := a.root()
	line, err := parseLine(root, args[min(1, len(args)):])
	switch {
	case err != nil:
		return err
	case line.version:
		return printVersion(a.stdout)
	case line.help:
		return a.printHelp(line.path, root)
	}
	root.Metadata = map[string]any{givenKey: line.given}
	return root.RunContext(ctx, line.args())
}

// root builds the application. What urfave/cli does by itself on errors (help on stdout, os.Exit)
// is turned off: errors come back to run.
func (a *app) root() *cli.App {
	root := &cli.App{
		Name:            "tollstream",
		Usage:           "stores the events of toll plazas exactly once, and proves it",
		Commands:        a.commands(),
		HideHelpCommand: true,
		HideVersion:     true,
		Reader:          a.stdin,
		Writer:          a.stdout,
		ErrWriter:       a.stderr,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    asUsageError,
	}
	prepare(root.Commands)
	return root
}

func prepare(commands []*cli.Command) {
	for _, c := range commands {
		acceptDays(c.Flags)
		c.HideHelpCommand = true
		c.OnUsageError = asUsageError
		prepare(c.Subcommands)
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

func printVersion(w io.Writer) error {
	_, err := io.WriteString(w, "tollstream "+buildVersion()+" "+runtime.Version()+" "+runtime.GOOS+
		"/"+runtime.GOARCH+"\n")
	return err
}
