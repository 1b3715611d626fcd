package codecs

import (
	"bytes"
	"errors"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// csvColumns is the number of fields of a line.
const csvColumns = 4

func (d *Decoder) decodeCSV(p []byte, e *toll.Event) error {
	if d.csvFast(p, e) {
		return nil
	}
	return d.csvSlow(p, e)
}

// csvFast reads a line in the course's own form, of the day that was read last and a type that is
// known. It returns false for any other line, valid or not.
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

// csvSlow reads any lines, or reports what is wrong with them.
func (d *Decoder) csvSlow(p []byte, e *toll.Event) error {
	p = trim(p)
	if len(p) == 0 {
		return toll.Malformed(fieldEvent, "empty")
	}
	return d.rows(p, ',', e, d.csvFields)
}

// csvFields reads the event of the fields of a line.
func (d *Decoder) csvFields(e *toll.Event) (err error) {
	switch n := len(d.fields); {
	case n == 1:
		return toll.Malformed(fieldEvent, "1 field, expected %d", csvColumns)
	case n != csvColumns:
		return toll.Malformed(fieldEvent, "%d fields, expected %d", n, csvColumns)
	}
	if e.Time, err = d.times.parse(trim(d.fields[0])); err != nil {
		return err
	}
	if e.Vehicle, err = parseVehicle(d.fields[1]); err != nil {
		return err
	}
	if e.Type, err = d.vehicleType(d.fields[2]); err != nil {
		return err
	}
	e.Plaza, err = parsePlaza(d.fields[3])
	return err
}

// rows reads the rows of a payload, nearly always one, whose fields read makes an event of. Blank
// lines between them don't count.
func (d *Decoder) rows(p []byte, comma byte, e *toll.Event, read func(*toll.Event) error) error {
	for several := false; ; {
		into, err := d.next(e)
		if err != nil {
			return err
		}
		line, rest, more := bytes.Cut(p, []byte{'\n'})
		if (more || several) && d.mapping == nil && d.csvFast(line, into) {
			rest = skipBlankLines(rest)
			several = several || len(rest) > 0
		} else {
			if d.fields, rest, err = splitCSV(p, comma, d.fields[:0]); err == nil {
				rest = skipBlankLines(rest)
				several = several || len(rest) > 0
				err = read(into)
			}
			if err != nil {
				return d.which(err, several)
			}
		}
		if len(rest) == 0 {
			return nil
		}
		p = rest
	}
}

func skipBlankLines(p []byte) []byte {
	for len(p) > 0 {
		line, rest, _ := bytes.Cut(p, []byte{'\n'})
		if len(trim(line)) > 0 {
			break
		}
		p = rest
	}
	return p
}

// splitCSV appends the fields of the first row to fields, and returns what follows the row. A field
// that begins with a quote is one of RFC 4180: it ends with a quote, may hold delimiters and line
// ends, and its quotes are doubled. Blanks around it are no part of it.
func splitCSV(p []byte, comma byte, fields [][]byte) (_ [][]byte, rest []byte, err error) {
	behind := len(p) + 1 // bytes from the next line end on; more than are left where it is unknown
	for {
		start := p
		for len(start) > 0 && isBlank(start[0]) && start[0] != comma && start[0] != '\n' {
			start = start[1:]
		}
		if len(start) > 0 && start[0] == '"' {
			var text []byte
			if text, p, err = quotedField(start[1:], comma); err != nil {
				return fields, nil, err
			}
			fields = append(fields, text)
		} else {
			if behind > len(p) {
				behind = 0
				if end := bytes.IndexByte(p, '\n'); end >= 0 {
					behind = len(p) - end
				}
			}
			end := len(p) - behind
			if i := bytes.IndexByte(p[:end], comma); i >= 0 {
				end = i
			}
			fields = append(fields, p[:end])
			p = p[end:]
		}
		switch {
		case len(p) == 0:
			return fields, nil, nil
		case p[0] == '\n':
			if n := len(fields) - 1; len(fields[n]) > 0 && fields[n][len(fields[n])-1] == '\r' {
				fields[n] = fields[n][:len(fields[n])-1]
			}
			return fields, p[1:], nil
		}
		p = p[1:]
	}
}

// quotedField reads a field from behind its first quote on. It returns the text, and what follows
// the field: nothing, or from the delimiter or the line end on.
func quotedField(p []byte, comma byte) (text, rest []byte, err error) {
	end := bytes.IndexByte(p, '"')
	if end < 0 {
		return nil, nil, ErrOpenQuote
	}
	for text = p[:end]; end+1 < len(p) && p[end+1] == '"'; {
		next := bytes.IndexByte(p[end+2:], '"')
		if next < 0 {
			return nil, nil, ErrOpenQuote
		}
		// The quote that is doubled, and the text up to the next one. It is a copy: the payload stays as
		// it is.
		text = append(text[:len(text):len(text)], p[end+1:end+2+next]...)
		end += 2 + next
	}
	rest = p[end+1:]
	for len(rest) > 0 && isBlank(rest[0]) && rest[0] != comma && rest[0] != '\n' {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] != comma && rest[0] != '\n' {
		return nil, nil, toll.Malformed(fieldEvent, "%s follows a quoted field, expected a %s",
			clip(rest), mapping.DelimiterName(comma))
	}
	return text, rest, nil
}

// ErrOpenQuote is the error of a row that goes on in the next line, or never ends.
var ErrOpenQuote = toll.Malformed(fieldEvent, "a quoted field does not end")

// QuotesEnd reports whether the quoted fields of a row end within a text.
func QuotesEnd(row []byte, comma byte) bool {
	_, _, err := splitCSV(row, comma, nil)
	return !errors.Is(err, ErrOpenQuote)
}

// HeaderMapping returns the mapping of a header row that names all fields by names that are known,
// whatever its delimiter; nil for another row.
func HeaderMapping(row []byte) *mapping.Mapping {
	for _, comma := range mapping.Delimiters() {
		names := SplitRow(row, comma)
		if m := mapping.ByName(names); m != nil {
			if comma != ',' {
				m.Delimiter = comma
			}
			return m
		}
	}
	return nil
}

// SplitRow returns the fields of a row as text, without the blanks around them; nil for no row.
func SplitRow(row []byte, comma byte) []string {
	fields, _, err := splitCSV(row, comma, nil)
	if err != nil {
		return nil
	}
	texts := make([]string, len(fields))
	for i, field := range fields {
		texts[i] = string(trim(field))
	}
	return texts
}
