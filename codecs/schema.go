package codecs

import (
	"context"
	"encoding/binary"

	"github.com/twmb/avro"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/codecs/tollpb"
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
	avro   *avro.Schema                // nil for JSON and Protobuf
	file   protoreflect.FileDescriptor // of Protobuf; nil for the message of tollstream
	why    string                      // the values can't be read; "" if they can
}

// JSONSchema and plainProtobuf are of values that are read as those without a frame.
var (
	JSONSchema    = &Schema{format: JSON}
	plainProtobuf = &Schema{format: Protobuf}
)

// UnreadableSchema returns a schema whose values are dead letters for a reason.
func UnreadableSchema(why string) *Schema { return &Schema{why: why} }

// AvroSchema reads a schema of Avro. One that can't be read is an [UnreadableSchema].
func AvroSchema(text string) *Schema {
	parsed, err := mapping.ParseAvro(text)
	if err != nil {
		return UnreadableSchema("is not Avro: " + clipText(err))
	}
	return &Schema{avro: parsed}
}

// ProtobufSchema compiles a schema of Protobuf as [mapping.Compile] does. One that can't be is read
// by a mapping that describes its message, and unreadable without one. The error is that of ctx.
func ProtobufSchema(ctx context.Context, text string, imports map[string]string) (*Schema, error) {
	file, err := mapping.Compile(ctx, text, imports)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return &Schema{format: Protobuf, why: "is not Protobuf: " + clipText(err)}, nil
	}
	return &Schema{format: Protobuf, file: file}, nil
}

// message returns the descriptor of the message at some indexes; nil for the message of tollstream.
// It reports false where there is none.
func (s *Schema) message(indexes []int) (_ protoreflect.MessageDescriptor, ok bool) {
	if s.file == nil {
		return nil, true
	}
	m := mapping.MessageAt(s.file, indexes)
	if m != nil && isOurs(m) {
		return nil, true
	}
	return m, m != nil
}

// isOurs reports whether a message has the fields of tollstream's, whatever its name is.
func isOurs(m protoreflect.MessageDescriptor) bool {
	ours, theirs := (*tollpb.TollEvent)(nil).ProtoReflect().Descriptor().Fields(), m.Fields()
	for i := range ours.Len() {
		field := ours.Get(i)
		f := theirs.ByNumber(field.Number())
		if f == nil || f.Name() != field.Name() || f.Kind() != field.Kind() || f.IsList() {
			return false
		}
	}
	return true
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
		s = plainProtobuf
	case s == nil:
		return toll.Malformed(toll.RejectSchema,
			"framed by schema %d of a schema registry, which only --schema-registry can tell", id)
	case s.why != "" && (s.format != Protobuf || d.message == nil):
		return toll.Malformed(toll.RejectSchema, "schema %d %s", id, s.why)
	}
	switch {
	case s.avro != nil:
		return d.decodeAvro(s.avro, body, e)
	case s.format == Protobuf:
		indexes, value, ok := mapping.Indexes(body)
		if !ok {
			return toll.Malformed(toll.RejectSchema, "the message indexes of schema %d are damaged", id)
		}
		message := d.message
		if message == nil {
			if message, ok = s.message(indexes); !ok {
				return toll.Malformed(toll.RejectSchema, "schema %d has no message at %v", id, indexes)
			}
		}
		return d.decodeMessage(value, message, e)
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
