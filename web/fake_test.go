package web

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

// fakeSource is a source whose boards a test makes. Unlike a true one it answers at once, and from
// memory.
type fakeSource struct {
	mu      sync.Mutex
	next    func() (*board.Board, error)
	err     error
	plazas  map[int16]*board.Detail
	windows []board.Window // the newest first
	letters []board.DeadLetter
	cutOff  error // of windows behind the first page
	// the newest first
	incidents []board.Incident
	notes     []board.NewNote
	hold      chan struct{} // boards wait for it to be closed; nil for none

	boards, asked atomic.Int64
}

func (f *fakeSource) set(change func(*fakeSource)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeSource) Board(ctx context.Context) (*board.Board, error) {
	f.boards.Add(1)
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	return f.next()
}

func (f *fakeSource) Plaza(_ context.Context, id int16) (*board.Detail, error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	d := f.plazas[id]
	if d == nil {
		return nil, fmt.Errorf("look for plaza %d: %w", id, board.ErrNotFound)
	}
	copied := *d
	return &copied, nil
}

func (f *fakeSource) Windows(_ context.Context, id int16, q board.WindowQuery) (board.WindowPage,
	error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plazas[id] == nil {
		return board.WindowPage{}, board.ErrNotFound
	}
	if f.cutOff != nil && q.Before != nil {
		return board.WindowPage{}, f.cutOff
	}
	page := board.WindowPage{Kinds: []string{"15m", "1h"}}
	if q.Kind != "" && !slices.Contains(page.Kinds, q.Kind) &&
		!slices.ContainsFunc(f.windows, func(w board.Window) bool { return w.Kind == q.Kind }) {
		return board.WindowPage{}, &board.UnknownKindError{Kinds: page.Kinds}
	}
	behind := q.Before == nil
	for _, w := range f.windows {
		switch {
		case q.Kind != "" && q.Kind != w.Kind, !q.Holds(w.Start):
		case !behind:
			behind = w.Start.Equal(q.Before.Start) && w.Kind == q.Before.Kind
		case len(page.Windows) == q.Limit:
			page.More = true
		default:
			page.Windows = append(page.Windows, w)
		}
	}
	return page, nil
}

func (f *fakeSource) Series(_ context.Context, id int16, r board.Range) (*board.Series, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.plazas[id]
	if d == nil {
		return nil, board.ErrNotFound
	}
	s := &board.Series{From: epoch, Until: epoch.Add(24 * time.Hour)}
	if r.From != nil {
		s.From = *r.From
	}
	if r.Until != nil {
		s.Until = *r.Until
	}
	for _, q := range d.Quarters {
		if !q.Start.Before(s.From) && q.Start.Before(s.Until) {
			s.Quarters = append(s.Quarters, q)
		}
	}
	return s, nil
}

func (f *fakeSource) Changes(_ context.Context, id int16, q board.ChangeQuery) (board.ChangePage,
	error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.plazas[id]
	if d == nil {
		return board.ChangePage{}, board.ErrNotFound
	}
	var page board.ChangePage
	for _, c := range d.Changes {
		switch {
		case !q.Holds(c.Detected), q.Before != nil && !c.Detected.Before(*q.Before):
		case len(page.Changes) == q.Limit:
			page.More = true
		default:
			page.Changes = append(page.Changes, c)
		}
	}
	return page, nil
}

func (f *fakeSource) DeadLetters(_ context.Context, q board.PageQuery) (board.DeadLetterPage,
	error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return board.DeadLetterPage{}, f.err
	}
	page := board.DeadLetterPage{Total: int64(len(f.letters))}
	for _, d := range f.letters {
		switch {
		case q.After != nil && (d.Partition < q.After.Partition || d.Partition == q.After.Partition &&
			d.Offset <= q.After.Offset):
		case len(page.DeadLetters) == q.Limit:
			page.More = true
		default:
			page.DeadLetters = append(page.DeadLetters, d)
		}
	}
	return page, nil
}

func (f *fakeSource) Incidents(_ context.Context, q board.IncidentQuery) (board.IncidentPage,
	error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return board.IncidentPage{}, f.err
	}
	var page board.IncidentPage
	for _, i := range f.incidents {
		switch {
		case q.Before != nil && (i.Began.After(q.Before.Began) ||
			i.Began.Equal(q.Before.Began) && i.Plaza >= int(q.Before.Plaza)):
		case q.Plaza != nil && i.Plaza != int(*q.Plaza), q.Open && i.Ended != nil:
		case len(page.Incidents) == q.Limit:
			page.More = true
		default:
			page.Incidents = append(page.Incidents, i)
		}
	}
	return page, nil
}

func (f *fakeSource) AddNote(_ context.Context, n board.NewNote) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.Incident.String() != f.incidents[0].ID {
		return fmt.Errorf("note: %w", board.ErrNoIncident)
	}
	f.notes = append(f.notes, n)
	return nil
}

