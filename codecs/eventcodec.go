package codecs

import (
	"fmt"
	"sync"

	"github.com/tollstream/tollstream/toll"
)

// EventCodec is a goka.Codec for events, meant for an emitter. Several goroutines may use it at
// once.
type EventCodec struct {
	format  Format
	mu      sync.Mutex // over both of the below
	zone    *toll.Zone
	decoder *Decoder
}

// NewEventCodec returns a codec that writes events in a format, CSV for Auto, and reads them as
// [NewDecoder] describes.
func NewEventCodec(format Format, zone *toll.Zone) *EventCodec {
	decoder := NewDecoder(format, zone)
	return &EventCodec{format: format, zone: toll.NewZone(decoder.times.loc), decoder: decoder}
}

// Encode writes a *toll.Event or toll.Event, unless it is invalid. A []byte is sent as it is:
// the lines of a file pass through it unparsed, malformed ones too.
func (c *EventCodec) Encode(value any) ([]byte, error) {
	var e *toll.Event
	switch v := value.(type) {
	case []byte:
		return v, nil
	case *toll.Event:
		e = v
	case toll.Event:
		e = &v
	default:
		return nil, fmt.Errorf("encode event: %T is neither an event nor bytes", value)
	}
	if e == nil {
		return nil, fmt.Errorf("encode event: it is nil")
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	dst := make([]byte, 0, 128)
	switch c.format {
	case JSON:
		c.mu.Lock()
		defer c.mu.Unlock()
		return AppendJSON(dst, e, c.zone), nil
	case Protobuf:
		c.mu.Lock()
		defer c.mu.Unlock()
		return AppendProtobuf(dst, e, c.zone), nil
	}
	return AppendCSV(dst, e), nil
}

// Decode returns a toll.Event.
func (c *EventCodec) Decode(data []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e toll.Event
	if err := c.decoder.Decode(data, "", &e); err != nil {
		return nil, err
	}
	return e, nil
}

// Raw is the goka.Codec of the input topic: bytes in, the same bytes out, and no failure. A codec
// that failed would end the processor, which would read the same message again at every start. So
// the ingest decodes, and what it can't decode becomes a dead letter.
type Raw struct{}

// Encode returns the []byte that it is given.
func (Raw) Encode(value any) ([]byte, error) {
	b, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("encode raw message: %T is not bytes", value)
	}
	return b, nil
}

// Decode returns data.
func (Raw) Decode(data []byte) (any, error) { return data, nil }
