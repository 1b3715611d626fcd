package codecs

import (
	"encoding/binary"
	"time"

	"github.com/twmb/avro"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// confluentHeader is the length of what Confluent's serializers write before a value: a zero byte
// and a schema's id, from 1. No event begins with a zero byte: it is neither a time, nor JSON, nor
// the tag of a Protobuf field.
const confluentHeader = 1 + 4

// SchemaID returns the id of the schema that a payload is framed by, 0 for a plain payload.
func SchemaID(payload []byte) uint32 {
	if len(payload) < confluentHeader || payload[0] != 0 {
		return 0
	}
	return binary.BigEndian.Uint32(payload[1:])
}

// Schema is what a schema registry holds by an id.
type Schema struct {
	format Format
	avro   *avro.Schema // nil for JSON and Protobuf
	why    string       // the values can't be read; "" if they can
}

// JSONSchema and ProtobufSchema are of values that are read as those without a frame.
var (
	JSONSchema     = &Schema{format: JSON}
	ProtobufSchema = &Schema{format: Protobuf}
)

// UnreadableSchema returns a schema whose values are dead letters for a reason.
func UnreadableSchema(why string) *Schema { return &Schema{why: why} }

// AvroSchema reads a schema of Avro. One that can't be read is an [UnreadableSchema].
func AvroSchema(text string) *Schema {
	wall := func(unit time.Duration) func(any, *avro.SchemaNode) (any, error) {
		return func(v any, _ *avro.SchemaNode) (any, error) {
			n, ok := v.(int64)
			if !ok {
				return nil, avro.ErrSkipCustomType
			}
			perSecond := int64(time.Second / unit)
			return mapping.WallClock(time.Unix(n/perSecond, n%perSecond*int64(unit))), nil
		}
	}
	parsed, err := avro.Parse(text,
		avro.CustomType{LogicalType: "local-timestamp-millis", Decode: wall(time.Millisecond)},
		avro.CustomType{LogicalType: "local-timestamp-micros", Decode: wall(time.Microsecond)},
		avro.CustomType{LogicalType: "local-timestamp-nanos", Decode: wall(time.Nanosecond)})
	if err != nil {
		return UnreadableSchema("is not Avro: " + clipText(err))
	}
	return &Schema{avro: parsed}
}

// maxSchemas bounds the schemas that a decoder remembers from batch to batch.
const maxSchemas = 256

// Lacks returns the id of the schema that the decoder has to learn before it decodes a payload, 0
// for none.
func (d *Decoder) Lacks(payload []byte) uint32 {
	id := SchemaID(payload)
	if id == 0 || d.schemas[id] != nil {
		return 0
	}
	return id
}

// Learn gives the decoder the schema of an id, which it keeps until [Decoder.Forget].
func (d *Decoder) Learn(id uint32, s *Schema) {
	if d.schemas == nil {
		d.schemas = map[uint32]*Schema{}
	}
	d.schemas[id] = s
}

// Forget drops the schemas that can't be read, since they may be registered later, and all where
// they are many. It also gives back what a payload of many events made it grow to. A payload must
// not be decoded again thereafter without asking [Decoder.Lacks].
func (d *Decoder) Forget() {
	const usual = 1024
	if cap(d.more) > usual {
		d.more = nil
	}
	if len(d.schemas) > maxSchemas {
		d.schemas = nil
	}
	for id, s := range d.schemas {
		if s.why != "" {
			delete(d.schemas, id)
		}
	}
}

// decodeFramed reads a payload of a schema registry's serializers. Without its schema JSON is told
// by its first byte, and Protobuf by the decoder's format or the content type.
func (d *Decoder) decodeFramed(id uint32, payload []byte, format Format, e *toll.Event) error {
	body := payload[confluentHeader:]
	s := d.schemas[id]
	switch {
	case s == nil && looksLikeJSON(body):
		s = JSONSchema
	case s == nil && format == Protobuf:
		s = ProtobufSchema
	case s == nil:
		return toll.Malformed(toll.RejectSchema,
			"framed by schema %d of a schema registry, which only --schema-registry can tell", id)
	case s.why != "":
		return toll.Malformed(toll.RejectSchema, "schema %d %s", id, s.why)
	}
	switch {
	case s.avro != nil:
		return d.decodeAvro(s.avro, body, e)
	case s.format == Protobuf:
		message, ok := skipIndexes(body)
		if !ok {
			return toll.Malformed(toll.RejectSchema, "the message indexes of schema %d are damaged", id)
		}
		return d.decodeMessage(message, e)
	case d.mapping != nil:
		return d.mappedJSON(body, e)
	}
	return d.decodeJSON(body, e)
}

func (d *Decoder) decodeAvro(s *avro.Schema, body []byte, e *toll.Event) error {
	var tree any
	rest, err := s.Decode(body, &tree)
	if err != nil {
		return toll.Malformed(fieldEvent, "not Avro of its schema: %s", clipText(err))
	}
	if len(rest) > 0 {
		return toll.Malformed(fieldEvent, "%d bytes follow the Avro of its schema", len(rest))
	}
	return d.fromTree(tree, false, e, nil)
}

// skipIndexes skips the indexes that say which message of a schema follows: their number, and each
// of them; a single 0 stands for the first message.
func skipIndexes(b []byte) ([]byte, bool) {
	v, n := protowire.ConsumeVarint(b)
	count := protowire.DecodeZigZag(v)
	if n < 0 || count < 0 {
		return nil, false
	}
	for b = b[n:]; count > 0; count-- {
		if _, n = protowire.ConsumeVarint(b); n < 0 {
			return nil, false
		}
		b = b[n:]
	}
	return b, true
}
