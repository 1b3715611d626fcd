package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"
)

// runLine runs one command line of a program and returns the exit code: 0 done, 1 failed, 2 usage.
//
// An interrupt arrives as the end of ctx. A command that runs until it is interrupted then returns
// nil.
func runLine(ctx context.Context, root *cli.App, args []string) int {
	return report(root.ErrWriter, execute(ctx, root, args))
}

// execute runs one command line of a program, whose name comes first.
func execute(ctx context.Context, root *cli.App, args []string) error {
	line, err := parseLine(root, args[min(1, len(args)):])
	switch {
	case err != nil:
		return err
	case line.version:
		_, err = fmt.Fprintln(root.Writer, root.Name, root.Version, runtime.Version(),
			runtime.GOOS+"/"+runtime.GOARCH)
		return err
	case line.help:
		return printHelp(root, line.path)
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
