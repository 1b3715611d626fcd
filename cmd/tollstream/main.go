// Command tollstream stores the events of toll plazas exactly once and shows the congestion at each
// plaza beside the proof of it. `tollstream --help` lists what it does.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // so that --timezone works on machines without a timezone database

	"github.com/tollstream/tollstream/internal/endpoint"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Once the first signal has begun a clean end, the next one kills as usual.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, endpoint.HidePasswords(os.Args), os.Stdin, os.Stdout, os.Stderr))
}
