package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
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
