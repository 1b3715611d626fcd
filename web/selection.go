package web

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"

	"github.com/tollstream/tollstream/internal/board"
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
	by           string // a key of sortKeys
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
					"want some of free, busy, saturated, below_usual, no_data, with commas between")
				break
			}
			s.states = append(s.states, state)
		}
	}
	if text := query.Get("verification"); text != "" {
		for word := range strings.SplitSeq(text, ",") {
			status := board.Status(word)
			if doubt(status) == 0 {
				errs.Add("verification", "want some of exact, in_flight, mismatch, with commas between")
				break
			}
			s.verification = append(s.verification, status)
		}
	}
	s.by = query.Get("sort")
	if _, ok := sortKeys[s.by]; !ok {
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

// of returns the rows that are selected, in order. What is not known goes last either way; of
// equals the fuller plaza goes first, then by flow and id.
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
	key := sortKeys[s.by](chosen)
	type ranked struct {
		row *row
		at  float64 // NaN for not known
	}
	ranking := make([]ranked, len(chosen))
	for i, r := range chosen {
		ranking[i] = ranked{r, key(r)}
	}
	slices.SortFunc(ranking, func(x, y ranked) int {
		return cmp.Or(compare(x.at, y.at, s.descending), compare(orNaN(x.row.VC), orNaN(y.row.VC), true),
			compare(x.row.FlowPerHour, y.row.FlowPerHour, true), cmp.Compare(x.row.ID, y.row.ID))
	})
	for i := range ranking {
		chosen[i] = ranking[i].row
	}
	return chosen
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
	text := strings.ToLower(strconv.Itoa(int(r.ID)) + " " + r.Name + " " + r.Road)
	for _, word := range s.words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// compare compares two figures, NaN last.
func compare(x, y float64, descending bool) int {
	switch {
	case math.IsNaN(x) || math.IsNaN(y):
		return cmp.Compare(boolInt(math.IsNaN(x)), boolInt(math.IsNaN(y)))
	case descending:
		return cmp.Compare(y, x)
	}
	return cmp.Compare(x, y)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func orNaN(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

// sortKeys make, of the rows to be sorted, a function that returns where one of them is; NaN for
// not known.
var sortKeys = map[string]func([]*row) func(*row) float64{
	"":   figure(func(r *row) float64 { return float64(r.ID) }),
	"id": figure(func(r *row) float64 { return float64(r.ID) }),
	"name": words(func(r *row) string {
		return cmp.Or(r.Name, "Plaza "+strconv.Itoa(int(r.ID)))
	}),
	"road":      words(func(r *row) string { return r.Road }),
	"state":     figure(func(r *row) float64 { return float64(urgency(r.State)) }),
	"total":     figure(func(r *row) float64 { return float64(r.Total) }),
	"flow":      figure(func(r *row) float64 { return r.FlowPerHour }),
	"vc":        figure(func(r *row) float64 { return orNaN(r.VC) }),
	"heavy":     figure(func(r *row) float64 { return orNaN(r.HeavyShare) }),
	"z":         figure(func(r *row) float64 { return orNaN(r.Z) }),
	"deviation": figure(func(r *row) float64 { return math.Abs(orNaN(r.Z)) }),
	"late": figure(func(r *row) float64 {
		return float64(r.Late + r.LateQuarter + r.TooLate)
	}),
	"verification": figure(func(r *row) float64 { return float64(doubt(r.Verification.Status)) }),
	"last": figure(func(r *row) float64 {
		if r.LastEvent == nil {
			return math.NaN()
		}
		return float64(r.LastEvent.Unix())
	}),
}

var sortNames = []string{"id", "name", "road", "state", "total", "flow", "vc", "heavy", "z",
	"deviation", "late", "last", "verification"}

func figure(f func(*row) float64) func([]*row) func(*row) float64 {
	return func([]*row) func(*row) float64 { return f }
}

// words orders by text as a person would: case does not matter first, and 9 is before 10. An empty
// text is not known.
func words(text func(*row) string) func([]*row) func(*row) float64 {
	return func(rows []*row) func(*row) float64 {
		all := make([]string, 0, len(rows))
		for _, r := range rows {
			all = append(all, text(r))
		}
		collate.New(language.English, collate.Numeric).SortStrings(all)
		rank := make(map[string]float64, len(all))
		for i, t := range all {
			if _, had := rank[t]; !had {
				rank[t] = float64(i)
			}
		}
		return func(r *row) float64 {
			if text(r) == "" {
				return math.NaN()
			}
			return rank[text(r)]
		}
	}
}

// urgency says how urgent a state is; the higher the more.
func urgency(s traffic.State) int {
	return slices.Index([]traffic.State{traffic.Free, traffic.NoData, traffic.Busy, traffic.BelowUsual,
		traffic.Saturated}, s)
}

// doubt says how doubtful a verdict is, from 1 for exact; 0 for what is none.
func doubt(s board.Status) int {
	return slices.Index([]board.Status{board.Exact, board.InFlight, board.Mismatch}, s) + 1
}
