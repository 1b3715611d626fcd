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
