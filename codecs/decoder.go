// Package codecs reads events as CSV, JSON and Protobuf and writes them, and reads plazas files.
//
// Events come from producers that aren't ours, so decoding them is lenient in form and strict in
// content: whatever is accepted fits a row of livetolldata as it is, and whatever is not is a
// [toll.MalformedError] whose text is short, printable ASCII and names field and value. See
// [Decoder].
package codecs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// What an event's errors are about.
const (
	fieldEvent   = toll.RejectFormat
	fieldTime    = toll.RejectTime
	fieldVehicle = toll.RejectVehicle
	fieldType    = toll.RejectType
	fieldPlaza   = toll.RejectPlaza
)

// maxTypes bounds the table of vehicle types that a [Decoder] remembers. Real streams have a
// handful; when a hostile one fills the table, it is emptied and starts again.
const maxTypes = 1024

// Decoder parses events.
//
// It remembers the vehicle types it has seen and the last date, so that an event like the one
// before costs no allocation. It is for one goroutine.
type Decoder struct {
	format Format
	times  timestamps
	types  map[string]string // valid vehicle types

	schemas map[uint32]*Schema // of a schema registry, by id

	mapping *mapping.Mapping               // nil for the course's form
	message protoreflect.MessageDescriptor // of the mapping, or nil
	more    []toll.Event                   // of the payload, behind its first
	n       int                            // its events so far; unspecified where there is one
	tree    any                            // the payload, see [Decoder.Tree]

	columns [mapping.Fields]int // of CSV, from 0; -1 where the header row names it, and is to come
	fields  [][]byte            // of a row of CSV
}

// NewDecoder returns a decoder that reads payloads without a content type as format. Instants,
// which JSON and Protobuf carry, become wall times of the zone.
func NewDecoder(format Format, zone *toll.Zone) *Decoder {
	loc := time.UTC
	if zone != nil {
		loc = zone.Location()
	}
	return &Decoder{format: format, times: timestamps{loc: loc}, types: make(map[string]string)}
}

// NewMappedDecoder returns a decoder of CSV and JSON in the form that a mapping describes; nil is
// the course's.
func NewMappedDecoder(format Format, zone *toll.Zone, m *mapping.Mapping) *Decoder {
	d := NewDecoder(format, zone)
	d.setMapping(m)
	return d
}

// MaxEvents is the most events that a payload may hold.
const MaxEvents = 10_000

// Decode is [Decoder.DecodeAll] of a payload that must hold one event.
func (d *Decoder) Decode(payload []byte, contentType string, e *toll.Event) error {
	more, err := d.DecodeAll(payload, contentType, e)
	if err == nil && len(more) > 0 {
		return severalEvents(1 + len(more))
	}
	return err
}

func severalEvents(n int) error {
	return toll.Malformed(toll.RejectRows, "%d events in a record, where one is expected", n)
}

// DecodeAll parses one payload: its first event into e, and those that follow it, which few
// payloads have, into more, which is valid until the next call. Both keep nothing of payload. The
// error is always a [toll.MalformedError]; the events are then unspecified: an event that is
// malformed makes the whole payload so, and the error says which it is.
//
// A content type that names a format (parameters after ';' and case don't matter) decides; any
// other is treated as none. Without one the decoder's format decides, and Auto takes for JSON what
// begins with '{' or '[' and for CSV anything else.
//
// As CSV an event is the course's line,
//
//	Thu Feb 10 10:23:02 2022,3728373,car,4856
//
// with blanks around fields ignored, a trailing line end too. A field may be quoted as in RFC 4180.
// Several events are several lines.
//
// As JSON it is one object,
//
//	{"timestamp":"2022-02-10T10:23:02+01:00","vehicle_id":3728373,"vehicle_type":"car",
//	 "toll_plaza_id":4856}
//
// where "time" and "plaza_id" serve as names too, ids may be numbers or strings of digits, and
// unknown fields are ignored. Of a field given twice the last counts; null is as good as missing.
// Names are case-sensitive. Several events are a list, or one object behind the other.
//
// In both, a timestamp is one of
//
//	Thu Feb 10 10:23:02 2022
//	2022-02-10 10:23:02
//	2022-02-10T10:23:02.250+01:00
//
// The first two are wall times and taken as they are; with Z or an offset it is an instant.
// Fractions of a second are cut off. The weekday must be one, but may contradict the date: the date
// is what counts, and a row holds no weekday.
//
// As Protobuf it is the message of package tollpb.
//
// A payload in Confluent's framing is read by its schema, see [Decoder.Lacks].
func (d *Decoder) DecodeAll(payload []byte, contentType string, e *toll.Event) (more []toll.Event,
	err error) {
	d.restart()
	err = d.decode(payload, contentType, e)
	return d.more, err
}

