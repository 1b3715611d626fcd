package bench

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/bench/figures"
)

const (
	steadyRate   = 2_000
	steadyPlazas = 1_000
	// steadyLength is a whole minute, in which every plaza's minute window closes once.
	steadyLength = time.Minute
	// steadyTimed is how long latencies are measured after the CPU.
	steadyTimed = 10 * time.Second
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
			err = l.whileEventsCome(ctx, func() error {
				u, err := startUsage(l.process.cmd.Process.Pid, r.database.Pid(), r.kafka.Pid())
				if err != nil {
					return err
				}
				if err := sleep(ctx, r.lasts(steadyLength)); err != nil {
					return err
				}
				shares, err = u.percent()
				return err
			})
			if err != nil {
				return err
			}
			t, err := l.timed(ctx, r.lasts(steadyTimed))
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
	if err := sleep(ctx, b.warmUp()); err != nil {
		return 0, err
	}
	u, err := startUsage(b.kafka.Pid())
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, b.lasts(steadyLength/2)); err != nil {
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
