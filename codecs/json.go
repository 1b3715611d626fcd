package codecs

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tollstream/tollstream/toll"
)

func (d *Decoder) decodeJSON(p []byte, e *toll.Event) error {
	if d.jsonFast(p, e) {
		return nil
	}
	d.restart()
	return d.jsonSlow(p, e)
}

// jsonFast reads valid events from flat objects of plain strings and integers. It is false for
// anything else, valid or not; where it is true, jsonSlow gives the same events.
func (d *Decoder) jsonFast(p []byte, e *toll.Event) bool {
	s := jsonScanner{p: p}
	list := s.skip('[')
	d.n = 1
	for into := e; ; {
		if !d.jsonObject(&s, into) {
			return false
		}
		switch {
		case list && s.skip(','):
		case list && !s.skip(']'):
			return false
		case s.atEnd():
			return !s.high || utf8.Valid(p)
		case list:
			return false
		}
		var err error
		if into, err = d.next(e); err != nil {
			return false
		}
	}
}

// jsonObject reads one event of those that jsonFast reads.
func (d *Decoder) jsonObject(s *jsonScanner, e *toll.Event) bool {
	if !s.skip('{') {
		return false
	}
	const hasTime, hasVehicle, hasType, hasPlaza, hasAll = 1, 2, 4, 8, 15
	seen := 0
	for {
		key, ok := s.text()
		if !ok || !s.skip(':') {
			return false
		}
		value, isText, ok := s.value()
		if !ok {
			return false
		}
		var err error
		switch string(key) {
		case "timestamp", "time":
			if !isText {
				return false
			}
			e.Time, err = d.times.parse(trim(value))
			seen |= hasTime
		case "vehicle_id":
			e.Vehicle, err = parseVehicle(value)
			seen |= hasVehicle
		case "vehicle_type":
			if !isText {
				return false
			}
			e.Type, err = d.vehicleType(value)
			seen |= hasType
		case "toll_plaza_id", "plaza_id":
			e.Plaza, err = parsePlaza(value)
			seen |= hasPlaza
		}
		if err != nil {
			return false
		}
		if s.skip(',') {
			continue
		}
		return s.skip('}') && seen == hasAll
	}
}

// jsonScanner walks through the flat part of JSON. Its methods skip blanks first.
type jsonScanner struct {
	p    []byte
	i    int
	high bool // a byte above ASCII was seen
}

