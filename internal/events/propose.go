package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// Proposal is a mapping that was guessed from some records.
type Proposal struct {
	Mapping string   `json:"mapping"`
	Records int      `json:"records"` // that were tried
	Rows    int      `json:"rows"`    // that they would be
	First   string   `json:"first"`   // the first row
	Notes   []string `json:"notes,omitzero"`
}

// column is what some records hold at one place.
type column struct {
	place  mapping.Place
	name   string // of the column, or the last part of the path; "" for none
	values []string
}

// propose guesses the mapping of some records; nil where it finds none.
func propose(records [][]byte, zone *toll.Zone) *Proposal {
	if len(records) == 0 {
		return nil
	}
	jsons := 0
	for _, r := range records {
		if IsJSON(r) {
			jsons++
		}
	}
	m := &mapping.Mapping{}
	var columns []column
	rows := records
	if 2*jsons > len(records) {
		columns = pathsOf(records)
	} else {
		columns, rows = columnsOf(m, records)
	}
	p := &Proposal{}
	if !p.choose(m, columns) {
		return nil
	}
	if len(rows) < len(records) && !m.Named() {
		m.Header = true
	}
	p.Mapping = m.String()
	decoder := codecs.NewMappedDecoder(codecs.Auto, zone, m)
	if len(rows) < len(records) {
		if _, err := decoder.Header(records[0]); err != nil {
			return nil
		}
	}
	for _, row := range rows {
		var e toll.Event
		var err error
		if IsJSON(row) {
			_, err = decoder.DecodeAll(row, "", &e)
		} else {
			err = decoder.Row(row, &e)
		}
		if p.Records++; err == nil {
			if p.Rows++; p.Rows == 1 {
				p.First = describe(&e)
			}
		}
	}
	if p.Rows == 0 {
		return nil
	}
	return p
}

// columnsOf returns the columns of CSV, the rows without the header row, and sets the delimiter.
func columnsOf(m *mapping.Mapping, records [][]byte) ([]column, [][]byte) {
	var best [][]string
	most := 0
	for _, comma := range mapping.Delimiters() {
		widths := map[int]int{}
		var table [][]string
		for _, r := range records {
			row := codecs.SplitRow(r, comma)
			table = append(table, row)
			widths[len(row)]++
		}
		for width, n := range widths {
			if width >= int(mapping.Fields) && n > most {
				most, best, m.Delimiter = n, table, comma
			}
		}
	}
	if m.Delimiter == ',' {
		m.Delimiter = 0
	}
	if best == nil {
		return nil, records
	}
	// A header row has no number, and each name once.
	header := best[0]
	isHeader := len(best) > 1
	for i, name := range header {
		if _, err := strconv.ParseFloat(name, 64); err == nil || name == "" ||
			slices.Contains(header[:i], name) || strings.ContainsRune(name, ':') {
			isHeader = false
		}
	}
	var columns []column
	for i, name := range header {
		c := column{place: mapping.Place(strconv.Itoa(i + 1))}
		if isHeader {
			c.name = name
			if !strings.Contains(name, `"`) {
				c.place = mapping.Place(name)
			}
		}
		for j, row := range best {
			if i < len(row) && !(isHeader && j == 0) {
				c.values = append(c.values, row[i])
			}
		}
		columns = append(columns, c)
	}
	if isHeader {
		return columns, records[1:]
	}
	return columns, records
}

// maxPaths bounds the paths that are looked at.
const maxPaths = 1000

// pathsOf returns what records of JSON hold, by path.
func pathsOf(records [][]byte) []column {
	var columns []column
	index := map[string]int{}
	var walk func(path, name string, value any)
	walk = func(path, name string, value any) {
		leaf := ""
		switch v := value.(type) {
		case map[string]any:
			names := make([]string, 0, len(v))
			for n := range v {
				names = append(names, n)
			}
			slices.Sort(names)
			for _, n := range names {
				walk(strings.TrimPrefix(path+"."+n, "."), n, v[n])
			}
			return
		case []any:
			for i, part := range v[:min(len(v), 3)] {
				walk(strings.TrimPrefix(path+"."+strconv.Itoa(i), "."), name, part)
			}
			return
		case string:
			leaf = v
		case json.Number:
			leaf = string(v)
		default:
			return
		}
		at, ok := index[path]
		if !ok {
			if len(columns) == maxPaths || path == "" || strings.Contains(path, `"`) {
				return
			}
			at = len(columns)
			index[path] = at
			columns = append(columns, column{place: mapping.Place(path), name: name})
		}
		columns[at].values = append(columns[at].values, leaf)
	}
	for _, r := range records {
		d := json.NewDecoder(bytes.NewReader(r))
		d.UseNumber()
		var value any
		if d.Decode(&value) != nil {
			continue
		}
		if list, ok := value.([]any); ok && len(list) == 1 {
			value = list[0]
		}
		walk("", "", value)
	}
	return slices.DeleteFunc(columns, func(c column) bool { return 2*len(c.values) < len(records) })
}

// guess is a column for a field, the better the higher its score.
type guess struct {
	column int
	score  int
	format mapping.TimeFormat
}

