package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/netdelay"
)

const farEvents = 2_000_000

// farTrips are the round trips, and the rows a second that are wanted over them.
var farTrips = []struct {
	roundTrip time.Duration
	wanted    float64
}{{20 * time.Millisecond, 150_000}, {50 * time.Millisecond, 100_000}}

// farScenario works off a backlog of the course's plazas through proxies that delay what goes to
// Kafka and MySQL, and what comes from them.
func farScenario() scenario {
	const topic = "far"
	s := scenario{name: "far"}
	name := func(trip time.Duration, what string) string {
		return fmt.Sprintf("far_%d_%s", trip.Milliseconds(), what)
	}
	for _, f := range farTrips {
		title := fmt.Sprintf("backlog over a round trip of %v, ", f.roundTrip)
		s.figures = append(s.figures,
			figures.Figure{Name: name(f.roundTrip, "rows"), Title: title + "rows",
				Unit: figures.PerSecond}.Min(f.wanted),
			figures.Figure{Name: name(f.roundTrip, "cpu_s"), Title: title + "CPU of `process`",
				Unit: figures.PerMillion},
			figures.Figure{Name: name(f.roundTrip, "memory_mb"), Title: title + "peak memory",
				Unit:    figures.Megabytes,
				Highest: true})
	}
	s.setUp = func(ctx context.Context, b *Bench) error {
		return b.fill(ctx, topic, backlogFeed(courseBacklog, b.events(farEvents)))
	}
	s.measure = func(ctx context.Context, r *run) error {
		mysql, err := netdelay.Listen(0)
		if err != nil {
			return err
		}
		defer mysql.Close()
		mysql.Forward(r.database.Addr())
		defer r.farKafka.SetRoundTrip(0)
		for _, f := range farTrips {
			done, err := r.workOff(ctx, topic, r.events(farEvents), func(w *world) error {
				dsn, err := w.dsnAt(mysql.Addr())
				if err != nil {
					return err
				}
				w.use(r.farKafka.Addr(), dsn)
				mysql.SetRoundTrip(f.roundTrip)
				r.farKafka.SetRoundTrip(f.roundTrip)
				return nil
			})
			if err != nil {
				return fmt.Errorf("%v: %w", f.roundTrip, err)
			}
			r.record(name(f.roundTrip, "rows"), done.rowsPerSecond)
			r.record(name(f.roundTrip, "cpu_s"), done.cpu)
			r.record(name(f.roundTrip, "memory_mb"), done.memoryMB)
		}
		return nil
	}
	s.tearDown = func(ctx context.Context, b *Bench) error { return b.deleteTopics(ctx, topic) }
	return s
}
