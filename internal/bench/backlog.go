package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/netdelay"
)

// What a backlog holds. A million events of 1,000 plazas close a window for every eight events, one
// million of 10,000 plazas more than one for every two.
func backlogEvents(plazas int) int {
	if plazas < 100 {
		return 2_000_000
	}
	return 1_000_000
}

// courseBacklog is the number of plazas whose backlog is compared with LOAD DATA.
const courseBacklog = 12

// backlogScenario works off a topic that was filled before, for each number of plazas.
func backlogScenario(c *Config) scenario {
	s := scenario{name: "backlog"}
	if len(c.Plazas) == 0 {
		return s
	}
	first := c.Plazas[0] // whose rows LOAD DATA loads
	for i, n := range c.Plazas {
		name := func(what string) string { return fmt.Sprintf("backlog_%d_%s", n, what) }
		title := fmt.Sprintf("backlog of %d plazas", n)
		cpu := figures.Figure{Name: name("cpu_s"), Title: title + ", CPU of `process`",
			Unit: figures.PerMillion}
		memory := figures.Figure{Name: name("memory_mb"), Title: title + ", peak memory",
			Unit:    figures.Megabytes,
			Highest: true}
		over12 := figures.Figure{Name: name("over_12"), Title: title + ", rows/s over that of 12"}
		if i == 0 {
			s.figures = append(s.figures,
				figures.Figure{Name: "load_1_rows", Title: "`LOAD DATA`, 1 connection, rows",
					Unit: figures.PerSecond, Shared: true},
				figures.Figure{Name: "load_4_rows", Title: "`LOAD DATA`, 4 connections, rows",
					Unit: figures.PerSecond, Shared: true})
			overLoad := figures.Figure{Name: name("over_load"),
				Title: title + ", rows/s over the better `LOAD DATA`"}
			if n == courseBacklog {
				overLoad = overLoad.Min(0.75)
			}
			s.figures = append(s.figures, overLoad)
		}
		switch n {
		case courseBacklog:
			cpu, memory = cpu.Max(1.25), memory.Max(96)
		case 1_000:
			over12, cpu, memory = over12.Min(0.7), cpu.Max(4), memory.Max(128)
		case 10_000:
			cpu, memory = cpu.Max(25), memory.Max(256)
		}
		if n != courseBacklog {
			s.figures = append(s.figures, over12)
		}
		s.figures = append(s.figures,
			figures.Figure{Name: name("rows"), Title: title + ", rows", Unit: figures.PerSecond}, cpu,
			figures.Figure{Name: name("mysql_cpu_s"), Title: title + ", CPU of MySQL",
				Unit: figures.PerMillion},
			figures.Figure{Name: name("kafka_cpu_s"), Title: title + ", CPU of Kafka",
				Unit: figures.PerMillion}, memory)
	}
	topic := func(n int) string { return fmt.Sprintf("backlog-%d", n) }
	var load float64 // of the round
	s.setUp = func(ctx context.Context, b *Bench) error {
		for _, n := range c.Plazas {
			events := b.events(backlogEvents(n))
			if err := b.fill(ctx, topic(n), backlogFeed(n, events)); err != nil {
				return err
			}
			if n == first {
				if err := b.writeRows(backlogFeed(n, events)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	s.shared = func(ctx context.Context, b *Bench) error {
		load = 0
		for _, connections := range []int{1, loadFiles} {
			rate, err := b.bareLoad(ctx, b.events(backlogEvents(first)), connections)
			if err != nil {
				return fmt.Errorf("LOAD DATA: %w", err)
			}
			b.record(fmt.Sprintf("load_%d_rows", connections), rate)
			load = max(load, rate)
		}
		return nil
	}
	s.measure = func(ctx context.Context, r *run) error {
		var of12 float64
		for _, n := range c.Plazas {
			done, err := r.workOff(ctx, topic(n), r.events(backlogEvents(n)), nil)
			if err != nil {
				return fmt.Errorf("%d plazas: %w", n, err)
			}
			record := func(what string, v float64) { r.record(fmt.Sprintf("backlog_%d_%s", n, what), v) }
			record("rows", done.rowsPerSecond)
			if n == first {
				record("over_load", done.rowsPerSecond/load)
			}
			if n == courseBacklog {
				of12 = done.rowsPerSecond
			} else if of12 > 0 {
				record("over_12", done.rowsPerSecond/of12)
			}
			record("cpu_s", done.cpu)
			record("mysql_cpu_s", done.mysqlCPU)
			record("kafka_cpu_s", done.kafkaCPU)
			record("memory_mb", done.memoryMB)
		}
		return nil
	}
	s.tearDown = func(ctx context.Context, b *Bench) error { return b.deleteTopics(ctx, "backlog-") }
	return s
}

// fill makes a topic and fills it.
func (b *Bench) fill(ctx context.Context, topic string, next feed) error {
	if err := b.createTopic(ctx, topic, b.cfg.Partitions); err != nil {
		return err
	}
	return b.sendAll(ctx, topic, next)
}

// workedOff is what it took to work off a topic.
type workedOff struct {
	rowsPerSecond           float64 // from the first fetch to the last commit
	cpu, mysqlCPU, kafkaCPU float64 // seconds per million
	memoryMB                float64
}

// workOff lets `process` work off a topic into a new database. Its CPU is that of the whole
// command, the start included. prepare may change the world before; nil changes nothing.
func (r *run) workOff(ctx context.Context, topic string, events int, prepare func(*world) error) (
	*workedOff, error) {
	w, err := r.newWorld(ctx, topic, r.cfg.Partitions)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		if err := prepare(w); err != nil {
			return nil, err
		}
	}
	u, err := startUsage(r.database.Pid(), r.kafka.Pid())
	if err != nil {
		return nil, err
	}
	p, err := w.process(ctx, w.state, "--until-end")
	if err != nil {
		return nil, err
	}
	if err := p.wait(); err != nil {
		return nil, err
	}
	servers, err := u.spent()
	if err != nil {
		return nil, err
	}
	began, ok := p.fetching()
	if !ok {
		return nil, fmt.Errorf("process did not log when it began: %s", cut(string(p.log.Bytes())))
	}
	_, last, err := w.committed(ctx, time.Time{}.AddDate(1999, 0, 0))
	if err != nil {
		return nil, err
	}
	if rows, err := w.rows(ctx); err != nil || rows != events {
		return nil, fmt.Errorf("livetolldata holds %d rows, want %d (%w)", rows, events, err)
	}
	million := float64(events) / 1e6
	return &workedOff{
		rowsPerSecond: float64(events) / last.Sub(began).Seconds(),
		cpu:           p.cpu().Seconds() / million,
		mysqlCPU:      servers[0].Seconds() / million,
		kafkaCPU:      servers[1].Seconds() / million,
		memoryMB:      p.memoryMB,
	}, w.finish(ctx)
}

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
