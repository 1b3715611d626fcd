package codecs

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Limits of a plazas file.
const (
	MaxPlazas      = 1 << 16  // plazas: as many as there are numbers
	MaxPlazasBytes = 16 << 20 // bytes of the file
	maxPlazaErrors = 20       // violations that are reported
)

// plazaColumns are the columns of a plazas file, by name. Each reads a field that is not empty.
var plazaColumns = map[string]func(p *toll.Plaza, field string) error{
	"id": func(p *toll.Plaza, field string) error {
		n, err := strconv.ParseInt(field, 10, 16)
		p.ID = int16(n)
		return notA(err, "a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
	},
	"name":        func(p *toll.Plaza, field string) error { p.Name = field; return nil },
	"road":        func(p *toll.Plaza, field string) error { p.Road = field; return nil },
	"position_km": decimal(func(p *toll.Plaza) *float64 { return &p.PositionKm }),
	"lanes": func(p *toll.Plaza, field string) (err error) {
		p.Lanes, err = strconv.Atoi(field)
		return notA(err, "a whole number")
	},
	"capacity_per_lane": decimal(func(p *toll.Plaza) *float64 { return &p.CapacityPerLane }),
	"timezone":          func(p *toll.Plaza, field string) error { p.Timezone = field; return nil },
	"vehicles_per_day":  decimal(func(p *toll.Plaza) *float64 { return &p.VehiclesPerDay }),
	"heavy_share":       decimal(func(p *toll.Plaza) *float64 { return &p.HeavyShare }),
}

// stationColumns are the columns of a plazas file that name its stations, see [Station].
var stationColumns = map[string]func(*Station) *string{
	"state":     func(s *Station) *string { return &s.State },
	"f_system":  func(s *Station) *string { return &s.FSystem },
	"station":   func(s *Station) *string { return &s.ID },
	"direction": func(s *Station) *string { return &s.Direction },
	"lane":      func(s *Station) *string { return &s.Lane },
	"classes":   func(s *Station) *string { return &s.Classes },
}

// plazaColumnNames is for messages, in the order of the documentation.
const plazaColumnNames = "id, name, road, position_km, lanes, capacity_per_lane, timezone, " +
	"vehicles_per_day, heavy_share, state, f_system, station, direction, lane, classes"

// PlazaColumns returns the names of the columns of a plazas file.
func PlazaColumns() []string { return strings.Split(plazaColumnNames, ", ") }

// decimal returns the column of a number in decimal notation, such as 4.5 or 1e3.
func decimal(of func(p *toll.Plaza) *float64) func(p *toll.Plaza, field string) error {
	return func(p *toll.Plaza, field string) (err error) {
		*of(p), err = strconv.ParseFloat(field, 64)
		if err != nil || strings.ContainsAny(field, "nNxX_") { // NaN, Inf, hexadecimal
			return errors.New("is not a number")
		}
		return nil
	}
}

// notA returns what a field is not, where it could not be read.
func notA(err error, what string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("is not "+what, args...)
}

// ReadPlazas reads a plazas file: CSV with a header row that names its columns, in any order. Of
//
//	id, name, road, position_km, lanes, capacity_per_lane, timezone, vehicles_per_day, heavy_share,
//	state, f_system, station, direction, lane, classes
//
// only id is required; an empty field is as good as none. Lines that begin with # are comments.
// Numbers have a point, and heavy_share is from 0 to 1. The plazas come in the file's order.
//
// The error joins all violations, each with its line, up to 20 of them. A file has at most
// [MaxPlazas] plazas and [MaxPlazasBytes] bytes.
func ReadPlazas(r io.Reader) ([]toll.Plaza, error) {
	f, err := readPlazasFile(r)
	if err != nil {
		return nil, err
	}
	return f.plazas, nil
}

// ReadPlazasFile reads plazas as [ReadPlazas] does, and their stations.
func ReadPlazasFile(r io.Reader) ([]toll.Plaza, map[int16]Station, error) {
	f, err := readPlazasFile(r)
	if err != nil {
		return nil, nil, err
	}
	return f.plazas, f.stations, nil
}

// PlazaRow is a plaza of a list that is not CSV: its line, and its fields by the names of the
// columns. An empty field is as good as none.
type PlazaRow struct {
	Line   int
	Fields map[string]string
}

// PlazasOf reads plazas, and their stations, as [ReadPlazasFile] does.
func PlazasOf(rows []PlazaRow) ([]toll.Plaza, map[int16]Station, error) {
	f := &plazasFile{lines: map[int16]int{}, stations: map[int16]Station{}, zones: map[string]bool{}}
	for _, row := range rows {
		f.columns = slices.Sorted(maps.Keys(row.Fields))
		if len(f.errs) > maxPlazaErrors || !f.header(row.Line, f.columns) {
			continue
		}
		fields := make([]string, len(f.columns))
		for i, name := range f.columns {
			fields[i] = strings.TrimSpace(row.Fields[name])
		}
		f.row(row.Line, fields)
	}
	if len(f.errs) > 0 {
		return nil, nil, errors.Join(f.errs...)
	}
	return f.plazas, f.stations, nil
}

func readPlazasFile(r io.Reader) (*plazasFile, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxPlazasBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxPlazasBytes {
		return nil, fmt.Errorf("more than %d bytes", MaxPlazasBytes)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	f := &plazasFile{csv: csv.NewReader(bytes.NewReader(text)), lines: map[int16]int{},
		stations: map[int16]Station{}, zones: map[string]bool{}}
	f.csv.Comment = '#'
	f.csv.FieldsPerRecord = -1 // counted here, so that the message is ours
	f.csv.TrimLeadingSpace = true
	f.read()
	if len(f.errs) > 0 {
		return nil, errors.Join(f.errs...)
	}
	return f, nil
}

// plazasFile is a plazas file as it is read.
type plazasFile struct {
	csv      *csv.Reader
	columns  []string
	plazas   []toll.Plaza
	stations map[int16]Station
	lines    map[int16]int // of each plaza
	zones    map[string]bool
	errs     []error
}

func (f *plazasFile) read() {
	header, line, ok := f.record()
	if !ok {
		if len(f.errs) == 0 {
			f.errs = append(f.errs, errors.New("no header row"))
		}
		return
	}
	if !f.header(line, header) {
		return // no row can be read
	}
	for {
		fields, line, ok := f.record()
		if !ok {
			return
		}
		if len(f.plazas) == MaxPlazas {
			f.report(line, fmt.Errorf("more than %d plazas", MaxPlazas))
			return
		}
		f.row(line, fields)
	}
}

// record returns the next record that is CSV, and its line; false at the end.
func (f *plazasFile) record() (fields []string, line int, ok bool) {
	for len(f.errs) <= maxPlazaErrors {
		fields, err := f.csv.Read()
		var bad *csv.ParseError
		switch {
		case err == nil:
			line, _ := f.csv.FieldPos(0)
			for i := range fields {
				fields[i] = strings.TrimSpace(fields[i])
			}
			return fields, line, true
		case errors.As(err, &bad):
			f.report(bad.Line, bad.Err)
		default:
			return nil, 0, false // io.EOF: memory fails in no other way
		}
	}
	return nil, 0, false
}

// report keeps a violation, and after the last one that there are more.
func (f *plazasFile) report(line int, err error) {
	switch n := len(f.errs); {
	case n < maxPlazaErrors:
		f.errs = append(f.errs, fmt.Errorf("line %d: %w", line, err))
	case n == maxPlazaErrors:
		f.errs = append(f.errs, errors.New("and more"))
	}
}

// reportAll is report for violations that are joined.
func (f *plazasFile) reportAll(line int, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			f.report(line, err)
		}
	} else if err != nil {
		f.report(line, err)
	}
}