// choose gives each field its column, and reports whether all have one.
func (p *Proposal) choose(m *mapping.Mapping, columns []column) bool {
	var guesses [mapping.Fields][]guess
	for i := range columns {
		c := &columns[i]
		if format, ok := timeFormatOf(c); ok {
			guesses[mapping.Time] = append(guesses[mapping.Time], guess{i,
				nameScore(c, mapping.Time, "time", "date", "stamp", "ts"), format})
			continue // numbers that are times are no ids
		}
		distinct := map[string]bool{}
		integers, small, text := 0, 0, 0
		for _, v := range c.values {
			distinct[v] = true
			whole, zeros, _ := strings.Cut(v, ".")
			n, err := strconv.ParseInt(whole, 10, 64)
			switch {
			case err == nil && strings.Trim(zeros, "0") == "" && n >= toll.MinPlaza && n <= toll.MaxPlaza:
				small++
				integers++
			case err == nil && strings.Trim(zeros, "0") == "" && n >= 0 && n <= toll.MaxVehicle:
				integers++
			case toll.ValidateType(v) == nil:
				text++
			}
		}
		most := len(c.values) * 9 / 10
		share := len(distinct) * 100 / max(1, len(c.values)) // that differ
		if integers > most {
			guesses[mapping.Vehicle] = append(guesses[mapping.Vehicle],
				guess{i, nameScore(c, mapping.Vehicle, "vehicle", "car", "veh", "plate", "tag") + share,
					mapping.TimeFormat{}})
		}
		if small > most {
			guesses[mapping.Plaza] = append(guesses[mapping.Plaza],
				guess{i, nameScore(c, mapping.Plaza, "plaza", "booth", "station", "gate", "toll") - share,
					mapping.TimeFormat{}})
		}
		if text > most || integers > most && nameScore(c, mapping.Type, "type", "class", "kind") > 0 {
			guesses[mapping.Type] = append(guesses[mapping.Type],
				guess{i, nameScore(c, mapping.Type, "type", "class", "kind", "category") - share,
					mapping.TimeFormat{}})
		}
	}
	// The fields that are told best by their values come first.
	taken := map[int]bool{}
	for _, f := range []mapping.Field{mapping.Time, mapping.Type, mapping.Plaza, mapping.Vehicle} {
		best := -1
		for i, g := range guesses[f] {
			if !taken[g.column] && (best < 0 || g.score > guesses[f][best].score) {
				best = i
			}
		}
		if best < 0 {
			return false
		}
		g := guesses[f][best]
		taken[g.column] = true
		c := &columns[g.column]
		m.Places[f] = c.place
		if f == mapping.Time {
			m.Format = g.format
			if ambiguous(c, g.format) {
				p.Notes = append(p.Notes, fmt.Sprintf("No date tells the day from the month: %s may be "+
					"month_first too.", c.values[0]))
			}
		} else if c.name == "" && len(guesses[f]) > 1 {
			p.Notes = append(p.Notes, fmt.Sprintf("%s is a guess by its values: no name tells.", f))
		}
	}
	return true
}

// nameScore returns how well a column's name fits a field.
func nameScore(c *column, field mapping.Field, parts ...string) int {
	if f, ok := mapping.FieldOf(c.name); ok {
		if f == field {
			return 2000
		}
		return -1000 // it is another one
	}
	name := strings.ToLower(c.name)
	for i, part := range parts {
		if strings.Contains(name, part) {
			return 1000 - i
		}
	}
	return 0
}

// epochs are units of time since 1970 by what tells them: numbers of this century.
var epochs = []struct {
	name string
	from int64
}{{"epoch_s", 1e9}, {"epoch_ms", 1e12}, {"epoch_us", 1e15}, {"epoch_ns", 1e18}}

// timeFormatOf returns how a column's times are written, and whether they are times.
func timeFormatOf(c *column) (mapping.TimeFormat, bool) {
	names := []string{"auto"}
	if n, err := strconv.ParseFloat(strings.TrimSpace(c.values[0]), 64); err == nil {
		names = nil
		for _, e := range epochs {
			if int64(n) >= e.from && n < float64(e.from)*4.2 {
				names = append(names, e.name)
			}
		}
		if len(names) > 0 && names[0] == "epoch_s" && nameScore(c, mapping.Time, "time", "date", "stamp",
			"ts", "epoch") <= 0 && c.name != "" {
			return mapping.TimeFormat{}, false // an id as large as that
		}
	} else {
		names = append(names, "day_first", "month_first", "%Y-%m-%d %H:%M", "%Y%m%dT%H%M%S")
	}
	for _, name := range names {
		format, err := mapping.ParseTimeFormat(name)
		if err != nil {
			continue
		}
		good := 0
		d := codecs.NewMappedDecoder(codecs.CSV, nil, &mapping.Mapping{Format: format})
		for _, v := range c.values {
			if d.Time(v) == nil {
				good++
			}
		}
		if good > len(c.values)*9/10 {
			return format, true
		}
	}
	return mapping.TimeFormat{}, false
}

// ambiguous reports whether dates may have the month first as well as the day.
func ambiguous(c *column, format mapping.TimeFormat) bool {
	if !format.DayFirst {
		return false
	}
	d := codecs.NewMappedDecoder(codecs.CSV, nil, &mapping.Mapping{
		Format: mapping.TimeFormat{MonthFirst: true}})
	for _, v := range c.values {
		if d.Time(v) != nil || strings.IndexAny(v, "/.-") == 4 {
			return false
		}
	}
	return true
}
