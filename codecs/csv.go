package codecs

import (
	"bytes"

	"github.com/tollstream/tollstream/toll"
)

// csvFields is the number of fields of a line.
const csvFields = 4

func (d *Decoder) decodeCSV(p []byte, e *toll.Event) error {
	if d.csvFast(p, e) {
		return nil
	}
	return d.csvSlow(p, e)
}

// csvFast reads a line in the course's own form, of the day that was read last and a type that is
// known. It is false if it isn't that, which says nothing yet.
func (d *Decoder) csvFast(p []byte, e *toll.Event) bool {
	if len(p) <= ctimeLen || p[ctimeLen] != ',' {
		return false
	}
	w, ok := d.times.ctime(p)
	if !ok {
		return false
	}
	p = p[ctimeLen+1:]

	var vehicle int64
	i := 0
	for i < len(p) && isDigit(p[i]) {
		vehicle = vehicle*10 + int64(p[i]-'0')
		i++
	}
	if i == 0 || i > 10 || vehicle > toll.MaxVehicle || i == len(p) || p[i] != ',' {
		return false
	}
	p = p[i+1:]

	i = bytes.IndexByte(p, ',')
	if i <= 0 || p[0] == '"' {
		return false
	}
	t, ok := d.types[string(p[:i])]
	if !ok {
		return false
	}
	p = p[i+1:]

	negative := len(p) > 0 && p[0] == '-'
	if negative {
		p = p[1:]
	}
	var plaza int64
	i = 0
	for i < len(p) && isDigit(p[i]) {
		plaza = plaza*10 + int64(p[i]-'0')
		i++
	}
	if i == 0 || i > 5 {
		return false
	}
	for _, c := range p[i:] {
		if !isBlank(c) {
			return false
		}
	}
	if negative {
		plaza = -plaza
	}
	if plaza < toll.MinPlaza || plaza > toll.MaxPlaza {
		return false
	}
	e.Time, e.Vehicle, e.Type, e.Plaza = w, int32(vehicle), t, int16(plaza)
	return true
}

// csvSlow reads any line, or reports what is wrong with it.
func (d *Decoder) csvSlow(p []byte, e *toll.Event) error {
	p = trim(p)
	if len(p) == 0 {
		return toll.Malformed(fieldEvent, "empty")
	}
	var field [csvFields][]byte
	n, err := splitCSV(p, &field)
	switch {
	case err != nil:
		return err
	case n == 1:
		return toll.Malformed(fieldEvent, "1 field, expected %d", csvFields)
	case n != csvFields:
		return toll.Malformed(fieldEvent, "%d fields, expected %d", n, csvFields)
	}
	if e.Time, err = d.times.parse(trim(field[0])); err != nil {
		return err
	}
	if e.Vehicle, err = parseVehicle(field[1]); err != nil {
		return err
	}
	if e.Type, err = d.vehicleType(field[2]); err != nil {
		return err
	}
	e.Plaza, err = parsePlaza(field[3])
	return err
}

// splitCSV splits a line into fields and returns how many there are, of which it keeps the first. A
// field that begins with a quote is one of RFC 4180: it ends with a quote, may hold commas, and its
// quotes are doubled. Blanks around it are no part of it.
func splitCSV(p []byte, field *[csvFields][]byte) (int, error) {
	for n := 0; ; n++ {
		var text []byte
		more := false
		if start := trim(p); len(start) > 0 && start[0] == '"' {
			var err error
			if text, p, err = quotedField(start[1:]); err != nil {
				return 0, err
			}
			if more = len(p) > 0; more {
				p = p[1:]
			}
		} else {
			text, p, more = bytes.Cut(p, []byte{','})
		}
		if n < csvFields {
			field[n] = text
		}
		if !more {
			return n + 1, nil
		}
	}
}

// quotedField reads a field from behind its first quote on. It returns the text, and what follows
// the field: nothing, or from the comma on.
func quotedField(p []byte) (text, rest []byte, err error) {
	end := bytes.IndexByte(p, '"')
	if end < 0 {
		return nil, nil, toll.Malformed(fieldEvent, "a quoted field does not end")
	}
	for text = p[:end]; end+1 < len(p) && p[end+1] == '"'; {
		next := bytes.IndexByte(p[end+2:], '"')
		if next < 0 {
			return nil, nil, toll.Malformed(fieldEvent, "a quoted field does not end")
		}
		// The quote that is doubled, and the text up to the next one. It is a copy: the payload stays as
		// it is.
		text = append(text[:len(text):len(text)], p[end+1:end+2+next]...)
		end += 2 + next
	}
	rest = trim(p[end+1:])
	if len(rest) > 0 && rest[0] != ',' {
		return nil, nil, toll.Malformed(fieldEvent, "%s follows a quoted field, expected a comma",
			clip(rest))
	}
	return text, rest, nil
}