// knows reports whether a timezone exists. Looking one up takes a while, so the answer is kept.
func (f *plazasFile) knows(timezone string) bool {
	known, ok := f.zones[timezone]
	if !ok {
		_, err := time.LoadLocation(timezone)
		known = err == nil
		f.zones[timezone] = known
	}
	return known
}

// header reads the header row and reports whether rows can be read by it.
func (f *plazasFile) header(line int, names []string) bool {
	before := len(f.errs)
	for i, name := range names {
		switch {
		case plazaColumns[name] == nil && stationColumns[name] == nil:
			f.report(line, fmt.Errorf("unknown column %s; there are %s", clip([]byte(name)),
				plazaColumnNames))
		case slices.Contains(names[:i], name):
			f.report(line, fmt.Errorf("column %s is there twice", name))
		}
	}
	if !slices.Contains(names, "id") {
		f.report(line, errors.New("column id is missing"))
	}
	f.columns = slices.Clone(names)
	return len(f.errs) == before
}

func (f *plazasFile) row(line int, fields []string) {
	if len(fields) != len(f.columns) {
		f.report(line, fmt.Errorf("%d fields, the header has %d", len(fields), len(f.columns)))
		return
	}
	var p toll.Plaza
	var station Station
	before := len(f.errs)
	for i, field := range fields {
		name := f.columns[i]
		if field == "" {
			if name == "id" {
				f.report(line, errors.New("id is empty"))
			}
			continue
		}
		if of := stationColumns[name]; of != nil {
			*of(&station) = field
		} else if err := plazaColumns[name](&p, field); err != nil {
			f.report(line, fmt.Errorf("%s %s %w", name, clip([]byte(field)), err))
		}
	}
	if len(f.errs) > before {
		return
	}
	f.reportAll(line, p.Validate())
	f.reportAll(line, station.Validate())
	if !f.knows(p.Timezone) {
		f.report(line, fmt.Errorf("timezone %s is not a known zone", clip([]byte(p.Timezone))))
	}
	if len(f.errs) > before {
		return
	}
	if first, twice := f.lines[p.ID]; twice {
		f.report(line, fmt.Errorf("plaza %d is on line %d already", p.ID, first))
		return
	}
	f.lines[p.ID] = line
	f.plazas = append(f.plazas, p)
	f.stations[p.ID] = station
}

