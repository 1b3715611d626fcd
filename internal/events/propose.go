package events

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// Proposal is a mapping that was guessed from some records.
type Proposal struct {
	Mapping string   `json:"mapping"`
	Records int      `json:"records"` // that were tried
	Rows    int      `json:"rows"`    // how many of them would be rows
	Events  int      `json:"events"`  // that those hold
	First   string   `json:"first"`   // the first row
	Notes   []string `json:"notes,omitzero"`
}

// column is what some records hold at one place.
type column struct {
	place  mapping.Place
	name   string // of the column, or the last part of the path; "" for none
	values []string
}

// propose guesses the mapping of the sample; nil where it finds none.
func (c *checker) propose() (best *Proposal) {
	if len(c.sample) == 0 {
		return nil
	}
	for _, like := range c.like {
		trees := c.trees(&like)
		if 2*len(trees) <= len(c.sample) {
			m := like
			columns, rows := columnsOf(&m, c.sample)
			best = better(best, c.try(m, columns, rows))
			continue
		}
		for _, list := range append([]mapping.Place{""}, listsOf(trees)...) {
			like.Events = list
			best = better(best, c.try(like, pathsOf(trees, list), nil))
		}
	}
	return best
}

// better returns the proposal by which more would be rows, the second one of equal ones.
func better(a, b *Proposal) *Proposal {
	if a == nil || b != nil && (b.Rows > a.Rows || b.Rows == a.Rows && b.Events >= a.Events) {
		return b
	}
	return a
}

// trees returns the records of the sample that are maps and lists, a list as what is in it.
func (c *checker) trees(m *mapping.Mapping) (trees []any) {
	decoder := c.decoder(m)
	for _, r := range c.sample {
		var e toll.Event
		_, _ = decoder.DecodeAll(r.value, r.contentType, &e)
		switch tree := decoder.Tree().(type) {
		case nil:
		case []any:
			trees = append(trees, tree...)
		default:
			trees = append(trees, tree)
		}
	}
	return trees
}

// try completes a mapping by columns and reads the sample by it, or the rows of CSV below its
// header row; nil where that makes no rows.
func (c *checker) try(m mapping.Mapping, columns []column, rows []record) *Proposal {
	p := &Proposal{}
	if !p.choose(&m, columns) {
		return nil
	}
	// What a record says once tells no vehicles apart.
	if m.Events != "" && strings.HasPrefix(string(m.Places[mapping.Vehicle]), mapping.Outside) {
		return nil
	}
	isCSV := rows != nil
	if !isCSV {
		rows = c.sample
	}
	header := len(rows) < len(c.sample)
	m.Header = header && !m.Named()
	p.Mapping = m.String()
	decoder := c.decoder(&m)
	if header {
		if _, err := decoder.Header(c.sample[0].value); err != nil {
			return nil
		}
	}
	for _, r := range rows {
		var e toll.Event
		var more []toll.Event
		var err error
		if p.Records++; isCSV && !IsJSON(r.value) {
			err = decoder.Row(r.value, &e)
		} else {
			more, err = decoder.DecodeAll(r.value, r.contentType, &e)
		}
		if err == nil {
			p.Events += 1 + len(more)
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
func columnsOf(m *mapping.Mapping, records []record) ([]column, []record) {
	var best [][]string
	most := 0
	for _, comma := range mapping.Delimiters() {
		widths := map[int]int{}
		var table [][]string
		for _, r := range records {
			row := codecs.SplitRow(r.value, comma)
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

// Bounds of what is looked at.
const (
	maxPaths = 1000
	maxLists = 5
)

// pathsOf returns what trees hold, by path. Where a list of events is given, paths are those in its
// parts, and those outside of it.
func pathsOf(trees []any, list mapping.Place) []column {
	if list == "" {
		w := walker{index: map[string]int{}}
		for _, tree := range trees {
			w.walk("", "", tree)
		}
		return w.usual(len(trees))
	}
	inside := walker{index: map[string]int{}}
	outside := walker{index: map[string]int{}, without: mapping.Outside + string(list)}
	parts := 0
	for _, tree := range trees {
		outside.walk(strings.TrimSuffix(mapping.Outside, "."), "", tree)
		events, _ := mapping.Find(tree, string(list)).([]any)
		parts += len(events)
		for _, event := range events {
			inside.walk("", "", event)
		}
	}
	return append(inside.usual(parts), outside.usual(len(trees))...)
}

// listsOf returns where most of the trees have a list of maps, which may be events.
func listsOf(trees []any) []mapping.Place {
	counts := map[mapping.Place]int{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, part := range v {
				walk(strings.TrimPrefix(path+"."+name, "."), part)
			}
		case []any:
			if len(v) == 0 || len(counts) == maxPaths || strings.Contains(path, `"`) {
				return
			}
			if _, ok := v[0].(map[string]any); ok {
				counts[mapping.Place(path)]++
			}
		}
	}
	for _, tree := range trees {
		walk("", tree)
	}
	maps.DeleteFunc(counts, func(_ mapping.Place, n int) bool { return 2*n < len(trees) })
	lists := slices.Sorted(maps.Keys(counts))
	return lists[:min(len(lists), maxLists)]
}

// walker collects what trees hold, by path.
type walker struct {
	columns []column
	index   map[string]int
	without string // a path that is left out; "" for none
}

func (w *walker) walk(path, name string, value any) {
	if path != "" && path == w.without {
		return
	}
	leaf := ""
	switch v := value.(type) {
	case map[string]any:
		for _, n := range slices.Sorted(maps.Keys(v)) {
			w.walk(strings.TrimPrefix(path+"."+n, "."), n, v[n])
		}
		return
	case []any:
		for i, part := range v[:min(len(v), 3)] {
			w.walk(strings.TrimPrefix(path+"."+strconv.Itoa(i), "."), name, part)
		}
		return
	case nil, bool:
		return
	case time.Time:
		leaf = v.UTC().Format(time.RFC3339)
	default:
		text, err := mapping.Text(mapping.Vehicle, v)
		if err != nil {
			return
		}
		leaf = string(text)
	}
	at, ok := w.index[path]
	if !ok {
		if len(w.columns) == maxPaths || path == "" || strings.Contains(path, `"`) {
			return
		}
		at = len(w.columns)
		w.index[path] = at
		w.columns = append(w.columns, column{place: mapping.Place(path), name: name})
	}
	w.columns[at].values = append(w.columns[at].values, leaf)
}

// usual returns the columns that at least half of the trees have.
func (w *walker) usual(trees int) []column {
	return slices.DeleteFunc(w.columns, func(c column) bool { return 2*len(c.values) < trees })
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
				nameScore(c, mapping.Time, "time", "date", "stamp", "ts", "unix"), format})
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
			"ts", "unix", "epoch") <= 0 && c.name != "" {
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
