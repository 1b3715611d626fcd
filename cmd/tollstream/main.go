// Command tollstream stores the events of toll plazas exactly once and shows the congestion at each
// plaza next to the proof of it. `tollstream --help` lists what it does.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	_ "time/tzdata" // so that --timezone works on machines without a timezone database

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/topology/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Once the first signal has begun a clean end, the next one kills as usual.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, endpoint.HidePasswords(os.Args), os.Stdin, os.Stdout, os.Stderr))
}

// commands lists the commands in the order in which a newcomer needs them. Each has a file of its
// own. They write what was asked for to the app's Writer, all else to its ErrWriter.
//
// Of a cli.Command the help shows Usage (one line), Description (prose), UsageText (examples, one a
// line) and the flags by Category. A command that takes arguments says so in ArgsUsage; without it
// they are refused.
func commands() []*cli.Command {
	return []*cli.Command{
		upCommand(),
		initCommand(),
		emitCommand(),
		eventsCommand(),
		processCommand(),
		viewCommand(),
		verifyCommand(),
		healthCommand(),
		sqlCommand(),
		incidentsCommand(),
		journeysCommand(),
		reportCommand(),
		deadLettersCommand(),
		rebuildCommand(),
		acceptLogCommand(),
		pruneCommand(),
		resetCommand(),
		demoCommand(),
		configCommand(),
		completionCommand(),
		manCommand(),
		versionCommand(),
		completeCommand(),
	}
}

// quietLibraries is for tests, which run many commands in one process.
var quietLibraries = sync.OnceFunc(kafka.QuietLibraries)

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	quietLibraries()
	return command.Run(ctx, root(stdin, stdout, stderr), args, config.Fill)
}

func root(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:      "tollstream",
		Usage:     "stores the events of toll plazas exactly once, and proves it",
		Version:   buildVersion(),
		Commands:  config.AddFlag(commands()),
		Reader:    stdin,
		Writer:    stdout,
		ErrWriter: stderr,
	}
}
