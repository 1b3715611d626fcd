package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/web"
	"github.com/tollstream/tollstream/web/serve"
)

// page serves the live view of a demo until ctx ends, which wait waits for. Where its usual port is
// taken it takes a free one.
func (d *demo) page(ctx context.Context) (wait func(), err error) {
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
	r, err := openReader(ctx, d.con, true, quietLog(), live.Config{Silent: true, Repeated: true})
	if err != nil {
		stop(nil)
		serve(ctx) // closes what Listen opened
		<-ended
		return nil, err
	}
	r.Start()
	source.Open(r)
	fmt.Fprintf(d.out, "The live view: %s\n", server.URL())
	serve(ctx)
	return func() {
		<-ended
		stop(nil)
		r.Close()
	}, nil
}
