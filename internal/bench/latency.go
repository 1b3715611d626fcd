package bench

import (
	"context"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
)

const (
	latencyRate   = 20_000
	latencyLength = 15 * time.Second
)

// latencyScenario times batches at a steady rate that keeps the machine busy.
func latencyScenario() scenario {
	figure := func(name, title string) figures.Figure {
		return figures.Figure{Name: "latency_" + name + "_ms",
			Title: "20,000 events/s, produced → " + title, Unit: figures.Millis}
	}
	return scenario{
		name: "latency",
		figures: []figures.Figure{
			figure("stored_p50", "stored, p50"),
			figure("stored_p99", "stored, p99"),
			figure("merged_p50", "merged, p50").Max(50),
			figure("merged_p99", "merged, p99").Max(150),
			figure("visible_p50", "visible to a reader, p50").Max(100),
			figure("visible_p99", "visible to a reader, p99").Max(250),
		},
		measure: func(ctx context.Context, r *run) error {
			l, err := r.startLive(ctx, courseBacklog, latencyRate)
			if err != nil {
				return err
			}
			t, err := l.timed(ctx, r.lasts(latencyLength))
			if err != nil {
				return err
			}
			for what, v := range map[string][]float64{
				"stored": t.stored, "merged": t.merged, "visible": t.read,
			} {
				r.record("latency_"+what+"_p50_ms", figures.Percentile(v, 50))
				r.record("latency_"+what+"_p99_ms", figures.Percentile(v, 99))
			}
			return l.finish(ctx)
		},
	}
}
