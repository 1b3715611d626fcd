package codecs

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// Field numbers of tollpb.TollEvent.
const (
	pbUnixSeconds protowire.Number = 1
	pbVehicle     protowire.Number = 2
	pbType        protowire.Number = 3
	pbPlaza       protowire.Number = 4
)

// maxMessage bounds a message that is read by its descriptor, which takes much memory for a byte.
const maxMessage = 1 << 20

// decodeMessage reads a message by its descriptor, or that of tollstream where there is none.
func (d *Decoder) decodeMessage(p []byte, message protoreflect.MessageDescriptor,
	e *toll.Event) error {
	if message == nil {
		return d.decodeProtobuf(p, e)
	}
	if len(p) > maxMessage {
		return toll.Malformed(fieldEvent, "a Protobuf message of more than 1 MiB")
	}
	m := dynamicpb.NewMessage(message)
	if proto.Unmarshal(p, m) != nil {
		return toll.Malformed(fieldEvent, "not the Protobuf message %s", message.FullName())
	}
	return d.fromTree(mapping.Tree(m), false, e, nil)
}

// decodeProtobuf reads what tollpb's generated code would accept, without its allocations. As
// there, the last of a field counts, and a field that is unknown or of another wire type is
// ignored.
func (d *Decoder) decodeProtobuf(p []byte, e *toll.Event) error {
	var unix, vehicle, plaza int64
	var kind []byte
	var hasTime, hasVehicle, hasType, hasPlaza bool
	for len(p) > 0 {
		number, wire, n := protowire.ConsumeTag(p)
		if n < 0 || number > protowire.MaxValidNumber {
			return notProtobuf()
		}
		p = p[n:]
		switch {
		case wire == protowire.VarintType &&
			(number == pbUnixSeconds || number == pbVehicle || number == pbPlaza):
			var v uint64
			if v, n = protowire.ConsumeVarint(p); n < 0 {
				return notProtobuf()
			}
			switch number {
			case pbUnixSeconds:
				unix, hasTime = int64(v), true
			case pbVehicle:
				vehicle, hasVehicle = int64(v), true
			case pbPlaza:
				plaza, hasPlaza = protowire.DecodeZigZag(v), true
			}
		case wire == protowire.BytesType && number == pbType:
			if kind, n = protowire.ConsumeBytes(p); n < 0 {
				return notProtobuf()
			}
			if !utf8.Valid(kind) {
				return toll.Malformed(fieldType, "not valid UTF-8")
			}
			hasType = true
		default:
			if n = protowire.ConsumeFieldValue(number, wire, p); n < 0 {
				return notProtobuf()
			}
		}
		p = p[n:]
	}

	var err error
	switch {
	case !hasTime:
		return missing(fieldTime)
	case !hasVehicle:
		return missing(fieldVehicle)
	case !hasType:
		return missing(fieldType)
	case !hasPlaza:
		return missing(fieldPlaza)
	case vehicle < 0 || vehicle > toll.MaxVehicle:
		return outOfRange(fieldVehicle, vehicle, 0, toll.MaxVehicle)
	case plaza < toll.MinPlaza || plaza > toll.MaxPlaza:
		return outOfRange(fieldPlaza, plaza, toll.MinPlaza, toll.MaxPlaza)
	}
	if e.Time, err = d.times.wall(unix); err != nil {
		return toll.Malformed(fieldTime, "%d seconds since 1970 are %s", unix, err.Error())
	}
	e.Vehicle, e.Plaza = int32(vehicle), int16(plaza)
	e.Type, err = d.vehicleType(kind)
	return err
}

func notProtobuf() error { return toll.Malformed(fieldEvent, "not a Protobuf message") }

func missing(field toll.RejectKind) error { return toll.Malformed(field, "missing") }
