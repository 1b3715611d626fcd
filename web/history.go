package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// past is a question about a plaza's past.
type past struct {
	id    int16
	query url.Values
	board.Range
	loc *time.Location // the plaza's clock
}

// past reads a question about a plaza's past, which may have parameters of those names. It returns
// false where it has answered already.
func (s *Server) past(w http.ResponseWriter, r *http.Request, names ...string) (past, bool) {
	id, errs := plazaID(r)
	query, more := serve.Parameters(r)
	errs = append(append(errs, more...), serve.OnlyParameters(query, names...)...)
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return past{}, false
	}
	if s.refresher.current.Load().snapshot == nil { // which has the plaza's clock
		if _, ok := s.board(w, r); !ok {
			return past{}, false
		}
	}
	p := past{id: id, query: query, loc: s.zoneOf(id)}
	p.From, p.Until = p.instant("from", &errs), p.instant("to", &errs)
	if p.From != nil && p.Until != nil && !p.From.Before(*p.Until) {
		errs.Add("to", "want a time after from, which is %s", p.From.In(p.loc).Format(time.RFC3339))
	}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return past{}, false
	}
	return p, true
}

// Years that a parameter may name. Beyond them are wrong clocks, and what a minute can't hold.
const (
	firstYear = 1970
	lastYear  = 2999
)

// instant reads a parameter that is a time: RFC 3339, or what the plaza's clock shows, or a date
// for its midnight. A clock that is set forward shows the time it is set to instead of those it
// leaves out.
func (p *past) instant(name string, errs *serve.ParameterErrors) *time.Time {
	text := p.query.Get(name)
	if text == "" {
		return nil
	}
	// an offset's plus sign that was not escaped
	t, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1))
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if err == nil {
			break
		}
		var wall time.Time
		if wall, err = time.Parse(layout, text); err == nil {
			t = toll.NewZone(p.loc).Boundary(toll.WallTimeOf(wall)).Time().
				Add(time.Duration(wall.Second()) * time.Second)
		}
	}
	if err != nil || t.Year() < firstYear || t.Year() > lastYear {
		errs.Add(name, "want a time as 2026-03-02T06:00 by the plaza's clock, as "+
			"2026-03-02T06:00:00Z, or a date as 2026-03-02, from %d to %d", firstYear, lastYear)
		return nil
	}
	return &t
}

// question returns the key that equal requests share.
func (p *past) question(what string) string {
	return fmt.Sprintf("%s %d %s", what, p.id, p.query.Encode())
}

// serveFlow responds with what passed a plaza by quarters of an hour.
func (s *Server) serveFlow(w http.ResponseWriter, r *http.Request) {
	p, ok := s.past(w, r, "from", "to")
	if !ok {
		return
	}
	if p.From != nil && p.Until != nil && p.Until.Sub(*p.From) > board.LongestSeries {
		var errs serve.ParameterErrors
		errs.Add("to", "want a time up to %.0f days after from", board.LongestSeries.Hours()/24)
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, p.question("flow"), func(ctx context.Context) (*serve.Representation, error) {
		series, err := s.source.Series(ctx, p.id, p.Range)
		if err != nil {
			return nil, err
		}
		series.From, series.Until = series.From.In(p.loc), series.Until.In(p.loc)
		series.Quarters = list(series.Quarters)
		normalizeQuarters(series.Quarters, p.loc)
		return serve.JSON(series)
	})
}

// serveTransitions responds with a page of a plaza's changes of congestion.
func (s *Server) serveTransitions(w http.ResponseWriter, r *http.Request) {
	p, ok := s.past(w, r, "from", "to", "limit", "before")
	if !ok {
		return
	}
	var errs serve.ParameterErrors
	of := fmt.Sprintf("transitions %d", p.id)
	q := board.ChangeQuery{Range: p.Range, Limit: serve.Limit(p.query, &errs),
		Before: serve.Cursor[time.Time](p.query, "before", of, &errs)}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, p.question("transitions"), func(ctx context.Context) (*serve.Representation, error) {
		page, err := s.source.Changes(ctx, p.id, q)
		if err != nil {
			return nil, err
		}
		answer := struct {
			Transitions []board.Change `json:"transitions"`
			Next        *string        `json:"next"`
		}{Transitions: list(page.Changes)}
		normalizeChanges(answer.Transitions, p.loc)
		if n := len(page.Changes); n > 0 && page.More {
			answer.Next = new(serve.EncodeCursor(of, page.Changes[n-1].Detected))
		}
		return serve.JSON(answer)
	})
}

// kindOf reads which kind of windows is asked for, nil for all.
func (p *past) kindOf(errs *serve.ParameterErrors) *toll.WindowKind {
	name := p.query.Get("kind")
	if name == "" {
		return nil
	}
	kinds, err := toll.ParseWindows(name)
	if err != nil || len(kinds) != 1 || kinds[0].Name != name {
		errs.Add("kind", "want the name of one kind of windows, such as 15m, 5m/1m or day")
		return nil
	}
	return &kinds[0]
}