func (f *fakeSource) Journeys(context.Context) (*board.Journeys, error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	return &board.Journeys{JourneyWindow: journeyWindow, Sections: []board.Section{
		{From: 4000, To: 4001, FromName: "=Plaza 0", Road: "A 1", Vehicles: 312,
			MedianSeconds: new(490.0), UsualSeconds: new(170.0), DelayHours: new(27.73),
			OverdueLow: new(int64(12)), OverdueHigh: new(int64(20)), Slow: true},
		{From: 4001, To: 4000, Vehicles: 5}}}, nil
}

func (f *fakeSource) Through(_ context.Context, id int16) (*board.Through, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plazas[id] == nil {
		return nil, board.ErrNotFound
	}
	return &board.Through{JourneyWindow: journeyWindow, Plaza: int(id), Vehicles: 20,
		Origins: []board.Stream{{Plaza: new(4001), Vehicles: 12, Share: .6},
			{Vehicles: 8, Share: .4}}}, nil
}

var journeyWindow = board.JourneyWindow{At: epoch, From: epoch.Add(-15 * time.Minute),
	Until: epoch, Timezone: "Europe/Berlin", Status: board.HasJourneys}

// epoch is when tests begin.
var epoch = time.Date(2026, 3, 2, 6, 15, 0, 0, time.UTC)

// network is made-up plazas whose figures move as those of true ones do.
type network struct {
	random *rand.Rand
	board  board.Board
	now    time.Time
}

func newNetwork(plazas int) *network {
	n := &network{random: rand.New(rand.NewPCG(1, 2)), now: epoch}
	n.board = board.Board{Timezone: "Europe/Berlin",
		Verification: board.Verification{Status: board.Exact, Events: new(int64), Rows: new(int64)}}
	for i := range plazas {
		p := board.Plaza{
			ID: 4000 + i, Name: fmt.Sprintf("Plaza %d north", i), Road: fmt.Sprintf("A %d",
				i%7), PositionKm: new(float64(i) * 1.5), Lanes: 6,
			Timezone: []string{"", "America/Chicago"}[i%2], State: traffic.Free, Since: new(epoch),
			Why:      "throughput is 312 of 3900 passenger cars an hour, 8 %",
			Capacity: new(3900.0), Usual: &traffic.Usual{Median: 120, MAD: 5.5,
				N: 8}, Total: int64(100_000 + n.random.IntN(900_000)),
			Verification: board.PlazaVerification{Status: board.Exact, StoredRows: new(int64)},
		}
		for range board.SparklineQuarters {
			p.Sparkline = append(p.Sparkline, new(int64(50+n.random.IntN(100))))
		}
		n.board.Plazas = append(n.board.Plazas, p)
	}
	return n
}

// step lets a second pass in which a vehicle or more passes each of the first plazas, with all that
// it changes: total, verification, flow and what is made of it, the quarter that runs. Flow changes
// once a minute in truth.
func (n *network) step(changing int) *board.Board {
	n.now = n.now.Add(time.Second)
	b := n.board
	b.At = n.now
	b.StreamTime, b.Watermark = new(n.now.Truncate(time.Minute)),
		new(n.now.Truncate(time.Minute).Add(-time.Minute))
	b.Plazas = slices.Clone(b.Plazas)
	for i := range min(changing, len(b.Plazas)) {
		p := &b.Plazas[i]
		p.Total += 1 + n.random.Int64N(3)
		p.LastEvent = new(n.now.Add(-time.Duration(n.random.IntN(3)) * time.Second))
		count := 100 + n.random.IntN(60)
		p.FlowPerHour = board.Flow(4 * count)
		p.HeavyShare = new(n.random.Float64() / 3)
		p.Throughput = new(float64(p.FlowPerHour) * (1 + *p.HeavyShare))
		if p.Capacity != nil {
			p.VC = new(*p.Throughput / *p.Capacity)
		}
		p.PHF = new(0.8 + n.random.Float64()/5)
		p.HeadwaySeconds = new(900 / float64(count))
		p.Z = new((float64(count) - 120) / 10.95)
		p.Sparkline = slices.Clone(p.Sparkline)
		if last := len(p.Sparkline) - 1; last >= 0 && p.Sparkline[last] != nil {
			p.Sparkline[last] = new(*p.Sparkline[last] + 1)
		}
		p.Verification.TableCount, p.Verification.StoredRows = p.Total, new(p.Total)
	}
	n.board.Plazas = b.Plazas
	b.Plazas = slices.Clone(b.Plazas)
	return &b
}

