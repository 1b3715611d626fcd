// Package command is what every command shares: how a command line is parsed, what --help shows,
// how errors and progress are reported, and what the log looks like.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

// Run runs one command line of a program and returns the exit code: 0 done, 1 failed, 2 usage.
//
// An interrupt arrives as the end of ctx. A command that runs until it is interrupted then returns
// nil.
func Run(ctx context.Context, root *cli.App, args []string, fill Fill) int {
	return Report(root.ErrWriter, Execute(ctx, root, args, fill))
}

// Fill completes a command line by settings from elsewhere, before it runs. explain adds to an
// error of the command where such a setting comes from.
type Fill func(root *cli.App, l *Line) (explain func(error) error, err error)

// Execute runs one command line of a program, whose name comes first. fill may be nil.
func Execute(ctx context.Context, root *cli.App, args []string, fill Fill) error {
	line, err := Parse(root, args[min(1, len(args)):])
	switch {
	case err != nil:
		return err
	case line.Version:
		_, err = fmt.Fprintln(root.Writer, root.Name, root.Version, runtime.Version(),
			runtime.GOOS+"/"+runtime.GOARCH)
		return err
	case line.Help:
		return printHelp(root, line.Path, line.HelpAll)
	}
	root.Metadata = map[string]any{givenKey: line.given}
	if fill == nil {
		return root.RunContext(ctx, line.args())
	}
	explain, err := fill(root, line)
	if err != nil {
		return err
	}
	if err := root.RunContext(ctx, line.args()); err != nil {
		return explain(err)
	}
	return nil
}

// prepare turns off what urfave/cli does by itself on errors (help on stdout, os.Exit): errors come
// back to runLine. Its flag for help, which [Parse] reads in its place, is one variable that all
// command lines of a process would write. It lets duration flags take days.
func prepare(root *cli.App) {
	root.HideHelp, root.HideHelpCommand, root.HideVersion = true, true, true
	root.ExitErrHandler = func(*cli.Context, error) {}
	root.OnUsageError = asUsageError
	prepareCommands(root.Commands)
}

func prepareCommands(commands []*cli.Command) {
	for _, c := range commands {
		acceptDays(c.Flags)
		c.HideHelp, c.HideHelpCommand = true, true
		c.OnUsageError = asUsageError
		prepareCommands(c.Subcommands)
	}
}

// When a command that prints nothing reports its step: a stalled server looks like one with much to
// read.
const (
	firstReport = 10 * time.Second
	moreReports = 30 * time.Second
)

// Steps reports the step of a command that takes long.
type Steps struct {
	at    atomic.Pointer[string]
	ended chan struct{}
	done  chan struct{} // closed when the reports have ended
}

// NewSteps begins with a step, and reports on out at which step the command is until End is called.
func NewSteps(out io.Writer, first string) *Steps {
	s := &Steps{ended: make(chan struct{}), done: make(chan struct{})}
	s.Begin(first)
	began := time.Now()
	go func() {
		defer close(s.done)
		pause := firstReport
		for {
			select {
			case <-time.After(pause):
			case <-s.ended:
				return
			}
			pause = moreReports
			fmt.Fprintf(out, "tollstream: %s (%v so far)\n", *s.at.Load(),
				time.Since(began).Round(time.Second))
		}
	}()
	return s
}

// Begin begins another step, such as "reading the rows".
func (s *Steps) Begin(what string) { s.at.Store(&what) }

// End ends the reports. It is called once.
func (s *Steps) End() {
	close(s.ended)
	<-s.done
}

// Exit is an error that ends a command with this exit status and no further text: the command has
// printed its own report.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ErrReported ends a command with exit status 1.
var ErrReported error = Exit(1)

// Report prints an error as the command line shows it and returns the exit code.
func Report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[Exit](err); ok {
		return int(exit)
	}
	out := err.Error()
	if errors.Is(err, context.Canceled) {
		out = "interrupted"
	}
	fmt.Fprintf(stderr, "tollstream: %s\n", text.OneLine(out))
	if hint := hint.Of(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", text.OneLine(hint))
	}
	if hint.IsUsage(err) {
		return 2
	}
	return 1
}

// Actions are what a command did. Without --json they are printed as they happen.
type Actions struct {
	c   *cli.Context
	did []string
}

// NewActions returns the empty list of a command that may have the flag --json.
func NewActions(c *cli.Context) *Actions { return &Actions{c: c, did: []string{}} }

// Did adds actions, one a line.
func (a *Actions) Did(lines ...string) {
	a.did = append(a.did, lines...)
	for _, line := range lines {
		if !a.c.Bool("json") {
			fmt.Fprintln(a.c.App.Writer, text.OneLine(line))
		}
	}
}

// End prints the list as JSON, or, where nothing was done, a sentence.
func (a *Actions) End(nothing string) error {
	if a.c.Bool("json") {
		return text.WriteJSON(a.c.App.Writer, map[string][]string{"did": a.did})
	}
	if len(a.did) == 0 {
		_, err := fmt.Fprintln(a.c.App.Writer, nothing)
		return err
	}
	return nil
}