// serveWindows responds with a page of a plaza's windows.
func (s *Server) serveWindows(w http.ResponseWriter, r *http.Request) {
	p, ok := s.past(w, r, "kind", "from", "to", "limit", "before")
	if !ok {
		return
	}
	var errs serve.ParameterErrors
	p.kindOf(&errs)
	q := board.WindowQuery{Range: p.Range, Kind: p.query.Get("kind"),
		Limit: serve.Limit(p.query, &errs)}
	of := fmt.Sprintf("windows %d %s", p.id, q.Kind)
	q.Before = serve.Cursor[board.WindowPosition](p.query, "before", of, &errs)
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, p.question("windows"), func(ctx context.Context) (*serve.Representation, error) {
		page, err := s.source.Windows(ctx, p.id, q)
		if err != nil {
			return nil, err
		}
		answer := struct {
			Windows []board.Window `json:"windows"`
			Kinds   []string       `json:"kinds"`
			Next    *string        `json:"next"`
		}{Windows: list(page.Windows), Kinds: list(page.Kinds)}
		normalizeWindows(answer.Windows, p.loc)
		if n := len(answer.Windows); n > 0 && page.More {
			last := &answer.Windows[n-1]
			answer.Next = new(serve.EncodeCursor(of, board.WindowPosition{Start: last.Start,
				Kind: last.Kind}))
		}
		return serve.JSON(answer)
	})
}

// windowColumns are the columns of the CSV of windows. An unknown value is empty. Units and
// meanings are those of [board.Window].
var windowColumns = []text.CSVColumn[board.Window]{
	{"kind", func(w *board.Window) string { return text.CSVCell(w.Kind) }},
	{"start", func(w *board.Window) string { return clock(&w.Start) }},
	{"end", func(w *board.Window) string { return clock(&w.End) }},
	{"count", func(w *board.Window) string { return whole(&w.Count) }},
	{"flow_per_hour", func(w *board.Window) string { return decimal(&w.FlowPerHour) }},
	{"final", func(w *board.Window) string { return strconv.FormatBool(w.Final) }},
	{"revision", func(w *board.Window) string { return whole(&w.Revision) }},
	{"reason", func(w *board.Window) string { return text.CSVCell(string(w.Reason)) }},
	{"on_time", func(w *board.Window) string { return whole(&w.OnTime) }},
	{"late", func(w *board.Window) string { return whole(&w.Late) }},
	{"too_late", func(w *board.Window) string { return whole(&w.TooLate) }},
	{"completeness", func(w *board.Window) string { return decimal(w.Completeness) }},
	{"by_type", func(w *board.Window) string {
		counts, _ := json.Marshal(w.ByType) // numbers by text always can
		return text.CSVCell(string(counts))
	}},
}

// Bounds of the CSV of windows.
const (
	mostWindows   = 100_000            // in one file
	windowsAtOnce = 2_000              // that are read and sent
	usualCSV      = 7 * 24 * time.Hour // where the range has no beginning
)

// serveWindowsCSV responds with a plaza's windows as CSV (RFC 4180), read and sent by parts. Where
// the source fails in between, the connection breaks, so that a part does not pass for the whole.
func (s *Server) serveWindowsCSV(w http.ResponseWriter, r *http.Request) {
	p, ok := s.past(w, r, "kind", "from", "to")
	if !ok {
		return
	}
	var errs serve.ParameterErrors
	kind := p.kindOf(&errs)
	every := time.Minute // of all kinds, the shortest that there may be
	if kind != nil && !kind.Day {
		every = time.Duration(kind.Hop) * time.Minute
	} else if kind != nil {
		every = 24 * time.Hour
	}
	if p.Until == nil {
		p.Until = new(s.refresher.current.Load().newest.Add(time.Minute)) // which is a minute's beginning
	}
	if p.From == nil {
		p.From = new(p.Until.Add(-usualCSV))
	}
	if longest := mostWindows * every; p.Until.Sub(*p.From) > longest {
		errs.Add("from", "want at most %d windows: up to %.0f days of this kind", mostWindows,
			longest.Hours()/24)
	}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	q := board.WindowQuery{Range: p.Range, Kind: p.query.Get("kind"), Limit: windowsAtOnce}
	var page board.WindowPage
	read := func() error {
		return s.queries.Run(r.Context(), func(ctx context.Context) (err error) {
			page, err = s.source.Windows(ctx, p.id, q)
			return err
		})
	}
	if err := read(); err != nil {
		s.failQuery(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="plaza-%d-windows-%s-%s.csv"`, p.id,
		p.From.In(p.loc).Format("20060102T1504"), p.Until.In(p.loc).Format("20060102T1504")))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	for head, control := true, http.NewResponseController(w); ; head = false {
		_ = control.SetWriteDeadline(time.Now().Add(s.tuning.streamWrite))
		normalizeWindows(page.Windows, p.loc)
		err := text.WriteCSV(w, windowColumns, len(page.Windows),
			func(i int) *board.Window { return &page.Windows[i] }, head)
		if err != nil || !page.More || len(page.Windows) == 0 {
			return
		}
		last := &page.Windows[len(page.Windows)-1]
		q.Before = &board.WindowPosition{Start: last.Start, Kind: last.Kind}
		if err := read(); err != nil {
			s.cfg.Log.Warn("a download was cut off", "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}
