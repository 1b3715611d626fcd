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

// openPage opens the live view of a demo. If its usual port is taken it takes a free one.
func openPage(ctx context.Context, con endpoint.Connection) (*demo.Page, error) {
	source := live.NewSource(func(error) {}) // whose boards then fail
	var server *web.Server
	var err error
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
	con.TimezoneSet = true
	r, err := live.Open(ctx, live.Config{Connection: con, Log: slog.New(slog.DiscardHandler),
		Silent: true, Repeated: true})
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	source.Open(r)
	return &demo.Page{URL: server.URL(), Board: source.Board, Run: func(ctx context.Context) error {
		defer r.Close()
		return server.Run(ctx)
	}}, nil
}
