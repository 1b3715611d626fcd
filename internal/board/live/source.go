package live

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
)

// Source gives the live view what it shows. It shows nothing before Open.
type Source struct {
	failed func(error)  // called once there is nothing left to read
	turn   chan *Reader // holds the reader, which reads one board at a time
	store  *sql.Store
	last   atomic.Pointer[board.Board] // is only read
	bounds capacityBounds
}

// NewSource returns a source that calls failed once there is nothing left to read.
func NewSource(failed func(error)) *Source {
	return &Source{failed: failed, turn: make(chan *Reader, 1)}
}

// Open gives the source its reader, once.
func (s *Source) Open(r *Reader) {
	s.store = r.store
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
	h := newHistory(s.store, b, p)
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
	return newHistory(s.store, b, p).series(ctx, r)
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
