// Package mapping says where an event's fields stand in records and files that are not in the
// course's form: which columns or JSON paths, which form of time, which delimiter.
//
// A mapping is one line of text, so that it fits a flag, a variable and a settings file:
//
//	time=Timestamp toll_plaza_id=payload.plazaId time_format=epoch_ms
package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollstream/tollstream/toll"
)

// Field is one of an event's four fields.
type Field int

// The fields, in the order of the course's columns.
const (
	Time Field = iota
	Vehicle
	Type
	Plaza
	Fields // how many there are
)

var fieldNames = [Fields]toll.RejectKind{toll.RejectTime, toll.RejectVehicle, toll.RejectType,
	toll.RejectPlaza}

// Kind returns the kind of the dead letters of which the field is at fault.
func (f Field) Kind() toll.RejectKind { return fieldNames[f] }

// String returns the field's name, as it stands in mappings and in the reasons of dead letters.
func (f Field) String() string { return string(fieldNames[f]) }

// Place is where a field stands: a column's number from 1, a column's name in the header row, or a
// JSON path of names and indexes with dots between, from the outermost.
type Place string

// Column returns the index of a column that is given by its number, and whether it is one.
func (p Place) Column() (int, bool) {
	n, err := strconv.Atoi(string(p))
	return n - 1, err == nil && n >= 1 && n <= MaxColumns
}

// MaxColumns bounds the columns of a row that are looked at.
const MaxColumns = 1000

// Mapping says where an event's fields stand. Its zero value is the course's form.
type Mapping struct {
	Places [Fields]Place // "" for the course's column, and the usual names in JSON
	// Events is where the list of events stands in a record that wraps several; "" for one that is
	// its event. Places are then those in an event, and those that begin with [Outside] in the record.
	Events Place
	// Descriptors is a file of descriptors of Protobuf, and Message the full name of the message in it
	// that records hold; "" for the message of tollstream. [Mapping.Describe] sets Descriptor by them.
	Descriptors, Message string
	Descriptor           protoreflect.MessageDescriptor

	Format TimeFormat
	// Zone is of times that name none; nil for the database's.
	Zone *time.Location
	// Delimiter stands between the columns of CSV; 0 for a comma.
	Delimiter byte
	// Header says that CSV begins with a row of names even where columns are given by number.
	Header bool
}

// Named reports whether a column is given by its name, for which CSV needs a header row.
func (m *Mapping) Named() bool {
	for _, p := range m.Places {
		if _, ok := p.Column(); p != "" && !ok {
			return true
		}
	}
	return false
}

// HasHeader reports whether CSV begins with a row of names.
func (m *Mapping) HasHeader() bool { return m.Header || m.Named() }

// Comma returns the delimiter of CSV.
func (m *Mapping) Comma() byte {
	if m.Delimiter == 0 {
		return ','
	}
	return m.Delimiter
}

var delimiters = []struct {
	name string
	char byte
}{{"comma", ','}, {"semicolon", ';'}, {"tab", '\t'}, {"pipe", '|'}}

// Delimiters returns those that CSV may have, the usual one first.
func Delimiters() []byte {
	var chars []byte
	for _, d := range delimiters {
		chars = append(chars, d.char)
	}
	return chars
}

// DelimiterName returns the name of a delimiter of CSV.
func DelimiterName(char byte) string {
	for _, d := range delimiters {
		if d.char == char {
			return d.name
		}
	}
	return strconv.QuoteToASCII(string(rune(char)))
}

// Keys of a mapping other than the fields.
const (
	keyEvents    = "events"
	keyFiles     = "descriptors"
	keyMessage   = "message"
	keyFormat    = "time_format"
	keyZone      = "timezone"
	keyDelimiter = "delimiter"
	keyHeader    = "header"
)

