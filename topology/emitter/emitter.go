// Package emitter sends events to their topic, each stored once and in order.
package emitter

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"strconv"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// Config says where an [Emitter] sends events, and how they are written.
type Config struct {
	Cluster kafka.Cluster
	Topic   string
	// Format of the events: CSV, JSON or Protobuf; Auto is CSV. JSON and Protobuf are sent with a
	// content type. CSV is sent without, so that its records equal the course's.
	Format codecs.Format
	// Location of the plazas' clocks, which makes instants of wall times for JSON and Protobuf. Nil is
	// UTC.
	Location *time.Location
	// OnAway is called once when Kafka can't be reached, or has refused records for a second or not
	// answered for three; OnBack when it takes them again. May be nil. They are called from several
	// goroutines, one at a time.
	OnAway func(error)
	OnBack func()
}

// Stats counts events. What is in none of Acknowledged and Failed is still on its way, or,
// after Close, may or may not be in the topic.
type Stats struct {
	Emitted      int64
	Acknowledged int64 // in the topic, on all replicas, exactly once
	Failed       int64 // refused by the broker: not in the topic
}

// Emitter sends events to a topic through a goka emitter, keyed by plaza, in the order of sending.
// Broker outages are waited out, and a record that is sent again is stored once. Emit and EmitRaw
// are for one goroutine.
type Emitter struct {
	goka     *goka.Emitter
	producer *eventProducer
	keys     map[int16]string
	raw      rawPayload
}

// rawPayload passes bytes through goka's emitter without an allocation.
type rawPayload struct{ bytes []byte }

// emitCodec is the codec under an emitter. It writes each event over the one before, since the
// producer copies what it is given.
type emitCodec struct {
	*codecs.EventCodec // for what is neither an event nor a payload
	format             codecs.Format
	zone               *toll.Zone
	buf                []byte
	csv                codecs.CSVWriter
}

func newEmitCodec(format codecs.Format, location *time.Location) *emitCodec {
	if location == nil {
		location = time.UTC
	}
	zone := toll.NewZone(location)
	return &emitCodec{EventCodec: codecs.NewEventCodec(format, zone), format: format,
		zone: zone.Clone()}
}

// Encode implements goka.Codec.
func (c *emitCodec) Encode(value any) ([]byte, error) {
	switch v := value.(type) {
	case *rawPayload:
		return v.bytes, nil
	case *toll.Event:
		if err := v.Validate(); err != nil {
			return nil, err
		}
		switch {
		case c.format == codecs.JSON:
			c.buf = codecs.AppendJSON(c.buf[:0], v, c.zone)
		case c.format == codecs.Protobuf:
			c.buf = codecs.AppendProtobuf(c.buf[:0], v, c.zone)
		default:
			c.buf = c.csv.Append(c.buf[:0], v)
		}
		return c.buf, nil
	}
	return c.EventCodec.Encode(value)
}

// New connects an emitter. It waits until Kafka answers, or ctx ends. That the topic does
// not exist is a [toll.PermanentError]; it is never created.
func New(ctx context.Context, cfg Config) (*Emitter, error) {
	p, err := connectProducer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	builder := func([]string, string, func() hash.Hash32) (goka.Producer, error) { return p, nil }
	g, err := goka.NewEmitter(cfg.Cluster.Brokers, goka.Stream(cfg.Topic),
		newEmitCodec(cfg.Format, cfg.Location),
		goka.WithEmitterProducerBuilder(builder),
		goka.WithEmitterHasher(kafka.Hasher),
		goka.WithEmitterLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("make the emitter of topic %s: %w", cfg.Topic, err)
	}
	return &Emitter{goka: g, producer: p, keys: map[int16]string{}}, nil
}

// Emit sends an event. It returns when the event is taken, which blocks while too much is on its
// way; [Emitter.Stats] and [Emitter.Flush] report what was acknowledged.
func (e *Emitter) Emit(ctx context.Context, event *toll.Event) error {
	if err := e.producer.waitForRoom(ctx); err != nil {
		return err
	}
	_, err := e.goka.Emit(e.Key(event.Plaza), event)
	return err
}

// EmitRaw sends a payload as it is. An empty key sends it without one, to any partition; a nil
// payload is a tombstone. Without headers it has those of the format; give an empty map for none.
func (e *Emitter) EmitRaw(ctx context.Context, key string, payload []byte,
	headers goka.Headers) error {
	if err := e.producer.waitForRoom(ctx); err != nil {
		return err
	}
	var value any
	if payload != nil {
		e.raw.bytes = payload
		value = &e.raw
	}
	_, err := e.goka.EmitWithHeaders(key, value, headers)
	return err
}

// Key returns the key of a plaza's events.
func (e *Emitter) Key(plaza int16) string {
	key, ok := e.keys[plaza]
	if !ok {
		key = strconv.Itoa(int(plaza))
		e.keys[plaza] = key
	}
	return key
}

// monitor.Stats returns the counts up to now.
func (e *Emitter) Stats() Stats { return e.producer.stats() }

// Flush waits until all that was emitted is acknowledged or failed, or ctx ends. It returns the
// first failure.
func (e *Emitter) Flush(ctx context.Context) error { return e.producer.flush(ctx) }

// Close flushes, gives up what is not acknowledged when ctx ends, and disconnects. It returns why
// not all was acknowledged.
func (e *Emitter) Close(ctx context.Context) error {
	err := e.producer.flush(ctx)
	e.producer.stop()
	if finishErr := e.goka.Finish(); err == nil {
		err = finishErr
	}
	return err
}

// connectProducer waits until Kafka answers.
func connectProducer(ctx context.Context, cfg Config) (*eventProducer, error) {
	away, started := false, time.Now()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 50*time.Millisecond, 2*time.Second
	var p *eventProducer
	err := wait.Retry(ctx, pauses, func() (err error) {
		p, err = dialProducer(ctx, cfg)
		switch {
		case err == nil || ctx.Err() != nil || toll.IsPermanent(err):
		case !away && (errors.Is(err, syscall.ECONNREFUSED) || time.Since(started) > awayAfter):
			away = true
			if cfg.OnAway != nil {
				cfg.OnAway(err)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if away && cfg.OnBack != nil {
		cfg.OnBack()
	}
	return p, nil
}

// dialProducer makes one attempt.
func dialProducer(ctx context.Context, cfg Config) (*eventProducer, error) {
	admin, err := cfg.Cluster.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	switch _, found, err := admin.Topic(ctx, cfg.Topic); {
	case err != nil:
		return nil, kafka.Explain(err)
	case !found:
		return nil, missingTopic(cfg.Topic)
	}
	most := maxBatchBytes
	// else this user may not know
	if settings, err := admin.Settings(ctx, cfg.Topic, maxMessageBytes); err == nil {
		if n, err := strconv.Atoi(settings[maxMessageBytes]); err == nil {
			most = max(1, min(most, n))
		}
	}
	return newEventProducer(ctx, cfg, most)
}

const maxMessageBytes = "max.message.bytes"

func missingTopic(topic string) error {
	return toll.Permanent("tollstream init", "topic %s does not exist", topic)
}