func (s *jsonScanner) blanks() {
	for s.i < len(s.p) {
		switch s.p[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

func (s *jsonScanner) atEnd() bool {
	s.blanks()
	return s.i == len(s.p)
}

func (s *jsonScanner) skip(c byte) bool {
	if s.i < len(s.p) && s.p[s.i] <= ' ' {
		s.blanks()
	}
	if s.i < len(s.p) && s.p[s.i] == c {
		s.i++
		return true
	}
	return false
}

// text reads a string without escapes.
func (s *jsonScanner) text() ([]byte, bool) {
	if !s.skip('"') {
		return nil, false
	}
	rest := s.p[s.i:]
	for n, c := range rest {
		switch {
		case c == '"':
			s.i += n + 1
			return rest[:n], true
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			s.high = true
		}
	}
	return nil, false
}

// value reads a string without escapes or an integer.
func (s *jsonScanner) value() (value []byte, isText, ok bool) {
	s.blanks()
	if s.i < len(s.p) && s.p[s.i] == '"' {
		value, ok = s.text()
		return value, true, ok
	}
	from := s.i
	if s.i < len(s.p) && s.p[s.i] == '-' {
		s.i++
	}
	digits := s.i
	for s.i < len(s.p) && isDigit(s.p[s.i]) {
		s.i++
	}
	// What follows an integer must end the value: JSON has no leading zeros, and 12.0 and 1e3 go the
	// slow way.
	n := s.i - digits
	if n == 0 || n > 1 && s.p[digits] == '0' || s.i < len(s.p) &&
		(s.p[s.i] == '.' || s.p[s.i] == 'e' || s.p[s.i] == 'E') {
		return nil, false, false
	}
	return s.p[from:s.i], false, true
}

// jsonSlow reads any objects, or reports what is wrong with them. The depth of what is ignored is
// bounded by encoding/json, to 10,000. An escaped half of a surrogate pair, which is no character,
// is refused where it matters.
func (d *Decoder) jsonSlow(p []byte, e *toll.Event) error {
	return jsonObjects(p, func(object []byte, several bool) error {
		into, err := d.next(e)
		if err == nil {
			err = d.which(d.jsonEvent(object, into), several)
		}
		return err
	})
}

// jsonObjects calls each with the objects of a payload: of a list, or one behind the other. several
// says that there are more than one. What is none of these is an error.
func jsonObjects(p []byte, each func(object []byte, several bool) error) error {
	p = trim(p)
	notJSON := func(text []byte) error {
		var any json.RawMessage
		return toll.Malformed(fieldEvent, "not JSON: %s", clipText(json.Unmarshal(text, &any)))
	}
	switch {
	case len(p) == 0:
		return toll.Malformed(fieldEvent, "empty")
	case !utf8.Valid(p):
		return toll.Malformed(fieldEvent, "not valid UTF-8")
	case p[0] != '{' && json.Valid(p):
	case p[0] != '{':
		return notJSON(p)
	case json.Valid(p):
		return each(p, false)
	}
	walk := json.NewDecoder(bytes.NewReader(p))
	list := p[0] == '['
	if list {
		_, _ = walk.Token()
		if !walk.More() {
			return toll.Malformed(fieldEvent, "an empty list")
		}
	}
	for several := false; walk.More(); {
		var object json.RawMessage
		begin := walk.InputOffset()
		if err := walk.Decode(&object); err != nil {
			return notJSON(p[begin:])
		}
		rest := trim(p[walk.InputOffset():])
		if !list && len(rest) > 0 && rest[0] != '{' {
			return notJSON(p)
		}
		several = several || walk.More()
		if object[0] != '{' {
			return toll.Malformed(fieldEvent, "not a JSON object")
		}
		if err := each(object, several); err != nil {
			return err
		}
	}
	return nil
}

// jsonEvent reads an object that is known to be JSON.
func (d *Decoder) jsonEvent(p []byte, e *toll.Event) error {
	walk := json.NewDecoder(bytes.NewReader(p))
	_, _ = walk.Token()
	var timestamp, vehicle, kind, plaza json.RawMessage
	for walk.More() {
		key, err := walk.Token()
		if err != nil {
			return toll.Malformed(fieldEvent, "not JSON: %s", clipText(err))
		}
		var value json.RawMessage
		if err := walk.Decode(&value); err != nil {
			return toll.Malformed(fieldEvent, "not JSON: %s", clipText(err))
		}
		switch key {
		case "timestamp", "time":
			timestamp = value
		case "vehicle_id":
			vehicle = value
		case "vehicle_type":
			kind = value
		case "toll_plaza_id", "plaza_id":
			plaza = value
		}
	}

	text, err := jsonText(fieldTime, timestamp)
	if err != nil {
		return err
	}
	if e.Time, err = d.times.parse(trim(text)); err != nil {
		return err
	}
	if text, err = jsonInteger(fieldVehicle, vehicle); err != nil {
		return err
	}
	if e.Vehicle, err = parseVehicle(text); err != nil {
		return err
	}
	if text, err = jsonText(fieldType, kind); err != nil {
		return err
	}
	if e.Type, err = d.vehicleType(text); err != nil {
		return err
	}
	if text, err = jsonInteger(fieldPlaza, plaza); err != nil {
		return err
	}
	e.Plaza, err = parsePlaza(text)
	return err
}

// jsonText returns the contents of a string.
func jsonText(field toll.RejectKind, value json.RawMessage) ([]byte, error) {
	switch {
	case len(value) == 0 || value[0] == 'n':
		return nil, toll.Malformed(field, "missing")
	case value[0] != '"':
		return nil, toll.Malformed(field, "%s is not a string", clipLiteral(value))
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, toll.Malformed(field, "not JSON: %s", clipText(err))
	}
	if strings.ContainsRune(s, utf8.RuneError) && hasHalfPair(value) {
		return nil, toll.Malformed(field, "half of a surrogate pair, which is no character")
	}
	return []byte(s), nil
}

// hasHalfPair reports whether a JSON string holds the escape of one half of a surrogate pair
// without the other. encoding/json reads it as U+FFFD, by which different texts would become the
// same.
func hasHalfPair(value []byte) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		i++
		unit, ok := escapedUnit(value[i-1:])
		if !ok || !utf16.IsSurrogate(unit) {
			continue
		}
		i += 4
		other, ok := escapedUnit(value[i+1:])
		if !ok || utf16.DecodeRune(unit, other) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// escapedUnit reads \u12ab, one unit of UTF-16.
func escapedUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(unit), err == nil
}

// jsonInteger returns the text of an integer that is a number or a string.
func jsonInteger(field toll.RejectKind, value json.RawMessage) ([]byte, error) {
	if len(value) > 0 && (value[0] == '-' || isDigit(value[0])) {
		return value, nil
	}
	if len(value) > 0 && value[0] != '"' && value[0] != 'n' {
		return nil, toll.Malformed(field, "%s is not a whole number", clipLiteral(value))
	}
	return jsonText(field, value)
}

// clipLiteral is [clip] without the quotes, which would make a string of a value that isn't one.
func clipLiteral(value json.RawMessage) string {
	quoted := clip(value)
	end := strings.LastIndexByte(quoted, '"')
	return quoted[1:end] + quoted[end+1:]
}

// clipText keeps the text of another package's error short and in printable ASCII.
func clipText(err error) string {
	if err == nil {
		return "unknown"
	}
	const most = 80
	text := []byte(err.Error())
	for i, c := range text {
		if c < ' ' || c >= utf8.RuneSelf-1 {
			text[i] = '?'
		}
	}
	return string(text[:min(len(text), most)])
}