// Tree returns the payload that was decoded last as maps, lists and values; nil where it was not
// read as such, like CSV, or JSON without a mapping.
func (d *Decoder) Tree() any { return d.tree }

// restart forgets the events of a payload.
func (d *Decoder) restart() { d.more, d.n, d.tree = d.more[:0], 0, nil }

// next returns where the next event of a payload goes, of which e takes the first.
func (d *Decoder) next(e *toll.Event) (*toll.Event, error) {
	d.n++
	switch {
	case d.n == 1:
		return e, nil
	case d.n > MaxEvents:
		return nil, toll.Malformed(toll.RejectRows, "more than 10,000 events in a record")
	}
	d.more = append(d.more, toll.Event{})
	return &d.more[d.n-2], nil
}

// which makes an error say which of several events is at fault: the last that next was asked for.
func (d *Decoder) which(err error, several bool) error {
	var malformed *toll.MalformedError
	if !several || !errors.As(err, &malformed) {
		return err
	}
	return toll.Malformed(malformed.Kind, "%s, in event %d of the record", malformed.Reason, d.n)
}

func (d *Decoder) decode(payload []byte, contentType string, e *toll.Event) error {
	if len(payload) == 0 {
		return toll.Malformed(fieldEvent, "empty")
	}
	format := d.format
	if contentType != "" {
		if named := formatOf(contentType); named != Auto {
			format = named
		}
	}
	if payload[0] == 0 {
		if id := SchemaID(payload); id != 0 {
			return d.decodeFramed(id, payload, format, e)
		}
	}
	if d.mapping != nil && format != Protobuf {
		return d.decodeMapped(format, payload, e)
	}
	switch format {
	case CSV:
		return d.decodeCSV(payload, e)
	case JSON:
		return d.decodeJSON(payload, e)
	case Protobuf:
		return d.decodeMessage(payload, d.message, e)
	}
	if looksLikeJSON(payload) {
		return d.decodeJSON(payload, e)
	}
	return d.decodeCSV(payload, e)
}

func looksLikeJSON(payload []byte) bool {
	for _, c := range payload {
		if !isBlank(c) {
			return c == '{' || c == '['
		}
	}
	return false
}

// vehicleType returns the remembered string of a vehicle type, once it is trimmed and found valid.
func (d *Decoder) vehicleType(b []byte) (string, error) {
	if t, ok := d.types[string(b)]; ok {
		return t, nil
	}
	b = trim(b)
	if t, ok := d.types[string(b)]; ok {
		return t, nil
	}
	t := string(b)
	if err := toll.ValidateType(t); err != nil {
		return "", err
	}
	if strings.Contains(t, "\n") {
		return t, nil // which the fast way must not take for known where no quotes are around it
	}
	if len(d.types) >= maxTypes {
		clear(d.types)
	}
	d.types[t] = t
	return t, nil
}

// parseVehicle and parsePlaza read the text of an id.

func parseVehicle(b []byte) (int32, error) {
	v, err := parseInteger(fieldVehicle, b, 0, toll.MaxVehicle)
	return int32(v), err
}

