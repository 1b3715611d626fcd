package bench

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/bench/figures"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// feed makes the next event, and returns false at the end.
type feed func(e *toll.Event) bool

// day is when the events of a backlog begin.
var day = time.Date(2022, 2, 10, 0, 0, 0, 0, time.UTC)

// eventsPerHour is how dense a backlog is in event time, so that the windows grow with the events.
const eventsPerHour = 1_000_000

// backlogFeed makes n events of some plazas, the same ones each time.
func backlogFeed(plazas, n int) feed {
	return limit(simulate.New(plazaNumbers(plazas), 1, simulate.Steady(day, eventsPerHour/3600.)), n)
}

func limit(g *simulate.Generator, n int) feed {
	return func(e *toll.Event) bool {
		n--
		g.Next(e)
		return n >= 0
	}
}

// liveFeed makes events that happen now.
func liveFeed(plazas int) feed {
	now := func() time.Time { return time.Now().UTC() }
	g := simulate.New(plazaNumbers(plazas), 2, simulate.Live(now))
	return func(e *toll.Event) bool { g.Next(e); return true }
}

// plazaNumbers returns n plazas, the course's where it has as many.
func plazaNumbers(n int) []int16 {
	if course := simulate.DefaultPlazas(); n <= len(course) {
		return course[:n]
	}
	plazas := make([]int16, n)
	for i := range plazas {
		plazas[i] = int16(i + 1)
	}
	return plazas
}

// The settings of `emit`, for franz-go's producer: idempotent, acknowledged by all replicas, not
// compressed.
const (
	producerBatchBytes    = 512 << 10
	producerBufferedBytes = 8 << 20
	producerLinger        = 10 * time.Millisecond
)

// producer sends events to a topic by franz-go.
type producer struct {
	client *kgo.Client
	failed atomic.Pointer[error]
	// The records are allocated by the thousand: the client keeps each until it is acknowledged.
	records []kgo.Record
	arena   []byte
	event   toll.Event
}

// newProducer returns a producer for a topic. Events have no keys unless opts say how they are
// placed, as with the course's generator: the partitions fill evenly.
func (s *servers) newProducer(topic string, opts ...kgo.Opt) (*producer, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.kafka.Addr()), kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(producerLinger), kgo.ProducerBatchMaxBytes(producerBatchBytes),
		kgo.MaxBufferedRecords(1 << 30), kgo.MaxBufferedBytes(producerBufferedBytes),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
	}, opts...)...)
	return &producer{client: client}, err
}

// send sends the feed's next event, with a key unless that is nil.
func (p *producer) send(ctx context.Context, next feed, key func(plaza int16) []byte) bool {
	if !next(&p.event) {
		return false
	}
	if len(p.records) == 0 {
		p.records = make([]kgo.Record, 1024)
		p.arena = make([]byte, 0, 64<<10) // what is in use stays where append moves it
	}
	record := &p.records[0]
	p.records = p.records[1:]
	start := len(p.arena)
	p.arena = codecs.AppendCSV(p.arena, &p.event)
	record.Value = p.arena[start:]
	if key != nil {
		record.Key = key(p.event.Plaza)
	}
	p.client.Produce(ctx, record, func(_ *kgo.Record, err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
	})
	return true
}

// close waits for the acknowledgements.
func (p *producer) close(ctx context.Context) error {
	defer p.client.Close()
	if err := p.client.Flush(ctx); err != nil {
		return err
	}
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// sendAll sends all events of a feed.
func (s *servers) sendAll(ctx context.Context, topic string, next feed) error {
	p, err := s.newProducer(topic)
	if err != nil {
		return err
	}
	for p.send(ctx, next, nil) {
	}
	return p.close(ctx)
}

// tick is how finely a steady rate is spread.
const tick = time.Millisecond

// sendSteadily sends events of now at a rate until the function returned is called.
func (s *servers) sendSteadily(ctx context.Context, topic string, plazas, rate int) (
	stop func() error, err error) {
	p, err := s.newProducer(topic)
	if err != nil {
		return nil, err
	}
	next := liveFeed(plazas)
	sending, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		began, sent := time.Now(), 0
		for {
			for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
				p.send(ctx, next, nil)
			}
			select {
			case <-ticker.C:
			case <-sending.Done():
				return
			}
		}
	}()
	return func() error {
		cancel()
		<-ended
		return p.close(ctx)
	}, nil
}

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
