package codecs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// setMapping makes the decoder read another form than the course's.
func (d *Decoder) setMapping(m *mapping.Mapping) {
	d.mapping, d.message, d.times.from = m, nil, nil
	if m == nil {
		return
	}
	if d.message = m.Descriptor; d.message != nil && d.format == Auto {
		d.format = Protobuf
	}
	if m.Zone != nil {
		d.times.from = toll.NewZone(m.Zone)
	}
	for f, place := range m.Places {
		column, ok := place.Column()
		switch {
		case place == "" && !m.Named():
			column = f
		case place == "" || !ok:
			column = -1
		}
		d.columns[f] = column
	}
}

func (d *Decoder) decodeMapped(format Format, p []byte, e *toll.Event) error {
	if format == JSON || format == Auto && looksLikeJSON(p) {
		return d.mappedJSON(p, e)
	}
	return d.mappedCSV(p, e)
}

// mappedCSV reads a record of rows, below its header row where the mapping has one.
func (d *Decoder) mappedCSV(p []byte, e *toll.Event) error {
	if !d.mapping.HasHeader() {
		return d.rows(p, d.mapping.Comma(), e, d.mappedFields)
	}
	columns := d.columns
	defer func() { d.columns = columns }()
	rest, err := d.Header(p)
	if err != nil {
		return err
	}
	if rest = skipBlankLines(rest); len(rest) == 0 {
		return toll.Malformed(fieldEvent, "one row, and the mapping names columns of a header row: "+
			"give columns by number")
	}
	return d.rows(rest, d.mapping.Comma(), e, d.mappedFields)
}

// Header reads the header row that a text begins with, which says where columns are that the
// mapping names, and returns what follows it.
func (d *Decoder) Header(p []byte) (rest []byte, err error) {
	d.fields, rest, err = splitCSV(p, d.mapping.Comma(), d.fields[:0])
	if err != nil {
		return nil, err
	}
	for f, place := range d.mapping.Places {
		field := mapping.Field(f)
		if _, ok := place.Column(); ok || place == "" && !d.mapping.Named() {
			continue
		}
		column := slices.IndexFunc(d.fields, func(name []byte) bool {
			if place == "" {
				known, ok := mapping.FieldOf(string(name))
				return ok && known == field
			}
			return strings.EqualFold(strings.TrimSpace(string(name)), string(place))
		})
		if column < 0 {
			return nil, toll.Malformed(field.Kind(), "no column %s", clip(string(place)))
		}
		d.columns[f] = column
	}
	return rest, nil
}

// Row reads a row of CSV by the mapping, without its header row.
func (d *Decoder) Row(p []byte, e *toll.Event) error {
	d.restart()
	err := d.rows(p, d.mapping.Comma(), e, d.mappedFields)
	if err == nil && d.n > 1 {
		return severalEvents(d.n)
	}
	return err
}

// mappedFields reads the event of the fields of a row.
func (d *Decoder) mappedFields(e *toll.Event) (err error) {
	if len(d.fields) == 1 && len(trim(d.fields[0])) == 0 {
		return toll.Malformed(fieldEvent, "empty")
	}
	var text [mapping.Fields][]byte
	for f, column := range d.columns {
		switch {
		case column < 0:
			return missing(mapping.Field(f).Kind())
		case column >= len(d.fields):
			return toll.Malformed(mapping.Field(f).Kind(), "no column %d in a row of %d", column+1,
				len(d.fields))
		}
		text[f] = trim(d.fields[column])
	}
	if e.Time, err = d.mappedTime(text[mapping.Time]); err != nil {
		return err
	}
	if e.Vehicle, err = parseVehicle(text[mapping.Vehicle]); err != nil {
		return err
	}
	if e.Type, err = d.vehicleType(text[mapping.Type]); err != nil {
		return err
	}
	e.Plaza, err = parsePlaza(text[mapping.Plaza])
	return err
}

func (d *Decoder) mappedJSON(p []byte, e *toll.Event) error {
	return jsonObjects(p, func(object []byte, several bool) error {
		walk := json.NewDecoder(bytes.NewReader(object))
		walk.UseNumber() // a float would round large numbers
		var tree any
		if err := walk.Decode(&tree); err != nil {
			return toll.Malformed(fieldEvent, "not JSON: %s", clipText(err))
		}
		return d.fromTree(tree, several, e, func(e *toll.Event) error {
			if strings.ContainsRune(e.Type, utf8.RuneError) && hasHalfPair(object) {
				return toll.Malformed(fieldType, "half of a surrogate pair, which is no character")
			}
			return nil
		})
	})
}

// usualNames are the names of fields in JSON, and in records of a schema registry.
var usualNames = [mapping.Fields][]string{{"timestamp", "time"}, {"vehicle_id"}, {"vehicle_type"},
	{"toll_plaza_id", "plaza_id"}}

