package web

import (
	"bytes"
	"cmp"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
)

// selection is which plazas are shown, and in which order: what the page's table shows, asked for
// with the same parameters. The zero value is all of them, ascending by id.
type selection struct {
	words        []string // in lower case; each is part of "id name road"
	states       []traffic.State
	road         string
	verification []board.Status
	by           string // one of sortNames, empty for id
	descending   bool
}

// maxSearch bounds the text that is looked for, in characters.
const maxSearch = 100

// selectionFrom reads a selection from the parameters of a request, which may have no others.
func selectionFrom(query url.Values) (selection, serve.ParameterErrors) {
	var s selection
	errs := serve.OnlyParameters(query, "sort", "order", "q", "state", "road", "verification")
	q := query.Get("q")
	if n := utf8.RuneCountInString(q); n > maxSearch {
		errs.Add("q", "has %d characters, want at most %d", n, maxSearch)
	}
	s.words = strings.Fields(strings.ToLower(q))
	s.road = query.Get("road")
	if text := query.Get("state"); text != "" {
		for word := range strings.SplitSeq(text, ",") {
			var state traffic.State
			if state.UnmarshalText([]byte(word)) != nil {
				errs.Add("state",
					"want some of free, busy, saturated, below_usual, above_usual, no_data, "+
						"catching_up, warming_up, with commas between")
				break
			}
			s.states = append(s.states, state)
		}
	}
	if text := query.Get("verification"); text != "" {
		for word := range strings.SplitSeq(text, ",") {
			status := board.Status(word)
			if !status.Valid() {
				errs.Add("verification", "want some of exact, in_flight, not_verified, mismatch, "+
					"with commas between")
				break
			}
			s.verification = append(s.verification, status)
		}
	}
	s.by = query.Get("sort")
	if s.by != "" && !slices.Contains(sortNames, s.by) {
		errs.Add("sort", "want one of %s", strings.Join(sortNames, ", "))
	}
	switch query.Get("order") {
	case "", "asc":
	case "desc":
		s.descending = true
	default:
		errs.Add("order", "want asc or desc")
	}
	return s, errs
}

// all reports whether the selection is all plazas, ascending by id.
func (s *selection) all() bool {
	return len(s.words) == 0 && len(s.states) == 0 && s.road == "" && len(s.verification) == 0 &&
		s.by == "" && !s.descending
}

// of returns the rows that are selected, in order. What is not known goes last either way.
func (s *selection) of(rows []*row) []*row {
	if s.all() {
		return rows
	}
	chosen := make([]*row, 0, len(rows))
	for _, r := range rows {
		if s.matches(r) {
			chosen = append(chosen, r)
		}
	}
	key := s.key(chosen)
	type ranked struct {
		row *row
		at  float64 // NaN for not known
	}
	ranking := make([]ranked, len(chosen))
	for i, r := range chosen {
		ranking[i] = ranked{r, key(&r.Plaza)}
	}
	slices.SortFunc(ranking, func(x, y ranked) int {
		return cmp.Or(board.CompareFigures(x.at, y.at, s.descending),
			board.CompareTies(&x.row.Plaza, &y.row.Plaza))
	})
	for i := range ranking {
		chosen[i] = ranking[i].row
	}
	return chosen
}

// key returns the figure that a selection is ordered by; chosen are the rows to order.
func (s *selection) key(chosen []*row) func(*board.Plaza) float64 {
	switch s.by {
	case "":
		return board.Figures["id"]
	case "name":
		return words(chosen, func(p *board.Plaza) string {
			return cmp.Or(p.Name, "Plaza "+strconv.Itoa(p.ID))
		})
	case "road":
		return words(chosen, func(p *board.Plaza) string { return p.Road })
	}
	return board.Figures[s.by]
}

