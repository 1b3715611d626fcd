// Package command is what every command shares: how a command line is parsed, what --help shows,
// how errors and progress are reported, and what the log looks like.
package command

import (
	"context"
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"
)

// Run runs one command line of a program and returns the exit code: 0 done, 1 failed, 2 usage.
//
// An interrupt arrives as the end of ctx. A command that runs until it is interrupted then returns
// nil.
func Run(ctx context.Context, root *cli.App, args []string) int {
	return Report(root.ErrWriter, Execute(ctx, root, args))
}

// Execute runs one command line of a program, whose name comes first.
func Execute(ctx context.Context, root *cli.App, args []string) error {
	line, err := Parse(root, args[min(1, len(args)):])
	switch {
	case err != nil:
		return err
	case line.Version:
		_, err = fmt.Fprintln(root.Writer, root.Name, root.Version, runtime.Version(),
			runtime.GOOS+"/"+runtime.GOARCH)
		return err
	case line.Help:
		return printHelp(root, line.Path)
	}
	root.Metadata = map[string]any{givenKey: line.given}
	return root.RunContext(ctx, line.args())
}

// prepare turns off what urfave/cli does by itself on errors (help on stdout, os.Exit): errors come
// back to runLine. It lets duration flags take days.
func prepare(root *cli.App) {
	root.HideHelpCommand, root.HideVersion = true, true
	root.ExitErrHandler = func(*cli.Context, error) {}
	root.OnUsageError = asUsageError
	prepareCommands(root.Commands)
}

func prepareCommands(commands []*cli.Command) {
	for _, c := range commands {
		acceptDays(c.Flags)
		c.HideHelpCommand = true
		c.OnUsageError = asUsageError
		prepareCommands(c.Subcommands)
	}
}
