package topology

import (
	"context"
	"strconv"
	"time"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/closing"
)

// visitor is the name of the visits that close windows.
const visitor = "windows"

// closeWindows has goka visit all plazas where the watermark moved on, until the session ends.
func (r *run) closeWindows(ctx context.Context) {
	r.windows.Watch(ctx, closing.Session{Store: r.store, Kafka: r.brokers,
		Partitions: len(r.sources.slots), Database: r.database, Progress: r.sources.progress,
		Check: checkProgress,
		Visit: func(ctx context.Context) error { return r.proc.VisitAll(ctx, visitor, nil) }})
}

// visit closes the windows of a plaza that the watermark has passed.
func (r *run) visit(ctx goka.Context, _ any) {
	if ctx.Context().Err() != nil {
		return
	}
	plaza, err := strconv.ParseInt(ctx.Key(), 10, 16)
	if err != nil {
		return // not ours
	}
	if !r.windows.Wants(int16(plaza)) {
		return
	}
	state, _ := ctx.Value().(*toll.State)
	if state == nil || ctx.Context().Err() != nil {
		return
	}
	if r.windows.Step(int16(plaza), state) {
		ctx.SetValue(state)
	}
}

// CloseAll closes every window that is open, as far as it has come, and returns once that is stored
// and published. It is for a run that ends with the stream. Each plaza closes all once: events that
// come meanwhile don't put the end off.
func (p *Processor) CloseAll(ctx context.Context) error {
	for {
		if w := p.windows.Load(); w != nil { // another one once the run began again
			w.End()
			if w.AllClosed() {
				return nil
			}
		}
		select {
		case <-time.After(endPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