func (s *selection) matches(r *row) bool {
	switch {
	case len(s.states) > 0 && !slices.Contains(s.states, r.State),
		len(s.verification) > 0 && !slices.Contains(s.verification, r.Verification.Status),
		s.road != "" && s.road != r.Road:
		return false
	case len(s.words) == 0:
		return true
	}
	text := strings.ToLower(strconv.Itoa(r.ID) + " " + r.Name + " " + r.Road)
	for _, word := range s.words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

var sortNames = []string{"id", "name", "road", "state", "total", "flow", "vc", "heavy", "z",
	"deviation", "late", "last", "verification"}

// words orders by text as a person would: case does not matter first, and 9 is before 10. An empty
// text is not known.
func words(rows []*row, text func(*board.Plaza) string) func(*board.Plaza) float64 {
	all := make([]string, 0, len(rows))
	for _, r := range rows {
		all = append(all, text(&r.Plaza))
	}
	collate.New(language.English, collate.Numeric).SortStrings(all)
	rank := make(map[string]float64, len(all))
	for i, t := range all {
		if _, had := rank[t]; !had {
			rank[t] = float64(i)
		}
	}
	return func(p *board.Plaza) float64 {
		if text(p) == "" {
			return math.NaN()
		}
		return rank[text(p)]
	}
}

// plazaID reads the plaza that a path names, written as we write it.
func plazaID(r *http.Request) (int16, serve.ParameterErrors) {
	text := r.PathValue("id")
	n, err := strconv.ParseInt(text, 10, 16)
	if err != nil || strconv.FormatInt(n, 10) != text {
		var errs serve.ParameterErrors
		errs.Add("id", "want a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
		return 0, errs
	}
	return int16(n), nil
}

// csvColumns are the columns of the CSV, with their names and cells. An unknown value is empty.
// Units and meanings are those of [board.Plaza].
var csvColumns = []text.CSVColumn[board.Plaza]{
	{"id", func(p *board.Plaza) string { return strconv.Itoa(int(p.ID)) }},
	{"name", func(p *board.Plaza) string { return text.CSVCell(p.Name) }},
	{"road", func(p *board.Plaza) string { return text.CSVCell(p.Road) }},
	{"position_km", func(p *board.Plaza) string { return decimal(p.PositionKm) }},
	{"lanes", func(p *board.Plaza) string { return strconv.Itoa(p.Lanes) }},
	{"timezone", func(p *board.Plaza) string { return text.CSVCell(p.Timezone) }},
	{"state", func(p *board.Plaza) string {
		text, err := p.State.MarshalText()
		if err != nil {
			return "" // normalized, so there is none
		}
		return string(text)
	}},
	{"since", func(p *board.Plaza) string { return clock(p.Since) }},
	{"why", func(p *board.Plaza) string { return text.CSVCell(p.Why) }},
	{"total", func(p *board.Plaza) string { return whole(&p.Total) }},
	{"flow_per_hour", func(p *board.Plaza) string {
		if !p.FlowPerHour.Known() {
			return ""
		}
		return decimal((*float64)(&p.FlowPerHour))
	}},
	{"vc", func(p *board.Plaza) string { return decimal(p.VC) }},
	{"phf", func(p *board.Plaza) string { return decimal(p.PHF) }},
	{"heavy_share", func(p *board.Plaza) string { return decimal(p.HeavyShare) }},
	{"z", func(p *board.Plaza) string { return decimal(p.Z) }},
	{"usual_median", func(p *board.Plaza) string {
		if p.Usual == nil {
			return ""
		}
		return decimal(&p.Usual.Median)
	}},
	{"usual_mad", func(p *board.Plaza) string {
		if p.Usual == nil {
			return ""
		}
		return decimal(&p.Usual.MAD)
	}},
	{"headway_seconds", func(p *board.Plaza) string { return decimal(p.HeadwaySeconds) }},
	{"demand", func(p *board.Plaza) string { return decimal(p.Throughput) }},
	{"capacity", func(p *board.Plaza) string { return decimal(p.Capacity) }},
	{"capacity_wrong", func(p *board.Plaza) string { return strconv.FormatBool(p.CapacityWrong) }},
	{"last_event", func(p *board.Plaza) string { return clock(p.LastEvent) }},
	{"late", func(p *board.Plaza) string { return whole(&p.Late) }},
	{"late_quarter", func(p *board.Plaza) string { return whole(&p.LateQuarter) }},
	{"too_late", func(p *board.Plaza) string { return whole(&p.TooLate) }},
	{"ahead", func(p *board.Plaza) string { return whole(&p.Ahead) }},
	{"verification", func(p *board.Plaza) string {
		return text.CSVCell(string(p.Verification.Status))
	}},
	{"table_count", func(p *board.Plaza) string { return whole(&p.Verification.TableCount) }},
	{"stored_rows", func(p *board.Plaza) string { return whole(p.Verification.StoredRows) }},
	{"in_flight", func(p *board.Plaza) string { return whole(&p.Verification.InFlight) }},
}

// serveCSV responds with the plazas as CSV (RFC 4180) in UTF-8.
func (s *Server) serveCSV(w http.ResponseWriter, r *http.Request) {
	m, rows, ok := s.selected(w, r)
	if !ok {
		return
	}
	var b bytes.Buffer
	_ = text.WriteCSV(&b, csvColumns, len(rows),
		func(i int) *board.Plaza { return &rows[i].Plaza }, true) // a buffer takes everything
	s.setAge(w, m)
	w.Header().Set("Content-Disposition",
		`attachment; filename="plazas-`+m.at.UTC().Format("20060102T150405Z")+`.csv"`)
	serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()).Serve(w, r)
}

func decimal(x *float64) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(*x, 'f', -1, 64)
}

func whole(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}
