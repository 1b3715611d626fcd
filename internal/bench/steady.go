package bench

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/wait"
)

const (
	steadyRate   = 2_000
	steadyPlazas = 1_000
	// steadyLength is a whole minute, in which every plaza's minute window closes once.
	steadyLength = time.Minute
	// steadyTimed is how long latencies are measured after the CPU.
	steadyTimed = 10 * time.Second
	// bareLength is how long the bare producer and consumer are measured, whose CPU is even.
	bareLength = 20 * time.Second
)

// steadyScenario measures what everyday traffic costs.
func steadyScenario() scenario {
	figure := func(name, title, unit string) figures.Figure {
		return figures.Figure{Name: "steady_" + name, Title: "2,000 events/s of 1,000 plazas, " + title,
			Unit: unit}
	}
	bare := figure("kafka_bare_cpu", "CPU of Kafka with a bare producer and consumer", figures.Percent)
	bare.Shared = true
	var bareCPU float64 // of the round
	return scenario{
		name: "steady",
		figures: []figures.Figure{
			figure("cpu", "CPU of `process`", figures.Percent).Max(20),
			figure("mysql_cpu", "CPU of MySQL", figures.Percent).Max(6),
			bare,
			figure("kafka_cpu", "CPU of Kafka", figures.Percent),
			figure("kafka_more_cpu", "CPU of Kafka beyond the bare", figures.Percent).Max(6),
			figure("stored_p99_ms", "produced → stored, p99", figures.Millis).Max(300),
			figure("merged_p99_ms", "produced → merged, p99", figures.Millis).Max(1_000),
		},
		// The first time is not measured: until Java's machine has compiled what small requests need,
		// Kafka takes twice the CPU.
		setUp: func(ctx context.Context, b *Bench) error {
			_, err := b.bareKafka(ctx)
			return err
		},
		shared: func(ctx context.Context, b *Bench) (err error) {
			if bareCPU, err = b.bareKafka(ctx); err == nil {
				b.record("steady_kafka_bare_cpu", bareCPU)
			}
			return err
		},
		measure: func(ctx context.Context, r *run) error {
			l, err := r.startLive(ctx, steadyPlazas, steadyRate)
			if err != nil {
				return err
			}
			var shares []float64
			t, err := l.timed(ctx, r.lasts(steadyTimed), func() error {
				u, err := startUsage(l.process.cmd.Process.Pid, r.database.Pid(), r.kafka.Pid())
				if err != nil {
					return err
				}
				if err := wait.For(ctx, r.lasts(steadyLength)); err != nil {
					return err
				}
				shares, err = u.percent()
				return err
			})
			if err != nil {
				return err
			}
			r.record("steady_cpu", shares[0])
			r.record("steady_mysql_cpu", shares[1])
			r.record("steady_kafka_cpu", shares[2])
			r.record("steady_kafka_more_cpu", shares[2]-bareCPU)
			r.record("steady_stored_p99_ms", figures.Percentile(t.stored, 99))
			r.record("steady_merged_p99_ms", figures.Percentile(t.merged, 99))
			return l.finish(ctx)
		},
	}
}

// bareKafka returns the CPU of Kafka, in percent of a core, while the same events are produced and
// read by a consumer that does nothing with them.
func (b *Bench) bareKafka(ctx context.Context) (share float64, err error) {
	const topic = "bare"
	if err := b.createTopic(ctx, topic, b.cfg.Partitions); err != nil {
		return 0, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Addr()), kgo.ConsumeTopics(topic),
		kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return 0, err
	}
	reading, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for reading.Err() == nil {
			client.PollFetches(reading)
		}
	}()
	defer func() { cancel(); <-ended; client.Close() }()
	stop, err := b.sendSteadily(ctx, topic, steadyPlazas, steadyRate)
	if err != nil {
		return 0, err
	}
	if err := wait.For(ctx, b.warmUp()); err != nil {
		return 0, err
	}
	u, err := startUsage(b.kafka.Pid())
	if err != nil {
		return 0, err
	}
	if err := wait.For(ctx, b.lasts(bareLength)); err != nil {
		return 0, err
	}
	shares, err := u.percent()
	if err != nil {
		return 0, err
	}
	if err := stop(); err != nil {
		return 0, err
	}
	return shares[0], b.deleteTopics(ctx, topic)
}

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
			if err := wait.For(ctx, r.warmUp()); err != nil {
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
			if err := wait.For(ctx, r.lasts(idleLength)); err != nil {
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

// warmUp is how long events come before anything is measured.
func (b *Bench) warmUp() time.Duration { return min(b.lasts(15*time.Second), 5*time.Second) }

// live is a world in which `process` runs while events come.
type live struct {
	*world
	process *process
	plazas  int
	rate    int
}

// startLive starts `process` in a new world.
func (r *run) startLive(ctx context.Context, plazas, rate int) (*live, error) {
	w, err := r.newWorld(ctx, "", r.cfg.Partitions)
	if err != nil {
		return nil, err
	}
	p, err := w.running(ctx)
	if err != nil {
		return nil, err
	}
	return &live{w, p, plazas, rate}, nil
}

// whileEventsCome sends events, and after a while does something.
func (l *live) whileEventsCome(ctx context.Context, do func() error) error {
	stop, err := l.b.sendSteadily(ctx, l.topic, l.plazas, l.rate)
	if err != nil {
		return err
	}
	if err := wait.For(ctx, l.b.warmUp()); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return stop()
}

// tailStart is how long a tail takes at most until it reads what is written.
const tailStart = time.Second

// timed measures latencies for a while, after something else was measured. The tail is there for
// that time alone: reading the changelog costs Kafka something.
func (l *live) timed(ctx context.Context, length time.Duration, before func() error) (
	*latencies, error) {
	var t *tail
	var from time.Time
	err := l.whileEventsCome(ctx, func() (err error) {
		if err := before(); err != nil {
			return err
		}
		if t, err = l.follow(ctx); err != nil {
			return err
		}
		if err := wait.For(ctx, tailStart); err != nil {
			return err
		}
		from = time.Now()
		return wait.For(ctx, length)
	})
	if t != nil {
		defer t.close()
	}
	if err != nil {
		return nil, err
	}
	return l.latencies(ctx, t, from)
}

func (l *live) finish(ctx context.Context) error {
	if err := l.process.stop(); err != nil {
		return err
	}
	return l.world.finish(ctx)
}

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
			t, err := l.timed(ctx, r.lasts(latencyLength), func() error { return nil })
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
