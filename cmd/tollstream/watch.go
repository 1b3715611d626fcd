package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// watchPause is how often the view is shown anew.
const watchPause = time.Second

// watch prints the view every second until ctx ends. A server that is away is waited for. Where
// there is a terminal, watchScreen takes its place.
func (a *app) watch(ctx context.Context, r *live.Reader, s viewSettings) error {
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()
	told := ""
	for {
		b, err := r.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case toll.IsPermanent(err), errors.Is(err, board.ErrEnded):
			return err
		}
		trouble := ""
		switch {
		case err != nil:
			trouble = "waiting for the servers: " + text.OneLine(kafka.Brief(err))
		case s.plaza != nil && b.Plazas[0].Unknown():
			trouble = fmt.Sprintf("no vehicle has passed plaza %d yet", *s.plaza)
		}
		switch {
		case trouble != "":
			err = nil
			if trouble != told {
				fmt.Fprintln(a.stderr, "tollstream: "+trouble)
			}
		case s.json:
			err = text.WriteJSONLine(a.stdout, s.asJSON(b))
		default:
			_, err = io.WriteString(a.stdout, s.asText(b, a.stdout)+"\n")
		}
		if err != nil {
			return err
		}
		told = trouble
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
