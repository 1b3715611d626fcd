package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// viewSource gives the live view what it shows, from the group table and the database. It shows
// nothing before open.
type viewSource struct {
	failed func(error)  // told once there is nothing left to read
	turn   chan *viewer // holds the viewer, which makes one board at a time
	last   atomic.Pointer[sourceBoard]

	plazaSeries int // how many plazas have metrics of their own
}

// sourceBoard is the board that was read last. It is only read.
type sourceBoard struct {
	*viewBoard
	at          time.Time // wall clock
	windowKinds []toll.WindowKind
	store       *sql.Store
}

func newViewSource(failed func(error)) *viewSource {
	return &viewSource{failed: failed, turn: make(chan *viewer, 1)}
}

// open gives the source its viewer, once.
func (s *viewSource) open(v *viewer) { s.turn <- v }

// detailAge is how old a board may be for what is told of one plaza. While there are clients it is
// read every second, and what is asked about one plaza costs no board then.
const detailAge = 3 * time.Second

// read returns a board that is not older than age.
func (s *viewSource) read(ctx context.Context, age time.Duration) (*sourceBoard, error) {
	fresh := func() *sourceBoard {
		if last := s.last.Load(); last != nil && time.Since(last.at) < age {
			return last
		}
		return nil
	}
	if b := fresh(); b != nil {
		return b, nil
	}
	var v *viewer
	select {
	case v = <-s.turn:
		defer func() { s.turn <- v }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b := fresh(); b != nil { // another one read it in the meantime
		return b, nil
	}
	b := &sourceBoard{at: time.Now(), store: v.store}
	var err error
	if b.viewBoard, err = v.read(ctx); err != nil {
		if errors.Is(err, errTableEnded) {
			s.failed(err)
		}
		return nil, err
	}
	b.addSilent(v.about)
	if b.kinds != "" {
		if b.windowKinds, err = toll.ParseWindows(b.kinds); err != nil {
			return nil, fmt.Errorf("read the windows that the database has: %w", err)
		}
	}
	s.last.Store(b)
	return b, nil
}

// addSilent adds the plazas of the plazas file that nothing was ever heard of.
func (b *viewBoard) addSilent(about map[int16]toll.Plaza) {
	heard := map[int]bool{}
	for i := range b.plazas {
		heard[b.plazas[i].plaza] = true
	}
	for _, plaza := range slices.Sorted(maps.Keys(about)) {
		if !heard[int(plaza)] {
			p := plazaBoard{plaza: int(plaza), state: new(toll.State), location: b.location,
				check: sql.PlazaCheck{Plaza: int(plaza), Status: sql.Exact}}
			p.describe(about[plaza])
			b.plazas = append(b.plazas, p)
		}
	}
}

// find returns a plaza, or [board.ErrNotFound].
func (b *sourceBoard) find(plaza int16) (*plazaBoard, error) {
	i := slices.IndexFunc(b.plazas, func(p plazaBoard) bool { return p.plaza == int(plaza) })
	if i < 0 {
		return nil, board.ErrNotFound
	}
	return &b.plazas[i], nil
}

// Board returns all plazas, as of now. Rows are counted as often as by view --watch.
func (s *viewSource) Board(ctx context.Context) (*board.Board, error) {
	b, err := s.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	shown := &board.Board{At: b.at, Waiting: b.backlog.Offsets, Warnings: clocks.Warnings(b.skews),
		Timezone: b.location.String(), Verification: b.verification(), Plazas: make([]board.Plaza, 0,
			len(b.plazas))}
	shown.RecentRejects = board.RecentRejects{Records: b.recent.Records, Rejected: b.recent.Rejected,
		High: b.recent.High()}
	for _, t := range b.backlog.Open {
		shown.OpenTransactions = append(shown.OpenTransactions,
			board.OpenTransaction{Partition: t.Partition, Offset: t.Offset, Since: t.Since})
	}
	if b.started {
		shown.StreamTime = new(b.now.Time())
		if !b.watermark.IsZero() {
			shown.Watermark = new(b.watermark)
		}
	}
	zone := toll.NewZone(b.location)
	for i := range b.plazas {
		if b.plazas[i].plaza != nullPlaza {
			shown.Plazas = append(shown.Plazas, b.web(&b.plazas[i], zone))
		}
	}
	return shown, nil
}

// verification returns the proof of all figures. Events and rows are those of the same check, the
// last that counted rows.
func (b *viewBoard) verification() board.Verification {
	status, inFlight, _ := b.status()
	v := board.Verification{Status: board.Status(status), InFlight: inFlight}
	events, rows, counted := int64(0), int64(0), len(b.plazas) == 0
	var problems []sql.Problem
	for i := range b.plazas {
		p := &b.plazas[i]
		proof := b.proof(p)
		events += proof.TableCount
		if proof.StoredRows != nil {
			counted = true
			rows += *proof.StoredRows
		}
		problems = append(problems, p.problems()...)
	}
	for _, problem := range problems {
		v.Problems = append(v.Problems, text.OneLine(problem.Text))
	}
	v.Next = sql.NextSteps(problems)
	v.Events = &events
	if counted && !b.rowsAt.IsZero() {
		v.Rows, v.CheckedAt = &rows, new(b.rowsAt)
	}
	return v
}

// proof returns the proof of a plaza's figures, which compares what was counted at one moment.
func (b *viewBoard) proof(p *plazaBoard) board.PlazaVerification {
	check := &p.check
	if check.StoredRows == nil && p.rows != nil && p.rows.StoredRows != nil {
		check = p.rows
	}
	return board.PlazaVerification{
		Status: board.Status(p.status()), TableCount: check.TableCount,
		StoredRows: check.StoredRows, InFlight: p.check.InFlight, ChecksumOK: check.ChecksumOK,
	}
}

// web returns a plaza's row.
func (b *viewBoard) web(p *plazaBoard, zone *toll.Zone) board.Plaza {
	row := board.Plaza{
		ID: int16(p.plaza), Name: p.about.Name, Road: p.about.Road, Lanes: p.about.Lanes,
		Timezone: p.location.String(), Total: p.state.Events,
		Late: p.state.Late, LateQuarter: p.state.LateQuarter, TooLate: p.state.TooLate,
		Ahead: p.state.Ahead, LeadSeconds: p.state.Lead,
		Sparkline: b.quarterCounts(p), Verification: b.proof(p),
	}
	if p.about.PositionKm != 0 {
		row.PositionKm = new(p.about.PositionKm)
	}
	if capacity, ok := p.about.Capacity(); ok {
		row.Capacity = &capacity
	}
	if p.state.Events > 0 {
		row.LastEvent = new(time.Unix(zone.Unix(p.state.Latest), 0))
	}
	row.FlowPerHour, _ = b.flow(p)
	a := p.congestion
	switch {
	case a == nil:
		return row
	case b.stale(p): // a state of the past is none of now
		row.Since, row.Why = new(a.Until.Time()), fmt.Sprintf("judged up to %s only, as %s",
			p.at(a.Until, b.now), a.State)
		return row
	}
	m := &a.Last
	row.State, row.Since, row.Why = a.State, new(a.Since.Time()), text.OneLine(a.Why)
	row.VC, row.PHF, row.HeavyShare, row.Z, row.HeadwaySeconds = m.VC, m.PHF, m.HeavyShare, m.Z,
		m.HeadwaySeconds
	row.Demand = new(m.Demand)
	if m.Usual != nil && m.Usual.Known() {
		row.Usual = m.Usual
	}
	if m.Capacity != nil {
		row.Capacity = m.Capacity
	}
	return row
}

// quarterCounts returns the vehicles in the last quarters of an hour up to the stream's time, 0
// where that is not kept.
func (b *viewBoard) quarterCounts(p *plazaBoard) []int64 {
	counts := make([]int64, board.SparklineQuarters)
	if !b.started {
		return counts
	}
	last := int64(toll.QuarterOf(b.now))
	for i := range p.state.Quarters.List {
		pane := &p.state.Quarters.List[i]
		if before := (last - int64(pane.Start)) / toll.Quarter; int64(pane.Start) <= last &&
			before < board.SparklineQuarters {
			counts[board.SparklineQuarters-1-before] += pane.Count()
		}
	}
	return counts
}

// Plaza returns one plaza with its history.
func (s *viewSource) Plaza(ctx context.Context, plaza int16) (*board.Detail, error) {
	b, err := s.read(ctx, detailAge)
	if err != nil {
		return nil, err
	}
	p, err := b.find(plaza)
	if err != nil {
		return nil, err
	}
	d := &board.Detail{Plaza: b.web(p, toll.NewZone(b.location)), At: b.at}
	h := newPlazaHistory(b, p)
	if d.Quarters, err = h.quarters(ctx, h.today); err != nil {
		return nil, err
	}
	if d.LastWeek, err = h.quarters(ctx, h.today-7); err != nil {
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
	transitions, err := b.store.Transitions(ctx, plaza, transitionsRead)
	if err != nil {
		return nil, err
	}
	for i := range transitions {
		t := &transitions[i]
		d.Changes = append(d.Changes,
			board.Change{From: t.From, To: t.To, Since: t.Since.Time(), Detected: t.Detected.Time(),
				Why: text.OneLine(t.Why)})
	}
	// some of each kind, or the short ones would take all places
	windows, err := b.store.Windows(ctx, plaza, windowsRead)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(windows, func(v, w sql.StoredWindow) int {
		return cmp.Or(cmp.Compare(w.Start, v.Start), cmp.Compare(v.Kind, w.Kind))
	})
	d.RecentWindows = webWindows(windows)
	return d, nil
}

// Windows returns a plaza's closed windows.
func (s *viewSource) Windows(ctx context.Context, plaza int16,
	q board.WindowQuery) (board.WindowPage,
	error) {
	b, err := s.read(ctx, detailAge)
	if err != nil {
		return board.WindowPage{}, err
	}
	if _, err := b.find(plaza); err != nil {
		return board.WindowPage{}, err
	}
	page := board.WindowPage{}
	for _, k := range b.windowKinds {
		page.Kinds = append(page.Kinds, k.Name)
	}
	kinds := page.Kinds
	if q.Kind != "" {
		kinds = []string{q.Kind}
	}
	var before *sql.WindowPosition
	if q.Before != nil {
		before = &sql.WindowPosition{Start: toll.MinuteAt(q.Before.Start.Unix()), Kind: q.Before.Kind}
	}
	windows, err := b.store.WindowPage(ctx, plaza, kinds, before, q.Limit+1)
	if err != nil {
		return board.WindowPage{}, err
	}
	page.More = len(windows) > q.Limit
	page.Windows = webWindows(windows[:min(len(windows), q.Limit)])
	return page, nil
}

func webWindows(windows []sql.StoredWindow) []board.Window {
	shown := make([]board.Window, 0, len(windows))
	for i := range windows {
		w := &windows[i]
		events := w.Events()
		shown = append(shown, board.Window{
			Kind: w.Kind, Start: w.Start.Time(), End: w.End.Time(), Count: events, ByType: byType(w.Types),
			FlowPerHour: toll.FlowPerHour(events, toll.Window{Start: w.Start, End: w.End}.Span()),
			Final:       w.Whole && w.Revision > 0,
			Revision:    w.Revision, Reason: w.Reason, OnTime: events - w.Late, Late: w.Late,
			TooLate: w.TooLateNow,
		})
	}
	return shown
}

// payloadRead is how much of a dead letter's payload is read, which may have many megabytes.
const payloadRead = 4096

// DeadLetters returns what was rejected.
func (s *viewSource) DeadLetters(ctx context.Context, q board.PageQuery) (board.DeadLetterPage,
	error) {
	b, err := s.read(ctx, detailAge)
	if err != nil {
		return board.DeadLetterPage{}, err
	}
	letters, err := b.store.DeadLetters(ctx,
		sql.DeadLetterFilter{Limit: q.Limit + 1, After: q.After, PayloadLimit: payloadRead})
	if err != nil {
		return board.DeadLetterPage{}, err
	}
	page := board.DeadLetterPage{More: len(letters) > q.Limit}
	if page.Total, err = b.store.CountDeadLetters(ctx, sql.DeadLetterFilter{}); err != nil {
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
