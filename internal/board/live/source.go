package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Source gives the live view what it shows. It shows nothing before Open.
type Source struct {
	failed   func(error)  // called once there is nothing left to read
	turn     chan *Reader // holds the reader, which reads one board at a time
	store    *sql.Store
	holidays traffic.Holidays
	last     atomic.Pointer[board.Board] // is only read
	bounds   capacityBounds
	journeys journeyBoards
}

// NewSource returns a source that calls failed once there is nothing left to read.
func NewSource(failed func(error)) *Source {
	return &Source{failed: failed, turn: make(chan *Reader, 1),
		journeys: journeyBoards{turn: semaphore.NewWeighted(1),
			through: map[int16]kept[*board.Through]{}}}
}

// Open gives the source its reader, once.
func (s *Source) Open(r *Reader) {
	s.store, s.holidays = r.store, r.cfg.Holidays
	if s.journeys.fresh, s.journeys.pause = r.cfg.JourneysEvery, 1; r.cfg.JourneysEvery == 0 {
		s.journeys.fresh, s.journeys.pause = journeysFresh, journeysPause
	}
	s.turn <- r
}

// Last returns the board that was read last, nil for none. It must not be changed.
func (s *Source) Last() *board.Board { return s.last.Load() }

// detailAge is how old a board may be for a question about one plaza. While there are clients it is
// read every second, and such a question costs no board then.
const detailAge = 3 * time.Second

