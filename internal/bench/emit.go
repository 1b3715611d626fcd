package bench

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/bench/figures"
)

const emitEvents = 2_000_000

// emitScenario measures `emit` as fast as it goes, and franz-go's producer with the same events.
// Both times run from connecting to the last acknowledgement.
func emitScenario() scenario {
	const topic = "emitted"
	var theirs float64 // of the round
	return scenario{
		name: "emit",
		figures: []figures.Figure{
			{Name: "kgo_events", Title: "franz-go's producer, events", Unit: figures.PerSecond,
				Shared: true},
			figures.Figure{Name: "emit_events", Title: "`emit` as fast as it goes, events",
				Unit: figures.PerSecond}.Min(300_000),
			figures.Figure{Name: "emit_over_kgo", Title: "`emit` over franz-go's producer"}.Min(1),
		},
		setUp: func(ctx context.Context, b *Bench) error {
			return b.createTopic(ctx, topic, b.cfg.Partitions)
		},
		shared: func(ctx context.Context, b *Bench) (err error) {
			if theirs, err = b.emitByKgo(ctx, topic); err == nil {
				b.record("kgo_events", theirs)
			}
			return err
		},
		measure: func(ctx context.Context, r *run) error {
			ours, err := r.emit(ctx, topic)
			if err != nil {
				return err
			}
			r.record("emit_events", ours)
			r.record("emit_over_kgo", ours/theirs)
			return nil
		},
		tearDown: func(ctx context.Context, b *Bench) error { return b.deleteTopics(ctx, topic) },
	}
}

// emitByKgo returns the events a second of franz-go's producer. They are keyed and placed as by
// emit.
func (b *Bench) emitByKgo(ctx context.Context, topic string) (float64, error) {
	placement := kgo.SaramaCompatHasher(func(key []byte) uint32 {
		h := fnv.New32a()
		h.Write(key)
		return h.Sum32()
	})
	keys := map[int16][]byte{}
	for _, plaza := range plazaNumbers(courseBacklog) {
		keys[plaza] = fmt.Append(nil, plaza)
	}
	n := b.events(emitEvents)
	next := liveFeed(courseBacklog)
	began := time.Now()
	p, err := b.newProducer(topic, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(placement)))
	if err != nil {
		return 0, err
	}
	for range n {
		p.send(ctx, next, func(plaza int16) []byte { return keys[plaza] })
	}
	if err := p.close(ctx); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// emittedAt matches the rate that emit prints at its end, which leaves out the start of the
// command.
var emittedAt = regexp.MustCompile(`([\d,]+) events/s`)

func (r *run) emit(ctx context.Context, topic string) (float64, error) {
	w := world{b: r.Bench, binary: r.cfg.Binaries[r.binary], name: "emit", topic: topic}
	w.use(r.kafka.Addr(), r.database.DSN())
	cmd := w.command(ctx, "emit", "--rate", "0", "--count", fmt.Sprint(r.events(emitEvents)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("emit: %w: %s", err, cut(string(out)))
	}
	rate := emittedAt.FindSubmatch(out)
	if rate == nil {
		return 0, fmt.Errorf("emit did not print its rate: %s", cut(string(out)))
	}
	return strconv.ParseFloat(strings.ReplaceAll(string(rate[1]), ",", ""), 64)
}