// Station names a plaza in the records of the FHWA's Traffic Monitoring Guide, with the codes of
// that guide. All may be empty.
type Station struct {
	State     string `json:"state,omitzero"`     // FIPS code, two digits: 17 for Illinois
	FSystem   string `json:"f_system,omitzero"`  // functional class, and R (rural) or U (urban): 1U
	ID        string `json:"id,omitzero"`        // at most six letters and digits
	Direction string `json:"direction,omitzero"` // 1 north, 2 northeast … 8 northwest; 0, 9 combined
	Lane      string `json:"lane,omitzero"`      // 1 for the outside lane …; 0 for all lanes combined
	Classes   string `json:"classes,omitzero"`   // as [ParseClasses] reads them
}

// TopClass is the last of the FHWA's classes of vehicles, which begin with 1 for motorcycles.
const TopClass = 13

// stationCodes are how the codes look.
var stationCodes = []struct {
	name, like string
	of         func(*Station) string
	pattern    *regexp.Regexp
}{
	{"state", "a FIPS code of two digits", func(s *Station) string { return s.State },
		regexp.MustCompile(`^[0-9]{2}$`)},
	{"f_system", "a functional class such as 1U or 3R", func(s *Station) string { return s.FSystem },
		regexp.MustCompile(`^[1-7][RU]$`)},
	{"station", "one to six letters and digits", func(s *Station) string { return s.ID },
		regexp.MustCompile(`^[0-9A-Za-z]{1,6}$`)},
	{"direction", "a digit", func(s *Station) string { return s.Direction },
		regexp.MustCompile(`^[0-9]$`)},
	{"lane", "a digit", func(s *Station) string { return s.Lane }, regexp.MustCompile(`^[0-9]$`)},
}

// Validate reports every code that can't be right, with the value it saw.
func (s *Station) Validate() error {
	var errs []error
	for _, code := range stationCodes {
		if value := code.of(s); value != "" && !code.pattern.MatchString(value) {
			errs = append(errs, fmt.Errorf("%s %q, want %s", code.name, value, code.like))
		}
	}
	if _, err := ParseClasses(s.Classes); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ParseClasses reads the classes of vehicle types, such as "car=2 truck=9": pairs with blanks or
// commas between. The error holds every violation.
func ParseClasses(text string) (map[string]int, error) {
	classes := map[string]int{}
	var errs []error
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		name, number, _ := strings.Cut(pair, "=")
		class, err := strconv.Atoi(number)
		if err != nil || class < 1 || class > TopClass || name == "" {
			errs = append(errs, fmt.Errorf("class %q, want a vehicle type and 1 to %d, such as car=2",
				pair, TopClass))
			continue
		}
		classes[name] = class
	}
	return classes, errors.Join(errs...)
}