// Parse reads a mapping: pairs of KEY=VALUE with blanks between. A value with blanks stands in
// double quotes. The error names every pair that is wrong.
func Parse(s string) (*Mapping, error) {
	m, seen := &Mapping{}, map[string]bool{}
	var errs []error
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		var key, value string
		var err error
		if key, value, s, err = cutPair(s); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
		if seen[key] {
			err = fmt.Errorf("%s is given twice", key)
		} else {
			err = m.set(key, value)
		}
		seen[key] = true
		errs = append(errs, err)
	}
	if seen[keyMessage] && !seen[keyFiles] {
		errs = append(errs, errors.New("message needs descriptors, a file that protoc wrote"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// cutPair reads the first pair of s.
func cutPair(s string) (key, value, rest string, err error) {
	key, rest, ok := strings.Cut(s, "=")
	if !ok || key == "" || strings.ContainsAny(key, " \t\r\n\"") {
		word, _, _ := strings.Cut(s, " ")
		return "", "", "", fmt.Errorf("%q is not KEY=VALUE, such as time=Timestamp", word)
	}
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		if value, rest, ok = strings.Cut(quoted, `"`); !ok {
			return "", "", "", fmt.Errorf("the quoted value of %s does not end", key)
		}
	} else if end := strings.IndexAny(rest, " \t\r\n"); end >= 0 {
		value, rest = rest[:end], rest[end:]
	} else {
		value, rest = rest, ""
	}
	if value == "" {
		return "", "", "", fmt.Errorf("%s has no value", key)
	}
	return key, value, rest, nil
}

func (m *Mapping) set(key, value string) (err error) {
	for f, name := range fieldNames {
		if key == string(name) {
			m.Places[f] = Place(value)
			return nil
		}
	}
	switch key {
	case keyEvents:
		m.Events = Place(value)
	case keyFiles:
		m.Descriptors = value
	case keyMessage:
		m.Message = value
	case keyFormat:
		m.Format, err = ParseTimeFormat(value)
	case keyZone:
		if m.Zone, err = time.LoadLocation(value); err != nil {
			err = fmt.Errorf("%s: %q is not a timezone such as Europe/Berlin", key, value)
		}
	case keyDelimiter:
		for _, d := range delimiters {
			if value == d.name || value == string(d.char) {
				m.Delimiter = d.char
				return nil
			}
		}
		return fmt.Errorf("%s: %q is none of comma, semicolon, tab, pipe", key, value)
	case keyHeader:
		if m.Header = value == "yes"; value != "yes" && value != "no" {
			err = fmt.Errorf("%s: %q is neither yes nor no", key, value)
		}
	default:
		err = fmt.Errorf("%q is none of time, vehicle_id, vehicle_type, toll_plaza_id, "+
			"events, descriptors, message, time_format, timezone, delimiter, header", key)
	}
	return err
}

// String writes a mapping as [Parse] reads it.
func (m *Mapping) String() string {
	var pairs []string
	add := func(key, value string) {
		if strings.ContainsAny(value, " \t") {
			value = `"` + value + `"`
		}
		pairs = append(pairs, key+"="+value)
	}
	for f, p := range m.Places {
		if p != "" {
			add(Field(f).String(), string(p))
		}
	}
	if m.Events != "" {
		add(keyEvents, string(m.Events))
	}
	if m.Message != "" {
		add(keyFiles, m.Descriptors)
		add(keyMessage, m.Message)
	}
	if m.Format != (TimeFormat{}) {
		add(keyFormat, m.Format.String())
	}
	if m.Zone != nil {
		add(keyZone, m.Zone.String())
	}
	if m.Delimiter != 0 {
		add(keyDelimiter, DelimiterName(m.Delimiter))
	}
	if m.Header && !m.Named() {
		add(keyHeader, "yes")
	}
	return strings.Join(pairs, " ")
}

// headings are names of columns and keys, in small letters and without what stands between words.
var headings = [Fields][]string{
	{"time", "timestamp", "datetime", "eventtime", "passedat", "passagetime", "ts"},
	{"vehicleid", "vehicle", "vehiclenumber"},
	{"vehicletype", "type", "vehicleclass", "class"},
	{"tollplazaid", "tollplaza", "plazaid", "plaza"},
}

// FieldOf returns the field that a column or a key is of by its name.
func FieldOf(name string) (Field, bool) {
	name = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
	for f, names := range headings {
		if slices.Contains(names, name) {
			return Field(f), true
		}
	}
	return 0, false
}

// ByName returns the mapping of a header row in which each of the fields has one column that is
// known by its name; nil where it is no such row.
func ByName(names []string) *Mapping {
	m := &Mapping{}
	for _, name := range names {
		f, ok := FieldOf(name)
		if !ok {
			continue
		}
		if m.Places[f] != "" {
			return nil
		}
		m.Places[f] = Place(strings.TrimSpace(name))
	}
	for _, place := range m.Places {
		if place == "" {
			return nil
		}
	}
	return m
}
