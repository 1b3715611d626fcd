package deadletters

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/emitter"
	"github.com/tollstream/tollstream/topology/ingest"
)

const repairHint = "give the repaired event with --payload or --payload-file"

// Retrier sends dead letters again.
type Retrier struct {
	con     endpoint.Connection
	format  codecs.Format
	decoder *codecs.Decoder
	event   toll.Event // of the payload decoded last, its first
	emitter *emitter.Emitter
}

// NewRetrier returns a retrier of payloads of a format, by a mapping where there is one. It refuses
// a database that is not of this topic: an event would go where nobody knows its origin.
func NewRetrier(ctx context.Context, con endpoint.Connection, store *sql.Store,
	format codecs.Format, m *mapping.Mapping) (*Retrier, error) {
	info, err := con.Cluster.DescribeEvents(ctx, con.Topic)
	if err != nil {
		return nil, err
	}
	if _, err := store.Check(ctx, con.Identity(info.ID)); err != nil {
		return nil, err
	}
	if m != nil && m.Descriptor != nil && format == codecs.Auto {
		format = codecs.Protobuf
	}
	return &Retrier{con: con, format: format,
		decoder: codecs.NewMappedDecoder(format, toll.NewZone(con.Location), m)}, nil
}

// decode reads a payload as process will.
func (r *Retrier) decode(payload []byte) error {
	if payload == nil {
		return toll.Malformed(toll.RejectTombstone, "no value (a tombstone)")
	}
	_, err := r.decoder.DecodeAll(payload, r.contentType(payload), &r.event)
	return err
}

// contentType names the format of a payload, so that process reads it as it was read here, whatever
// its own --format.
func (r *Retrier) contentType(payload []byte) string {
	if codecs.SchemaID(payload) != 0 {
		return "" // its schema tells
	}
	format := r.format
	if format == codecs.Auto {
		format = codecs.CSV
		if text := bytes.TrimSpace(payload); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
			format = codecs.JSON
		}
	}
	return format.ContentType()
}

func (r *Retrier) open(ctx context.Context) (err error) {
	r.emitter, err = emitter.New(ctx,
		emitter.Config{Cluster: r.con.Cluster, Topic: r.con.Topic, Location: r.con.Location})
	return err
}

// send sends the payload that was decoded last.
func (r *Retrier) send(ctx context.Context, origin toll.Origin, payload []byte) error {
	headers := goka.Headers{ingest.RetryHeader: []byte(ingest.FormatOrigin(origin))}
	if contentType := r.contentType(payload); contentType != "" {
		headers[codecs.ContentTypeHeader] = []byte(contentType)
	}
	return r.emitter.EmitRaw(ctx, r.emitter.Key(r.event.Plaza), payload, headers)
}

// retryGrace is how long an interrupted retry waits for acknowledgements.
const retryGrace = 5 * time.Second

// close waits until all is acknowledged and returns the first failure.
func (r *Retrier) close(ctx context.Context, err error) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryGrace)
	defer cancel()
	if closeErr := r.emitter.Close(grace); err == nil {
		err = closeErr
	}
	return err
}

// One sends a dead letter again with a payload, and describes what it sent.
func (r *Retrier) One(ctx context.Context, d *sql.DeadLetter, payload []byte) (string, error) {
	name := ingest.FormatOrigin(d.Origin())
	if d.Retried {
		return "", fmt.Errorf("dead letter %s was retried before, and its event is stored", name)
	}
	if d.Kind == toll.RejectRetried {
		return "", fmt.Errorf("dead letter %s is a second retry, whose event is stored: %s", name,
			text.Escape(d.Reason))
	}
	if d.RetryOf != nil {
		of := ingest.FormatOrigin(*d.RetryOf)
		return "", hint.With(
			fmt.Errorf("dead letter %s is itself a retry, of %s, and only that is sent again",
				name, of),
			fmt.Sprintf(
				"tollstream dead-letters show --raw %s > payload; tollstream dead-letters retry %s "+
					"--payload-file payload", name, of))
	}
	if err := r.decode(payload); err != nil {
		return "", hint.With(fmt.Errorf("not sent, since it still is no event: %w", err), repairHint)
	}
	if err := r.open(ctx); err != nil {
		return "", err
	}
	err := r.send(ctx, d.Origin(), payload)
	if err = r.close(ctx, err); err != nil {
		return "", err
	}
	e := r.event
	return fmt.Sprintf("sent %s again: %s %s %d at plaza %d; process stores it once",
		name, e.Time, text.Escape(e.Type), e.Vehicle, e.Plaza), nil
}

// Retried is how many dead letters were sent again, and how many were not.
type Retried struct {
	Sent      int64 `json:"sent"`
	Malformed int64 `json:"malformed"` // still no events
	Refused   int64 `json:"refused"`   // by the database, and so left alone
}

// All sends all dead letters again that can be read as they are. What the database refused is among
// them only if refused is set.
func (r *Retrier) All(ctx context.Context, store *sql.Store, refused bool) (Retried, error) {
	var result Retried
	open := false
	no := false
	err := store.EachDeadLetter(ctx, sql.DeadLetterFilter{Retried: &no},
		func(d *sql.DeadLetter) error {
			switch {
			case d.Kind == toll.RejectRetried, d.RetryOf != nil:
				// Its event is stored, or is that of the dead letter that it was to repair. Both of them sent
				// would be two rows.
				return nil
			case d.Kind == toll.RejectRefused && !refused:
				result.Refused++
				return nil
			case int64(len(d.Payload)) < d.PayloadBytes || r.decode(d.Payload) != nil:
				result.Malformed++
				return nil
			}
			if !open {
				open = true
				if err := r.open(ctx); err != nil {
					return err
				}
			}
			result.Sent++
			return r.send(ctx, d.Origin(), d.Payload)
		})
	if r.emitter != nil {
		err = r.close(ctx, err)
		result.Sent = r.emitter.Stats().Acknowledged
	}
	return result, err
}

// String writes the result for a person.
func (result Retried) String() string {
	line := fmt.Sprintf("sent %s again", text.Count(result.Sent, "dead letter"))
	if result.Sent == 0 {
		line = "nothing to send"
	}
	if result.Malformed > 0 {
		line += fmt.Sprintf("; %s still no event", text.Count(result.Malformed, "is", "are"))
	}
	if result.Refused > 0 {
		line += fmt.Sprintf("; %s refused by the database: --refused sends them too",
			text.Count(result.Refused, "was", "were"))
	}
	return line
}
