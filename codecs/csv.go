package codecs

import (
	"bytes"

	"tollstream/toll"
)

// csvFields is the number of fields of a line.
const csvFields = 4

func (d *Decoder) decodeCSV(p []byte, e *toll.Event) error {
	if d.csvFast(p, e) {
		return nil
	}
	return d.csvSlow(p, e)
}

// csvFast reads a line in the course's own form, of the day that was read last and a type that is known. It is false if
// it isn't that, which says nothing yet.
func (d *Decoder) csvFast(p []byte, e *toll.Event) bool {
	if len(p) <= ctimeLen || p[ctimeLen] != ',' {
		return false
	}
	w, ok := d.clock.ctime(p)
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
	if i < 0 {
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

// csvSlow reads any line, or says what is wrong with it.
func (d *Decoder) csvSlow(p []byte, e *toll.Event) error {
	p = trim(p)
	if len(p) == 0 {
		return toll.Malformed(fieldEvent, "empty")
	}
	if n := bytes.Count(p, []byte{','}) + 1; n == 1 {
		return toll.Malformed(fieldEvent, "1 field, expected %d", csvFields)
	} else if n != csvFields {
		return toll.Malformed(fieldEvent, "%d fields, expected %d", n, csvFields)
	}
	var field [csvFields][]byte
	for i := range field {
		field[i], p, _ = bytes.Cut(p, []byte{','})
	}
	var err error
	if e.Time, err = d.clock.parse(trim(field[0])); err != nil {
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
