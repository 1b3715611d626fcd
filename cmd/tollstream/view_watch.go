package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/tui"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// fullScreen reports whether view --watch fills the terminal: where a person sees it and has keys.
func fullScreen(app *cli.App, s viewSettings) bool {
	if s.plain || s.json || !text.IsTerminal(app.Reader) || !text.IsTerminal(app.Writer) {
		return false
	}
	name, named := os.LookupEnv("TERM")
	return name != "dumb" && (named && name != "" || runtime.GOOS == "windows")
}

// watchScreen shows the view on the whole terminal until it is quit.
func watchScreen(c *cli.Context, s viewSettings) error {
	con, err := endpoint.From(c)
	if err != nil {
		return err
	}
	held := &tui.HeldLog{To: c.App.ErrWriter}
	if text.IsTerminal(c.App.ErrWriter) {
		defer held.Hold()()
	}
	r, err := live.Open(c.Context, live.Config{Connection: con, Log: command.Warnings(held),
		Silent: true, Deep: s.deep, Repeated: true, Relaxed: true, Holidays: s.holidays})
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
	err = tui.Run(ctx, c.App.Reader, c.App.Writer, source, options)
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, board.ErrEnded) {
		return cause
	}
	return err
}

// watchPause is how often the view is printed again.
const watchPause = time.Second

// watch prints the view every second until ctx ends. It waits for a server that is unavailable.
// Where there is a terminal, watchScreen takes its place.
func watch(c *cli.Context, r *live.Reader, s viewSettings) error {
	ctx := c.Context
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()
	reported := ""
	for {
		b, err := r.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case toll.IsPermanent(err), errors.Is(err, board.ErrEnded):
			return err
		}
		problem := ""
		switch {
		case err != nil:
			problem = "waiting for the servers: " + text.OneLine(kafka.Brief(err))
		case s.plaza != nil && b.Plazas[0].Unknown():
			problem = fmt.Sprintf("no vehicle has passed plaza %d yet", *s.plaza)
		}
		if problem == "" {
			if err := s.print(c.App.Writer, b); err != nil {
				return err
			}
		} else if problem != reported {
			fmt.Fprintln(c.App.ErrWriter, "tollstream: "+problem)
		}
		reported = problem
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
