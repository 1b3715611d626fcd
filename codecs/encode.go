package codecs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tollstream/tollstream/toll"
)

// AppendCSV appends an event as the course's producer writes it, Python's time.ctime and all,
// without a line end:
//
//	Thu Feb 10 10:23:02 2022,3728373,car,4856
//
// A type with a comma, a quote or a line end is quoted as in RFC 4180.
func AppendCSV(dst []byte, e *toll.Event) []byte {
	return appendFields(e.Time.AppendFormat(dst, csvTime), e)
}

const csvTime = "Mon Jan _2 15:04:05 2006"

// CSVWriter writes events as AppendCSV does. It formats a time once for all events that follow each
// other in the same second, as that is most of the work.
type CSVWriter struct {
	second toll.WallTime
	text   []byte // of second; empty before the first event
}

// Append appends an event.
func (w *CSVWriter) Append(dst []byte, e *toll.Event) []byte {
	if len(w.text) == 0 || e.Time != w.second {
		w.second, w.text = e.Time, e.Time.AppendFormat(w.text[:0], csvTime)
	}
	return appendFields(append(dst, w.text...), e)
}

// appendFields appends what follows the time.
func appendFields(dst []byte, e *toll.Event) []byte {
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, int64(e.Vehicle), 10)
	dst = append(dst, ',')
	if strings.ContainsAny(e.Type, ",\"\n") {
		dst = append(dst, '"')
		dst = append(dst, strings.ReplaceAll(e.Type, `"`, `""`)...)
		dst = append(dst, '"')
	} else {
		dst = append(dst, e.Type...)
	}
	dst = append(dst, ',')
	return strconv.AppendInt(dst, int64(e.Plaza), 10)
}

// AppendJSON appends an event as JSON, its timestamp in RFC 3339 with the zone's offset:
//
//	{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car",
//	 "toll_plaza_id":4856}
//
// A wall time that the zone's clock skips in spring has no offset and is written without one; a
// decoder of the same zone reads it as it was.
func AppendJSON(dst []byte, e *toll.Event, zone *toll.Zone) []byte {
	dst = append(dst, `{"timestamp":"`...)
	unix, shown := zone.Instant(e.Time)
	east := int64(e.Time) - unix
	if minutes := east / 60; !shown {
		dst = e.Time.AppendFormat(dst, "2006-01-02T15:04:05")
	} else if east%60 == 0 {
		dst = e.Time.AppendFormat(dst, "2006-01-02T15:04:05")
		sign := byte('+')
		if minutes < 0 {
			sign, minutes = '-', -minutes
		}
		h, m := minutes/60, minutes%60
		dst = append(dst, sign, byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10))
	} else {
		// A historic local time with seconds in its offset, which RFC 3339 can't express.
		dst = toll.WallTime(unix).AppendFormat(dst, "2006-01-02T15:04:05Z")
	}
	dst = append(dst, `","vehicle_id":`...)
	dst = strconv.AppendInt(dst, int64(e.Vehicle), 10)
	dst = append(dst, `,"vehicle_type":`...)
	dst = appendJSONString(dst, e.Type)
	dst = append(dst, `,"toll_plaza_id":`...)
	dst = strconv.AppendInt(dst, int64(e.Plaza), 10)
	return append(dst, '}')
}

func appendJSONString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always marshals
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// AppendProtobuf appends an event as a tollpb.TollEvent. An instant can't say a wall time that the
// zone's clock skips: it comes back as the last second before the change.
func AppendProtobuf(dst []byte, e *toll.Event, zone *toll.Zone) []byte {
	dst = protowire.AppendTag(dst, pbUnixSeconds, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(zone.Unix(e.Time)))
	dst = protowire.AppendTag(dst, pbVehicle, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(e.Vehicle))
	dst = protowire.AppendTag(dst, pbType, protowire.BytesType)
	dst = protowire.AppendString(dst, e.Type)
	dst = protowire.AppendTag(dst, pbPlaza, protowire.VarintType)
	return protowire.AppendVarint(dst, protowire.EncodeZigZag(int64(e.Plaza)))
}

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