// source returns a source of the network, with history of its first plaza.
func (n *network) source() *fakeSource {
	f := &fakeSource{plazas: map[int16]*board.Detail{}}
	f.next = func() (*board.Board, error) { return n.step(len(n.board.Plazas)), nil }
	for i := range 30 {
		w := board.Window{
			Kind: "15m", Start: epoch.Add(-time.Duration(i) * 15 * time.Minute), Count: 128,
			ByType:      map[string]int64{"car": 117, "truck": 11},
			FlowPerHour: 512, Final: true, Revision: 1 + int64(i%2), Reason: toll.ClosedByWatermark,
			OnTime: 126, Late: 2, TooLate: int64(i % 3),
		}
		w.End = w.Start.Add(15 * time.Minute)
		f.windows = append(f.windows, w)
		if i%4 == 0 {
			w.Kind, w.End = "1h", w.Start.Add(time.Hour)
			f.windows = append(f.windows, w)
		}
	}
	for i := range 25 {
		f.letters = append(f.letters, board.DeadLetter{
			Kind:      toll.RejectFormat,
			Partition: int32(i / 10), Offset: int64(i), Time: epoch, Reason: "event: 3 fields, want 4",
			Key:     []byte("4856"),
			Payload: []byte("Thu Feb 10 10:23:02 2022,3728373,car"), PayloadBytes: 36,
			RejectedAt: epoch.Add(time.Second),
		})
	}
	for i := range 12 {
		f.incidents = append(f.incidents, incident(4000+i%3, epoch.Add(-time.Duration(i)*time.Hour)))
		f.incidents[i].Ended = new(f.incidents[i].Began.Add(40 * time.Minute))
	}
	f.incidents[0].Ended = nil
	if len(n.board.Plazas) == 0 {
		return f
	}
	d := &board.Detail{
		Plaza: n.board.Plazas[0], DaySoFar: new(int64(1234)), DaySoFarLastWeek: new(int64(1300)),
		History: board.History{
			RecentWindows: f.windows[:5],
			Changes: []board.Change{{From: traffic.Free, To: traffic.Busy, Since: epoch,
				Detected: epoch.Add(2 * time.Minute), Why: "throughput is 80 % of capacity"}},
		},
	}
	for i := range 96 {
		q := board.Quarter{Start: epoch.Add(time.Duration(i) * 15 * time.Minute), UsualMedian: new(120.0),
			UsualLow: new(87.2), UsualHigh: new(152.9), Capacity: new(975.0)}
		if i < 30 {
			q.Count, q.ByType = new(int64(128)), map[string]int64{"car": 117, "truck": 11}
		}
		d.Quarters, d.LastWeek = append(d.Quarters, q), append(d.LastWeek, q)
	}
	f.plazas[int16(d.ID)] = d
	return f
}

// handClock is a clock that a test moves. Each move is a tick of the refresher.
type handClock struct {
	mu    sync.Mutex
	at    time.Time
	ticks chan time.Time
}

func newHandClock() *handClock { return &handClock{at: epoch, ticks: make(chan time.Time)} }

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// advance returns when the refresher has begun to take the tick.
func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	now := c.at
	c.mu.Unlock()
	c.ticks <- now
}

// running is a server that runs, and a client of it.
type running struct {
	*Server
	*servetest.Client
	t      testing.TB
	clock  *handClock
	logged *testkit.Buffer
}

const patience = servetest.Patience

// start runs a server of a source on a free port, with a clock that stands. change may change what
// it is made of.
func start(t testing.TB, source Source, change func(*Config, *tuning)) *running {
	t.Helper()
	c := newHandClock()
	r := &running{t: t, clock: c, logged: &testkit.Buffer{}}
	cfg := Config{Config: serve.Config{Listen: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}}
	tune := defaultTuning(time.Second)
	// A test that wants one of these to pass sets it. The others are no test of how fast a busy
	// machine is.
	tune.boardTime, tune.queryTime, tune.firstBoard, tune.streamWrite, tune.join = patience, patience,
		patience, patience, patience
	cfg.Timeouts = serve.Timeouts{ReadHeader: patience, Read: patience, Write: patience}
	tune.now = c.now
	tune.ticks = func() (<-chan time.Time, func()) { return c.ticks, func() {} }
	if change != nil {
		change(&cfg, &tune)
	}
	s, err := newServer(cfg, source, tune)
	if err != nil {
		t.Fatal(err)
	}
	r.Server, r.Client = s, servetest.Run(t, s)
	return r
}

// await waits until the current moment is as it should be.
func (r *running) await(what string, is func(*moment) bool) *moment {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		m := r.refresher.current.Load()
		if is(m) {
			return m
		}
		select {
		case <-m.next:
		case <-timeout:
			r.t.Fatalf("never: %s", what)
		}
	}
}

// awaitBoard waits for the first board.
func (r *running) awaitBoard() *moment {
	r.t.Helper()
	return r.await("a board", func(m *moment) bool { return m.snapshot != nil })
}

// nextBoard lets a second pass and waits for the board that it brings.
func (r *running) nextBoard() *moment {
	r.t.Helper()
	before := r.awaitBoard().number
	r.clock.advance(time.Second)
	return r.await("the next board", func(m *moment) bool { return m.number > before })
}

// eventually waits for a condition that nothing signals.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