// read returns a board that is not older than age.
func (s *Source) read(ctx context.Context, age time.Duration) (*board.Board, error) {
	fresh := func() *board.Board {
		if last := s.last.Load(); last != nil && time.Since(last.At) < age {
			return last
		}
		return nil
	}
	if b := fresh(); b != nil {
		return b, nil
	}
	var r *Reader
	select {
	case r = <-s.turn:
		defer func() { s.turn <- r }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b := fresh(); b != nil { // another one read it in the meantime
		return b, nil
	}
	b, err := r.Read(ctx)
	if err != nil {
		if errors.Is(err, board.ErrEnded) {
			s.failed(err)
		}
		return nil, err
	}
	s.last.Store(b)
	return b, nil
}

// plaza returns a plaza and its board, or [board.ErrNotFound].
func (s *Source) plaza(ctx context.Context, id int16) (*board.Board, *board.Plaza, error) {
	b, err := s.read(ctx, detailAge)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(b.Plazas, func(p board.Plaza) bool { return p.ID == int(id) })
	if i < 0 {
		return nil, nil, board.ErrNotFound
	}
	return b, &b.Plazas[i], nil
}

// Board returns all plazas, as of now, with each sentence on one line. The caller may change it.
func (s *Source) Board(ctx context.Context) (*board.Board, error) {
	last, err := s.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	b := *last
	b.Plazas = slices.DeleteFunc(slices.Clone(last.Plazas), func(p board.Plaza) bool {
		return p.ID == board.NullPlaza
	})
	for i := range b.Plazas {
		b.Plazas[i].Why = text.OneLine(b.Plazas[i].Why)
	}
	b.Verification.Problems = slices.Clone(b.Verification.Problems)
	for i, problem := range b.Verification.Problems {
		b.Verification.Problems[i] = text.OneLine(problem)
	}
	if b.StreamTime == nil {
		b.Watermark = nil
	}
	return &b, nil
}

// Plaza returns one plaza with its history.
func (s *Source) Plaza(ctx context.Context, id int16) (*board.Detail, error) {
	b, p, err := s.plaza(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &board.Detail{Plaza: *p, At: b.At}
	d.Why = text.OneLine(d.Why)
	h := newHistory(s.store, s.holidays, b, p)
	if d.Quarters, err = h.quarters(ctx, h.date(h.today)); err != nil {
		return nil, err
	}
	if d.LastWeek, err = h.quarters(ctx, h.date(h.today-7)); err != nil {
		return nil, err
	}
	if err := h.addUsual(ctx, d.Quarters); err != nil {
		return nil, err
	}
	if d.DaySoFar, err = h.soFar(ctx, d.Quarters, h.now+1); err != nil {
		return nil, err
	}
	if d.DaySoFarLastWeek, err = h.soFar(ctx, d.LastWeek, h.aWeekBefore()+1); err != nil {
		return nil, err
	}
	if d.CapacityBound, err = s.bounds.of(ctx, s.store, h); err != nil {
		return nil, err
	}
	if d.Changes, err = readChanges(ctx, s.store, id); err != nil {
		return nil, err
	}
	for i := range d.Changes {
		d.Changes[i].Why = text.OneLine(d.Changes[i].Why)
	}
	// some of each kind, or the short ones would take all places
	windows, err := s.store.Windows(ctx, id, windowsRead)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(windows, func(v, w results.StoredWindow) int {
		return cmp.Or(cmp.Compare(w.Start, v.Start), cmp.Compare(v.Kind, w.Kind))
	})
	d.RecentWindows = windowsOf(windows)
	return d, nil
}

// Windows returns a plaza's closed windows.
func (s *Source) Windows(ctx context.Context, id int16, q board.WindowQuery) (board.WindowPage,
	error) {
	b, _, err := s.plaza(ctx, id)
	if err != nil {
		return board.WindowPage{}, err
	}
	page := board.WindowPage{}
	for _, k := range b.Kinds {
		page.Kinds = append(page.Kinds, k.Name)
	}
	kinds := page.Kinds
	if q.Kind != "" {
		if !slices.Contains(kinds, q.Kind) {
			return board.WindowPage{}, &board.UnknownKindError{Kinds: kinds}
		}
		kinds = []string{q.Kind}
	}
	var before *results.WindowPosition
	if q.Before != nil {
		before = &results.WindowPosition{Start: toll.MinuteAt(q.Before.Start.Unix()), Kind: q.Before.Kind}
	}
	from, until := minutesOf(q.Range)
	windows, err := s.store.WindowPage(ctx, id, kinds, toll.Window{Start: from, End: until}, before,
		q.Limit+1)
	if err != nil {
		return board.WindowPage{}, err
	}
	page.More = len(windows) > q.Limit
	page.Windows = windowsOf(windows[:min(len(windows), q.Limit)])
	return page, nil
}

// Series returns what passed a plaza by quarters of an hour.
func (s *Source) Series(ctx context.Context, id int16, r board.Range) (*board.Series, error) {
	b, p, err := s.plaza(ctx, id)
	if err != nil {
		return nil, err
	}
	return newHistory(s.store, s.holidays, b, p).series(ctx, r)
}

// Changes returns a plaza's changes of congestion.
func (s *Source) Changes(ctx context.Context, id int16, q board.ChangeQuery) (board.ChangePage,
	error) {
	if _, _, err := s.plaza(ctx, id); err != nil {
		return board.ChangePage{}, err
	}
	from, until := minutesOf(q.Range)
	if q.Before != nil {
		until = min(until, toll.MinuteAt(q.Before.Unix()))
	}
	transitions, err := s.store.TransitionPage(ctx, id, toll.Window{Start: from, End: until},
		q.Limit+1)
	if err != nil {
		return board.ChangePage{}, err
	}
	page := board.ChangePage{More: len(transitions) > q.Limit}
	page.Changes = changesOf(transitions[:min(len(transitions), q.Limit)])
	for i := range page.Changes {
		page.Changes[i].Why = text.OneLine(page.Changes[i].Why)
	}
	return page, nil
}

// payloadRead is how much of a dead letter's payload is read, which may have many megabytes.
const payloadRead = 4096

// DeadLetters returns what was rejected.
func (s *Source) DeadLetters(ctx context.Context, q board.PageQuery) (board.DeadLetterPage,
	error) {
	if _, err := s.read(ctx, detailAge); err != nil {
		return board.DeadLetterPage{}, err
	}
	letters, err := s.store.DeadLetters(ctx,
		sql.DeadLetterFilter{Limit: q.Limit + 1, After: q.After, PayloadLimit: payloadRead})
	if err != nil {
		return board.DeadLetterPage{}, err
	}
	page := board.DeadLetterPage{More: len(letters) > q.Limit}
	if page.Total, err = s.store.CountDeadLetters(ctx, sql.DeadLetterFilter{}); err != nil {
		return board.DeadLetterPage{}, err
	}
	for i := range letters[:min(len(letters), q.Limit)] {
		d := &letters[i]
		page.DeadLetters = append(page.DeadLetters, board.DeadLetter{
			Partition: d.Partition, Offset: d.Offset, Time: d.Time, Kind: d.Kind, Reason: d.Reason,
			SQLState: d.SQLState, Number: d.Number, Key: d.Key, Payload: d.Payload,
			PayloadBytes: d.PayloadBytes, RejectedAt: d.RejectedAt, Retried: d.Retried,
		})
	}
	return page, nil
}

// Incidents returns a page of the incidents of all plazas, each in the time of its plaza.
func (s *Source) Incidents(ctx context.Context, q board.IncidentQuery) (board.IncidentPage,
	error) {
	if _, err := s.read(ctx, detailAge); err != nil {
		return board.IncidentPage{}, err
	}
	return Incidents(ctx, s.store, q)
}

// AddNote adds a note to an incident, or returns [board.ErrNoIncident].
func (s *Source) AddNote(ctx context.Context, n board.NewNote) error {
	if _, err := s.read(ctx, detailAge); err != nil {
		return err
	}
	err := s.store.AddNote(ctx, incidents.Note{IncidentID: n.Incident, Author: n.Author,
		Source: n.Source, Acknowledged: n.Acknowledged, Text: n.Note})
	if errors.Is(err, incidents.ErrNoIncident) {
		return board.ErrNoIncident
	}
	return err
}

// Incidents returns a page of the incidents that a database holds, each in the time of its plaza.
func Incidents(ctx context.Context, store *sql.Store, q board.IncidentQuery) (board.IncidentPage,
	error) {
	meta, err := store.Meta(ctx)
	if err != nil {
		return board.IncidentPage{}, err
	}
	database, err := time.LoadLocation(meta.Timezone)
	if err != nil {
		return board.IncidentPage{}, fmt.Errorf("load the database's timezone: %w", err)
	}
	configured, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return board.IncidentPage{}, err
	}
	zones, err := sql.PlazaZones(configured, database)
	if err != nil {
		return board.IncidentPage{}, err
	}
	found, more, err := store.Incidents(ctx, storedQuery(&q))
	page := board.IncidentPage{More: more, Database: meta.DatabaseID}
	for i := range found {
		location := database
		if zone := zones[found[i].Plaza]; zone != nil {
			location = zone.Location()
		}
		page.Incidents = append(page.Incidents, incidentOf(&found[i], location))
	}
	return page, err
}

func storedQuery(q *board.IncidentQuery) incidents.Query {
	minute := func(t *time.Time) *toll.Minute {
		if t == nil {
			return nil
		}
		return new(toll.MinuteAt(t.Unix()))
	}
	stored := incidents.Query{ID: q.ID, Plaza: q.Plaza, Road: q.Road, State: q.State, Open: q.Open,
		From: minute(q.From), To: minute(q.Until), Limit: q.Limit}
	if q.Before != nil {
		stored.Before = &incidents.Position{Began: toll.MinuteAt(q.Before.Began.Unix()),
			Plaza: q.Before.Plaza}
	}
	return stored
}

func incidentOf(i *incidents.Incident, location *time.Location) board.Incident {
	at := func(m toll.Minute) time.Time { return m.Time().In(location) }
	b := board.Incident{
		ID: i.IncidentID.String(), Plaza: int(i.Plaza), Name: text.OneLine(i.Name),
		Road: text.OneLine(i.Road), Timezone: location.String(),
		State: i.Worst, States: i.States, Severity: i.Worst.Severity(), Why: text.OneLine(i.Why),
		Began: at(i.Began), Detected: at(i.Detected),
		PeakFlow: i.Peak.FlowPerHour, PeakAt: at(i.Peak.At), Notes: []board.IncidentNote{},
	}
	if i.Ended != nil {
		b.Ended = new(at(*i.Ended))
	}
	if i.Notified != incidents.NotNotified {
		b.Notified = new(string(i.Notified))
	}
	for _, n := range i.Notes {
		b.Acknowledged = b.Acknowledged || n.Acknowledged
		b.Notes = append(b.Notes, board.IncidentNote{At: n.At, Author: text.OneLine(n.Author),
			Acknowledged: n.Acknowledged, Note: text.OneLine(n.Text)})
	}
	return b
}
