package bench

import (
	"context"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/simulate"
)

const (
	yearDays      = 365
	yearPerMinute = 11
	yearEvents    = yearDays * 24 * 60 * yearPerMinute
)

// yearScenario works off a year of one plaza, in which nearly every minute has some events. A
// smaller scale has fewer days.
func yearScenario() scenario {
	const topic = "year"
	return scenario{
		name: "year",
		figures: []figures.Figure{
			figures.Figure{Name: "year_rows", Title: "a year of one plaza, rows",
				Unit: figures.PerSecond}.Min(150_000),
			{Name: "year_cpu_s", Title: "a year of one plaza, CPU of `process`", Unit: figures.PerMillion},
			{Name: "year_mysql_cpu_s", Title: "a year of one plaza, CPU of MySQL", Unit: figures.PerMillion},
			{Name: "year_memory_mb", Title: "a year of one plaza, peak memory", Unit: figures.Megabytes,
				Highest: true},
		},
		setUp: func(ctx context.Context, b *Bench) error {
			g := simulate.New(plazaNumbers(1), 1, simulate.Steady(day, yearPerMinute/time.Minute.Seconds()))
			return b.fill(ctx, topic, limit(g, b.events(yearEvents)))
		},
		measure: func(ctx context.Context, r *run) error {
			done, err := r.workOff(ctx, topic, r.events(yearEvents), nil)
			if err != nil {
				return err
			}
			r.record("year_rows", done.rowsPerSecond)
			r.record("year_cpu_s", done.cpu)
			r.record("year_mysql_cpu_s", done.mysqlCPU)
			r.record("year_memory_mb", done.memoryMB)
			return nil
		},
		tearDown: func(ctx context.Context, b *Bench) error { return b.deleteTopics(ctx, topic) },
	}
}
