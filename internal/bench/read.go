package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/simulate"
)

const (
	readEvents = 5_000_000
	readPlazas = 1_000
)

// The bare queries behind verify. The text of a row is that of tables.RowText in sql/internal.
const (
	countByPlaza    = `SELECT toll_plaza_id, COUNT(*) FROM livetolldata GROUP BY toll_plaza_id`
	checksumByPlaza = `SELECT toll_plaza_id, COUNT(*), SUM(CAST(CRC32(CONCAT_WS(_utf8mb4','
		COLLATE utf8mb4_bin, timestamp, vehicle_id, vehicle_type, toll_plaza_id)) AS DECIMAL(20,0)))
		FROM livetolldata GROUP BY toll_plaza_id`
)

// readScenario measures the commands that read, in turns with the bare query that they can't do
// without, while `process` runs and events come.
func readScenario() scenario {
	var worlds []*world // by binary
	return scenario{
		name: "read",
		figures: []figures.Figure{
			{Name: "verify_s", Title: "`verify`", Unit: figures.Seconds},
			figures.Figure{Name: "verify_over_bare",
				Title: "`verify` over the bare count by plaza"}.Max(1.3),
			{Name: "verify_deep_s", Title: "`verify --deep`", Unit: figures.Seconds},
			figures.Figure{Name: "verify_deep_over_bare",
				Title: "`verify --deep` over the bare scan with checksum"}.Max(1.4),
			{Name: "view_plaza_s", Title: "`view --plaza`", Unit: figures.Seconds},
		},
		setUp: func(ctx context.Context, b *Bench) (err error) {
			worlds, err = b.storedWorlds(ctx, readPlazas, b.events(readEvents))
			return err
		},
		measure: func(ctx context.Context, r *run) error {
			w := worlds[r.binary]
			p, err := w.running(ctx)
			if err != nil {
				return err
			}
			l := live{w, p, readPlazas, latencyRate}
			err = l.whileEventsCome(ctx, func() error { return r.readAll(ctx, w) })
			return errors.Join(err, p.stop()) // before anyone else needs its state
		},
		tearDown: func(ctx context.Context, b *Bench) error {
			return finishAll(ctx, worlds)
		},
	}
}

// readAll measures each command once.
func (r *run) readAll(ctx context.Context, w *world) error {
	for _, c := range []struct {
		figure, query string
		args          []string
	}{
		{"verify", countByPlaza, []string{"verify", "--json"}},
		{"verify_deep", checksumByPlaza, []string{"verify", "--deep", "--json"}},
	} {
		bare, err := timed(func() error { return w.query(ctx, c.query) })
		if err != nil {
			return err
		}
		took, err := timed(func() error { _, err := w.output(ctx, c.args...); return err })
		if err != nil {
			return err
		}
		r.record(c.figure+"_s", took)
		r.record(c.figure+"_over_bare", took/bare)
	}
	view, err := timed(func() error {
		_, err := w.output(ctx, "view", "--plaza", fmt.Sprint(readPlazas/2), "--json")
		return err
	})
	r.record("view_plaza_s", view)
	return err
}

// timed returns how many seconds something takes.
func timed(do func() error) (seconds float64, err error) {
	began := time.Now()
	err = do()
	return time.Since(began).Seconds(), err
}

// query runs a query and reads all rows.
func (w *world) query(ctx context.Context, query string) error {
	rows, err := w.db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// storedWorlds makes a world for each binary in which events are stored. Each has a topic of its
// own, as more events come later.
func (b *Bench) storedWorlds(ctx context.Context, plazas, events int) ([]*world, error) {
	var worlds []*world
	for binary := range b.cfg.Binaries {
		w, err := (&run{b, binary}).newWorld(ctx, "", b.cfg.Partitions)
		if err != nil {
			return worlds, err
		}
		worlds = append(worlds, w)
		if err := b.sendAll(ctx, w.topic, backlogFeed(plazas, events)); err != nil {
			return worlds, err
		}
		if err := w.catchUp(ctx); err != nil {
			return worlds, err
		}
	}
	return worlds, nil
}

// finishAll stores what is left and finishes worlds, those as well that come after one that fails.
func finishAll(ctx context.Context, worlds []*world) error {
	var errs []error
	for _, w := range worlds {
		errs = append(errs, w.catchUp(ctx), w.finish(ctx))
	}
	return errors.Join(errs...)
}

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
