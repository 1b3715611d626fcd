package main

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/demo"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/serve"
)

// openPage serves the live view of a demo until ctx ends. If its usual port is taken it takes a free
// one.
func openPage(ctx context.Context, con endpoint.Connection) (_ *demo.Page, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	source := live.NewSource(stop)
	var server *web.Server
	for _, address := range []string{serve.DefaultListen, "127.0.0.1:0"} {
		if server, err = web.New(web.Config{Config: serve.Config{Listen: address}}, source); err != nil {
			return nil, err
		}
		if err = server.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	serve := func(ctx context.Context) {
		go func() {
			defer close(ended)
			_ = server.Run(ctx)
		}()
	}
	r, err := openReader(ctx, con, true, slog.New(slog.DiscardHandler),
		live.Config{Silent: true, Repeated: true})
	if err != nil {
		stop(nil)
		serve(ctx) // closes what Listen opened
		<-ended
		return nil, err
	}
	r.Start()
	source.Open(r)
	serve(ctx)
	return &demo.Page{URL: server.URL(), Board: source.Board, Wait: func() {
		<-ended
		stop(nil)
		r.Close()
	}}, nil
}
