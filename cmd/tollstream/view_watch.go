package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/tui"
	"github.com/tollstream/tollstream/topology/kafka"
)

// fullScreen reports whether view --watch fills the terminal: where a person sees it and has keys.
func (a *app) fullScreen(s viewSettings) bool {
	if s.plain || s.json || !text.IsTerminal(a.stdin) || !text.IsTerminal(a.stdout) {
		return false
	}
	name, named := os.LookupEnv("TERM")
	return name != "dumb" && (named && name != "" || runtime.GOOS == "windows")
}

// watchScreen shows the view on the whole terminal until it is quit.
func (a *app) watchScreen(c *cli.Context, s viewSettings) error {
	con, err := endpoint.From(c)
	if err != nil {
		return err
	}
	held := &tui.HeldLog{To: a.stderr}
	if text.IsTerminal(a.stderr) {
		defer held.Hold()()
	}
	logger, err := command.NewLogger(held, command.LogText, "warn")
	if err != nil {
		return err
	}
	r, err := openReader(c.Context, con, endpoint.FixesTimezone(c), logger,
		live.Config{Silent: true, Deep: s.deep, Repeated: true, Relaxed: true})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	source := live.NewSource(stop)
	defer r.Close()
	r.Start()
	defer context.AfterFunc(ctx, r.Stop)()
	source.Open(r)
	options := tui.Options{Plaza: s.plaza, Top: s.top, Brief: kafka.Brief}
	if s.sorted {
		options.Sort = s.sort
	}
	if s.deep {
		options.Timeout = live.DeepLimit
	}
	err = tui.Run(ctx, a.stdin, a.stdout, source, options)
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, board.ErrEnded) {
		return cause
	}
	return err
}
