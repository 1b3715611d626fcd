package bench

import (
	"context"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
)

const (
	idlePartitions = 16
	idleLength     = 30 * time.Second
)

// idleScenario measures what `process` costs where no events come.
func idleScenario() scenario {
	figure := func(name, title, unit string) figures.Figure {
		return figures.Figure{Name: "idle_" + name, Title: "idle with 16 partitions, " + title,
			Unit: unit}
	}
	return scenario{
		name: "idle",
		figures: []figures.Figure{
			figure("cpu", "CPU of `process`", figures.Percent).Max(1),
			figure("mysql_cpu", "CPU of MySQL", figures.Percent),
			figure("kafka_cpu", "CPU of Kafka", figures.Percent),
			figure("rows", "rows added to all tables", figures.Count).Max(0),
			figure("records", "records added to our topics", figures.Count).Max(0),
		},
		measure: func(ctx context.Context, r *run) error {
			w, err := r.newWorld(ctx, "", idlePartitions)
			if err != nil {
				return err
			}
			p, err := w.running(ctx)
			if err != nil {
				return err
			}
			if err := sleep(ctx, r.warmUp()); err != nil {
				return err
			}
			rowsBefore, recordsBefore, err := w.size(ctx)
			if err != nil {
				return err
			}
			u, err := startUsage(p.cmd.Process.Pid, r.database.Pid(), r.kafka.Pid())
			if err != nil {
				return err
			}
			if err := sleep(ctx, r.lasts(idleLength)); err != nil {
				return err
			}
			shares, err := u.percent()
			if err != nil {
				return err
			}
			rows, records, err := w.size(ctx)
			if err != nil {
				return err
			}
			r.record("idle_cpu", shares[0])
			r.record("idle_mysql_cpu", shares[1])
			r.record("idle_kafka_cpu", shares[2])
			r.record("idle_rows", float64(rows-rowsBefore))
			r.record("idle_records", float64(records-recordsBefore))
			if err := p.stop(); err != nil {
				return err
			}
			return w.finish(ctx)
		},
	}
}

// size returns how many rows all tables hold, and how many records the world's topics were given.
func (w *world) size(ctx context.Context) (rows, records int64, err error) {
	names, err := w.db.QueryContext(ctx, `SELECT table_name FROM information_schema.tables
		WHERE table_schema = ?`, w.name)
	if err != nil {
		return 0, 0, err
	}
	defer names.Close()
	var tables []string
	for names.Next() {
		var name string
		if err := names.Scan(&name); err != nil {
			return 0, 0, err
		}
		tables = append(tables, name)
	}
	if err := names.Err(); err != nil {
		return 0, 0, err
	}
	for _, name := range tables {
		var n int64
		if err := w.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM `"+name+"`").Scan(&n); err != nil {
			return 0, 0, err
		}
		rows += n
	}
	records, err = w.b.records(ctx, func(topic string) bool {
		return strings.HasPrefix(topic, w.name+"-")
	})
	return rows, records, err
}
