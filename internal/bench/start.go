package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
)

const (
	startStored = 1_000_000
	startPlazas = 1_000
	startEvents = 1_000 // new ones that a start finds
)

// startScenario measures how long `process` takes from its start to the first row of new events:
// with the local state that the process before has left, and without any, which goka then recovers
// from Kafka.
func startScenario() scenario {
	var worlds []*world // by binary
	return scenario{
		name: "start",
		figures: []figures.Figure{
			figures.Figure{Name: "start_s", Title: "start of `process` to the first row",
				Unit: figures.Seconds}.Max(3),
			figures.Figure{Name: "start_without_state_s",
				Title: "start of `process` without local state", Unit: figures.Seconds}.Max(3),
		},
		setUp: func(ctx context.Context, b *Bench) (err error) {
			worlds, err = b.storedWorlds(ctx, startPlazas, b.events(startStored))
			return err
		},
		measure: func(ctx context.Context, r *run) error {
			w := worlds[r.binary]
			if err := r.start(ctx, w, w.state, "start_s"); err != nil {
				return err
			}
			empty := filepath.Join(r.dir, "empty")
			return errors.Join(r.start(ctx, w, empty, "start_without_state_s"), os.RemoveAll(empty))
		},
		tearDown: func(ctx context.Context, b *Bench) error { return finishAll(ctx, worlds) },
	}
}

func (r *run) start(ctx context.Context, w *world, state, figure string) error {
	if err := r.sendAll(ctx, w.topic, backlogFeed(startPlazas, startEvents)); err != nil {
		return err
	}
	began := time.Now()
	p, err := w.process(ctx, state, "--until-end")
	if err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return err
	}
	first, _, err := w.committed(ctx, began)
	if err != nil {
		return err
	}
	r.record(figure, first.Sub(began).Seconds())
	return nil
}