// fromTree reads the events of maps, lists and values, as JSON, Avro and Protobuf decode to: one,
// or those of a list that the mapping names. several says that the payload holds more trees than
// this one. Each event must pass the check, where there is one.
func (d *Decoder) fromTree(tree any, several bool, e *toll.Event,
	check func(*toll.Event) error) error {
	d.tree = tree
	parts := []any{tree}
	if d.mapping != nil && d.mapping.Events != "" {
		switch list := mapping.Find(tree, string(d.mapping.Events)).(type) {
		case []any:
			if parts = list; len(parts) == 0 {
				return toll.Malformed(fieldEvent, "an empty list at %s", clip(d.mapping.Events))
			}
		case nil:
			return toll.Malformed(fieldEvent, "no list at %s", clip(d.mapping.Events))
		default: // of one event, as some write it
			parts[0] = list
		}
	} else if list, ok := tree.([]any); ok {
		if parts = list; len(parts) == 0 {
			return toll.Malformed(fieldEvent, "an empty list")
		}
	}
	several = several || len(parts) > 1
	for _, part := range parts {
		into, err := d.next(e)
		if err != nil {
			return err
		}
		if err = d.fromPart(tree, part, into); err == nil && check != nil {
			err = check(into)
		}
		if err != nil {
			return d.which(err, several)
		}
	}
	return nil
}

// fromPart reads an event from a part of a tree.
func (d *Decoder) fromPart(tree, part any, e *toll.Event) (err error) {
	var value [mapping.Fields]any
	for f := range value {
		if d.mapping != nil && d.mapping.Places[f] != "" {
			if value[f] = d.mapping.Find(mapping.Field(f), tree, part); value[f] == nil {
				return toll.Malformed(mapping.Field(f).Kind(), "no value at %s", clip(d.mapping.Places[f]))
			}
			continue
		}
		for _, name := range usualNames[f] {
			if value[f] = mapping.Find(part, name); value[f] != nil {
				break
			}
		}
		if value[f] == nil {
			return missing(mapping.Field(f).Kind())
		}
	}
	if at, ok := value[mapping.Time].(time.Time); ok {
		if e.Time, err = d.times.wall(at.Unix()); err != nil {
			return toll.Malformed(fieldTime, "%s is %s", at.UTC().Format(time.RFC3339), err.Error())
		}
	} else if text, err := mapping.Text(mapping.Time, value[mapping.Time]); err != nil {
		return err
	} else if e.Time, err = d.mappedTime(trim(text)); err != nil {
		return err
	}
	text, err := mapping.Text(mapping.Vehicle, value[mapping.Vehicle])
	if err != nil {
		return err
	}
	if e.Vehicle, err = parseVehicle(text); err != nil {
		return err
	}
	if text, err = mapping.Text(mapping.Type, value[mapping.Type]); err != nil {
		return err
	}
	if e.Type, err = d.vehicleType(text); err != nil {
		return err
	}
	if text, err = mapping.Text(mapping.Plaza, value[mapping.Plaza]); err != nil {
		return err
	}
	e.Plaza, err = parsePlaza(text)
	return err
}

// mappedTime reads a time in the mapping's form.
func (d *Decoder) mappedTime(b []byte) (toll.WallTime, error) {
	var format mapping.TimeFormat
	if d.mapping != nil {
		format = d.mapping.Format
	}
	if format == (mapping.TimeFormat{}) {
		return d.times.parse(b)
	}
	if len(b) == 0 {
		return 0, toll.Malformed(fieldTime, "empty")
	}
	var w toll.WallTime
	var err error
	switch {
	case format.PerSecond > 0:
		w, err = d.times.epoch(b, format.PerSecond)
	case format.Layout != "":
		w, err = d.times.layout(b, format)
	default:
		date, hms, rest, ok := mapping.NumericDate(b, format.DayFirst)
		if !ok {
			what := "month"
			if format.DayFirst {
				what = "day"
			}
			return 0, toll.Malformed(fieldTime, "%s is not a date with the %s first, and a time", clip(b),
				what)
		}
		if w, err = wallTime(date[0], date[1], date[2], hms[:]); err == nil {
			w, err = d.times.behind(b, rest, w)
		}
	}
	if err != nil {
		return 0, toll.Malformed(fieldTime, "%s", err.Error())
	}
	return w, nil
}

// epoch reads a number of units since 1970, of which a fraction is cut off.
func (c *timestamps) epoch(b []byte, perSecond int64) (toll.WallTime, error) {
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	n, err := strconv.ParseInt(string(whole), 10, 64)
	if err != nil || len(bytes.Trim(fraction, "0123456789")) > 0 {
		return 0, fmt.Errorf("%s is not a number of units since 1970", clip(b))
	}
	unix := n / perSecond
	if n%perSecond < 0 || n%perSecond == 0 && whole[0] == '-' && len(bytes.Trim(fraction, "0")) > 0 {
		unix--
	}
	w, err := c.wall(unix)
	if err != nil {
		return 0, fmt.Errorf("%s units since 1970 are %w", b, err)
	}
	return w, nil
}

// layout reads a time by a pattern.
func (c *timestamps) layout(b []byte, format mapping.TimeFormat) (toll.WallTime, error) {
	at, err := time.Parse(format.Layout, string(b))
	if err != nil {
		return 0, fmt.Errorf("%s is not a time like %s", clip(b), format.Pattern)
	}
	if strings.Contains(format.Layout, "-0700") {
		return c.wall(at.Unix())
	}
	w := toll.WallTimeOf(at)
	if !w.Valid() {
		return 0, errOutside
	}
	return c.local(w)
}

// Time reports what is wrong with a time in the mapping's form.
func (d *Decoder) Time(text string) error {
	_, err := d.mappedTime(trim([]byte(text)))
	return err
}