func parsePlaza(b []byte) (int16, error) {
	v, err := parseInteger(fieldPlaza, b, toll.MinPlaza, toll.MaxPlaza)
	return int16(v), err
}

// parseInteger reads decimal digits, after a '-' where there is one, and checks the range. 12.0 is
// 12, since spreadsheets and others that know only floats write it so.
func parseInteger(field toll.RejectKind, b []byte, lo, hi int64) (int64, error) {
	b = trim(b)
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(b) == 0 {
		return 0, toll.Malformed(field, "empty")
	}
	if len(digits) == 0 {
		return 0, toll.Malformed(field, "%s is not a whole number", clip(b))
	}
	const tooMany = 1 << 60
	var v int64
	for i, c := range digits {
		if c < '0' || c > '9' {
			if c == '.' && i > 0 && i+1 < len(digits) && len(bytes.Trim(digits[i+1:], "0")) == 0 {
				digits = digits[:i]
				break
			}
			return 0, toll.Malformed(field, "%s is not a whole number", clip(b))
		}
		if v < tooMany/10 {
			v = v*10 + int64(c-'0')
		} else {
			v = tooMany
		}
	}
	if negative {
		v = -v
	}
	if v < lo || v > hi {
		if len(b) > clipBytes {
			return 0, toll.Malformed(field, "a number of %d digits is outside %d to %d", len(digits), lo, hi)
		}
		return 0, toll.Malformed(field, "%s is outside %d to %d", b, lo, hi)
	}
	return v, nil
}

// outOfRange is the error for an id that isn't text.
func outOfRange(field toll.RejectKind, v, lo, hi int64) error {
	return toll.Malformed(field, "%d is outside %d to %d", v, lo, hi)
}

// clipBytes is how much of a value an error quotes.
const clipBytes = 40

// clip quotes a value for an error: in printable ASCII, and the beginning only of a long one.
func clip[T ~string | ~[]byte](v T) string {
	if len(v) <= clipBytes {
		return strconv.QuoteToASCII(string(v))
	}
	return strconv.QuoteToASCII(string(v[:clipBytes])) + "..."
}

// isBlank reports whether a byte is one of ASCII's blanks.
func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// trim returns b without the blanks around it.
func trim(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// Format is how an event is written.
type Format uint8

// The formats of events. Auto is for reading only: CSV or JSON, distinguished by the first byte.
const (
	Auto Format = iota
	CSV
	JSON
	Protobuf
)

// ContentTypeHeader is the header of a Kafka record that names the format of its value, see
// [Format.ContentType].
const ContentTypeHeader = "content-type"

var formatNames = [...]string{Auto: "auto", CSV: "csv", JSON: "json", Protobuf: "protobuf"}

var contentTypes = [...]string{CSV: "text/csv", JSON: "application/json",
	Protobuf: "application/x-protobuf"}

// ParseFormat returns the format of a name as [Format.String] gives it, in upper or lower case;
// Auto for an empty one.
func ParseFormat(s string) (Format, error) {
	if s == "" {
		return Auto, nil
	}
	for f, name := range formatNames {
		if strings.EqualFold(s, name) {
			return Format(f), nil
		}
	}
	return Auto, fmt.Errorf("format %s is not one of auto, csv, json, protobuf", clip(s))
}

func (f Format) String() string {
	if int(f) >= len(formatNames) {
		return fmt.Sprintf("Format(%d)", uint8(f))
	}
	return formatNames[f]
}

// ContentType returns the media type of the format, empty for Auto.
func (f Format) ContentType() string {
	if int(f) >= len(contentTypes) {
		return ""
	}
	return contentTypes[f]
}

// formatOf returns the format that a content type names; Auto if it names none.
func formatOf(contentType string) Format {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	for f := CSV; f <= Protobuf; f++ {
		if strings.EqualFold(media, contentTypes[f]) {
			return f
		}
	}
	if strings.EqualFold(media, "application/protobuf") {
		return Protobuf
	}
	return Auto
}
