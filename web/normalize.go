package web

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll/traffic"
)

// maxProblems is how many problems of a verification are shown. Beyond that, the log is the place.
const maxProblems = 100

// normalizer makes what a source returns fit to be encoded: times by the right clock, figures
// rounded and finite, lists never nil.
type normalizer struct {
	mu    sync.Mutex
	zones map[string]*time.Location // nil for a name that does not exist
}

// zone returns a timezone by its IANA name, and false where there is none.
func (n *normalizer) zone(name string) (*time.Location, bool) {
	if name == "" || name == "Local" { // which would be this machine's
		return nil, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	loc, known := n.zones[name]
	if !known {
		loc, _ = time.LoadLocation(name)
		if n.zones == nil {
			n.zones = map[string]*time.Location{}
		}
		n.zones[name] = loc
	}
	return loc, loc != nil
}

// board normalizes a board, with its plazas ascending by id and its summary.
func (n *normalizer) board(b *board.Board) {
	loc, ok := n.zone(b.Timezone)
	if !ok {
		b.Timezone, loc = "UTC", time.UTC
	}
	b.At = b.At.In(loc).Truncate(time.Millisecond)
	b.StreamTime, b.Watermark = in(loc, b.StreamTime), in(loc, b.Watermark)
	b.Verification.CheckedAt = in(loc, b.Verification.CheckedAt)
	n.health(b, loc)
	b.OpenTransactions, b.Warnings = list(b.OpenTransactions), list(b.Warnings)
	b.Verification.Problems, b.Verification.Next = list(b.Verification.Problems),
		list(b.Verification.Next)
	b.Verification.Problems = b.Verification.Problems[:min(len(b.Verification.Problems), maxProblems)]
	b.Plazas = list(b.Plazas)
	slices.SortStableFunc(b.Plazas, func(p, q board.Plaza) int { return cmp.Compare(p.ID, q.ID) })
	b.Plazas = slices.CompactFunc(b.Plazas, func(p, q board.Plaza) bool { return p.ID == q.ID })
	for i := range b.Plazas {
		n.plaza(&b.Plazas[i], b.Timezone, loc)
	}
	b.Summary = board.Summarize(b.Plazas)
	b.Summary.FlowPerHour = flow(b.Summary.FlowPerHour)
}

// health normalizes what is said of the feed and of the processes.
func (n *normalizer) health(b *board.Board, loc *time.Location) {
	b.Feed.ArrivedAt, b.Processing.Since = in(loc, b.Feed.ArrivedAt), in(loc, b.Processing.Since)
	b.Feed.UsualPerHour = rounded(b.Feed.UsualPerHour, 1)
	p := &b.Processing
	p.Instances, b.Notices = slices.Clone(list(p.Instances)), list(b.Notices)
	for i := range p.Instances {
		in := &p.Instances[i]
		in.StartedAt, in.SeenAt = in.StartedAt.In(loc).Truncate(time.Millisecond),
			in.SeenAt.In(loc).Truncate(time.Millisecond)
		if in.StoppedAt != nil {
			in.StoppedAt = new(in.StoppedAt.In(loc).Truncate(time.Millisecond))
		}
	}
	if c := p.CatchingUp; c != nil {
		p.CatchingUp = &board.CatchingUp{Events: c.Events, Minutes: rounded(c.Minutes, 1)}
	}
}

// plaza normalizes a row; timezone and home are the database's.
func (n *normalizer) plaza(p *board.Plaza, timezone string, home *time.Location) *time.Location {
	loc, ok := n.zone(p.Timezone)
	if !ok {
		p.Timezone, loc = timezone, home
	}
	if _, err := p.State.MarshalText(); err != nil {
		p.State = traffic.NoData
	}
	p.Since, p.LastEvent = in(loc, p.Since), in(loc, p.LastEvent)
	p.PositionKm = rounded(p.PositionKm, 3)
	p.FlowPerHour = flow(p.FlowPerHour)
	p.VC, p.PHF, p.HeavyShare = rounded(p.VC, 4), rounded(p.PHF, 4), rounded(p.HeavyShare, 4)
	p.Z, p.HeadwaySeconds = rounded(p.Z, 3), rounded(p.HeadwaySeconds, 3)
	p.Throughput, p.Capacity = rounded(p.Throughput, 2), rounded(p.Capacity, 2)
	if p.Usual != nil {
		p.Usual = &traffic.Usual{Median: number(p.Usual.Median, 3), MAD: number(p.Usual.MAD, 3),
			N: p.Usual.N}
	}
	p.Sparkline = list(p.Sparkline)
	// a row is kept as long as nothing of it changes
	p.Counts, p.Counted, p.Assessment, p.Measure = nil, nil, nil, nil
	return loc
}

// detail normalizes a plaza's page; timezone is the database's.
func (n *normalizer) detail(d *board.Detail, timezone string, now time.Time) {
	home, ok := n.zone(timezone)
	if !ok {
		timezone, home = "UTC", time.UTC
	}
	loc := n.plaza(&d.Plaza, timezone, home)
	if d.At.IsZero() {
		d.At = now
	}
	d.At = d.At.In(loc).Truncate(time.Millisecond)
	d.Quarters, d.LastWeek = list(d.Quarters), list(d.LastWeek)
	normalizeQuarters(d.Quarters, loc)
	normalizeQuarters(d.LastWeek, loc)
	d.Changes = list(d.Changes)
	normalizeChanges(d.Changes, loc)
	d.RecentWindows = list(d.RecentWindows)
	normalizeWindows(d.RecentWindows, loc)
}

func normalizeQuarters(quarters []board.Quarter, loc *time.Location) {
	for i := range quarters {
		q := &quarters[i]
		q.Start = q.Start.In(loc)
		q.ByType = counts(q.ByType)
		q.UsualMedian, q.UsualLow, q.UsualHigh = rounded(q.UsualMedian, 3), rounded(q.UsualLow, 3),
			rounded(q.UsualHigh, 3)
		q.PassengerCars, q.Capacity = rounded(q.PassengerCars, 2), rounded(q.Capacity, 2)
	}
}

func normalizeChanges(changes []board.Change, loc *time.Location) {
	for i := range changes {
		c := &changes[i]
		c.Since, c.Detected = c.Since.In(loc), c.Detected.In(loc)
	}
}

func normalizeWindows(windows []board.Window, loc *time.Location) {
	for i := range windows {
		w := &windows[i]
		w.Start, w.End = w.Start.In(loc), w.End.In(loc)
		w.ByType = counts(w.ByType)
		w.FlowPerHour = number(w.FlowPerHour, 2)
		w.Completeness = nil
		if all := w.Count + w.TooLate; all > 0 {
			// Rounded down: what is not all must not look so.
			w.Completeness = new(math.Floor(float64(w.Count)/float64(all)*1e4) / 1e4)
		}
	}
}

// in returns a time by a clock. RFC 3339 has no years beyond 9999; what lies there is a wrong
// clock, of which nothing is known.
func in(loc *time.Location, t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	shown := t.In(loc).Truncate(time.Millisecond)
	if year := shown.Year(); year < 1 || year > 9999 {
		return nil
	}
	return &shown
}

// number rounds x to decimals; what is no number is 0.
func number(x float64, decimals int) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	if r := text.Rounded(x, decimals); !math.IsInf(r, 0) {
		return r
	}
	return x
}

// flow rounds a flow that is known.
func flow(f board.Flow) board.Flow {
	if !f.Known() {
		return board.UnknownFlow()
	}
	return board.Flow(number(float64(f), 2))
}

// rounded rounds x to decimals; what is no number is not known.
func rounded(x *float64, decimals int) *float64 {
	if x == nil || math.IsNaN(*x) || math.IsInf(*x, 0) {
		return nil
	}
	return new(number(*x, decimals))
}

// list returns l, and not nil.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// counts returns m, and not nil.
func counts(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return maps.Clone(m)
}
