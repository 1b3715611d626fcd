// Package journeys turns events into travel times, and into where vehicles come from and go to: the
// same vehicle at plaza A and later at B is a journey.
//
// It is pure, as toll is, and stateless: what it returns depends on the events that it is given and
// on nothing before. sql/journeys reads the passages, without the vehicles' ids; sql/journeys.sql
// and sql/origins.sql count the same in the database.
package journeys

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// MaxGap is the longest time between two plazas of one journey, in seconds: a vehicle that is seen
// again later than that is on another trip. The shortest gap is a second.
const MaxGap = 2 * 3600

// Before is how long before a window arrivals are counted to compare with, in seconds.
const Before = 3600

// Passage is a vehicle at a plaza. Several rows of one second are one passage.
type Passage struct {
	At      toll.WallTime
	Vehicle int32
	Plaza   int16
}

// Passages returns the passages of events, which come in any order: by vehicle, then time, then
// plaza.
func Passages(events iter.Seq[toll.Event]) []Passage {
	var all []Passage
	for e := range events {
		all = append(all, Passage{At: e.Time, Vehicle: e.Vehicle, Plaza: e.Plaza})
	}
	return Sort(all)
}

// Sort brings passages into the order that [Segments] and [Runs] take, each of them once. It uses
// the slice that it is given.
func Sort(all []Passage) []Passage {
	slices.SortFunc(all, func(a, b Passage) int {
		return cmp.Or(cmp.Compare(a.Vehicle, b.Vehicle), cmp.Compare(a.At, b.At),
			cmp.Compare(a.Plaza, b.Plaza))
	})
	return slices.Compact(all)
}

// Pair is two plazas in the order in which vehicles pass them.
type Pair struct {
	From, To int16
}

// Compare orders pairs by From, then To.
func (p Pair) Compare(q Pair) int {
	return cmp.Or(cmp.Compare(p.From, q.From), cmp.Compare(p.To, q.To))
}

// Segment is a vehicle's way from one plaza to the next: from when it was last seen at the one to
// when it was first seen at the other.
type Segment struct {
	Pair
	Depart, Arrive toll.WallTime
}

// Gap returns how long the vehicle took, in seconds.
func (s *Segment) Gap() int32 { return int32(s.Arrive - s.Depart) }

// Segments returns the segments of passages, in their order: two that follow each other, at
// different plazas and a second to [MaxGap] apart. A repeat at one plaza makes none. Nor do two
// plazas in one second, of which nobody knows the order. Segments that touch a change of the clock
// are left out: how long they took is not known.
func Segments(passages []Passage, changes []Change) iter.Seq[Segment] {
	return func(yield func(Segment) bool) {
		for i := 1; i < len(passages); i++ {
			a, b := &passages[i-1], &passages[i]
			if a.Vehicle != b.Vehicle || a.Plaza == b.Plaza || b.At == a.At || b.At-a.At > MaxGap ||
				touches(changes, a.At, b.At) {
				continue
			}
			if !yield(Segment{Pair{a.Plaza, b.Plaza}, a.At, b.At}) {
				return
			}
		}
	}
}

// Runs returns the trips of passages: for each, the longest run of a vehicle's passages with gaps
// of at most [MaxGap]. Its first and last plaza are where the trip begins and ends. Trips that
// touch a change of the clock are left out.
func Runs(passages []Passage, changes []Change) iter.Seq[[]Passage] {
	return func(yield func([]Passage) bool) {
		for start, end := 0, 0; start < len(passages); start = end {
			for end = start + 1; end < len(passages) && passages[end].Vehicle == passages[start].Vehicle &&
				passages[end].At-passages[end-1].At <= MaxGap; end++ {
			}
			run := passages[start:end:end]
			if !touches(changes, run[0].At, run[len(run)-1].At) && !yield(run) {
				return
			}
		}
	}
}

// Change is the wall times [Start, End) that a change of the clock shows twice, or not at all.
type Change = Window

// Changes returns the changes of the clock that touch the wall times [from, to), which are bounded
// by the years of those changes: daylight saving time has two a year.
func Changes(zone *time.Location, from, to toll.WallTime) []Change {
	const day = 86400 // no clock is further from UTC
	var all []Change
	for at := int64(from) - day; at < int64(to)+day; {
		t := time.Unix(at, 0).In(zone)
		_, next := t.ZoneBounds()
		if next.IsZero() {
			break
		}
		before, after := toll.WallTimeOf(next.Add(-time.Second))+1, toll.WallTimeOf(next)
		if c := (Change{min(before, after), max(before, after)}); c.Start < c.End && c.Start < to &&
			c.End > from {
			all = append(all, c)
		}
		at = next.Unix()
	}
	return all
}

func touches(changes []Change, from, to toll.WallTime) bool {
	return slices.ContainsFunc(changes,
		func(c Change) bool { return from < c.End && to >= c.Start })
}

// Window is the wall times [Start, End).
type Window struct {
	Start, End toll.WallTime
}

// Holds reports whether a time is within the window.
func (w Window) Holds(t toll.WallTime) bool { return t >= w.Start && t < w.End }

// Last returns the last [ShortMinutes] of the window, or all of a shorter one.
func (w Window) Last() Window { return Window{max(w.Start, w.End-60*ShortMinutes), w.End} }

// Scan returns the times of the passages that say what arrived in the window.
func (w Window) Scan() Window { return Window{w.Start - MaxGap, w.End} }

// TripScan returns the times of the passages that trips of the window are made of. What a vehicle
// passed earlier or later is not seen.
func (w Window) TripScan() Window { return Window{w.Start - MaxGap, w.End + MaxGap} }

// within returns the passages of a window, in their order.
func within(passages []Passage, w Window) []Passage {
	return slices.DeleteFunc(slices.Clone(passages),
		func(p Passage) bool { return !w.Holds(p.At) })
}

// Counts is what arrived in a window, by how long it took. It holds no ids.
type Counts struct {
	Window   Window
	Sections map[Pair]Times // the segments that arrived in the window
	Recent   map[Pair]Times // those of them that arrived in its last [ShortMinutes]
	// Before are those that arrived in the time [Before] the window and took no longer than that,
	// which are all there are of these.
	Before map[Pair]Times
	Plazas map[int16]Seen // plazas that vehicles passed in the window
}

// Seen is the passages of a plaza.
type Seen struct {
	Passages int64
	First    int64 // of these, how many were of vehicles that were not seen within MaxGap before
}

// ShareFirst returns the share of the passages whose vehicle had not been seen before: who comes
// from where no plaza is, whose id was not read there, or who has another id each time.
func (s Seen) ShareFirst() float64 { return float64(s.First) / float64(max(s.Passages, 1)) }

// Counter counts what arrived in a window, of some vehicles after the other.
type Counter struct {
	window              Window
	changes             []Change
	plazas              map[int16]Seen
	now, recent, before Tally
}

// NewCounter returns a counter of a window.
func NewCounter(w Window, changes []Change) *Counter {
	return &Counter{window: w, changes: changes, plazas: map[int16]Seen{}}
}

// Add counts what arrived in a part of the window, of vehicles all of whose passages of that part's
// [Window.Scan] are there, as [Sort] returns them. Others are left out.
func (c *Counter) Add(passages []Passage, part Window) {
	passages = within(passages, part.Scan())
	for i, p := range passages {
		if !part.Holds(p.At) {
			continue
		}
		seen := c.plazas[p.Plaza]
		seen.Passages++
		if i == 0 || passages[i-1].Vehicle != p.Vehicle || p.At-passages[i-1].At > MaxGap {
			seen.First++
		}
		c.plazas[p.Plaza] = seen
	}
	for s := range Segments(passages, c.changes) {
		switch {
		case part.Holds(s.Arrive):
			if c.now.Add(s.Pair, s.Gap(), 1); c.window.Last().Holds(s.Arrive) {
				c.recent.Add(s.Pair, s.Gap(), 1)
			}
		case part.Start == c.window.Start && s.Arrive >= part.Start-Before && s.Gap() <= Before:
			c.before.Add(s.Pair, s.Gap(), 1)
		}
	}
}

// Size returns how many different times were counted.
func (c *Counter) Size() int { return c.now.size + c.before.size }

// Counts returns what was counted.
func (c *Counter) Counts() *Counts {
	return &Counts{Window: c.window, Plazas: c.plazas, Sections: c.now.Times(),
		Recent: c.recent.Times(), Before: c.before.Times()}
}

// Count counts what arrived in a window. It takes the passages of [Window.Scan] into account, and
// leaves out others.
func Count(passages []Passage, changes []Change, w Window) *Counts {
	c := NewCounter(w, changes)
	c.Add(passages, w)
	return c.Counts()
}

// Trips is where the vehicles of a window come from and go to. It holds no ids.
type Trips struct {
	Window  Window
	Through *int16 // of the trips that passed this plaza in the window; nil for all that ended in it
	// Cells counts trips by where they begin and end, which are different plazas.
	Cells map[Pair]int64
	// Same counts those that begin and end at one plaza, by plaza: nearly all are seen nowhere else.
	Same map[int16]int64
}

// NewTrips returns trips that hold nothing yet.
func NewTrips(w Window, through *int16) *Trips {
	return &Trips{Window: w, Through: through, Cells: map[Pair]int64{}, Same: map[int16]int64{}}
}

// CountTrips counts the trips that ended in a window or, with through, passed that plaza in it. It
// takes the passages of [Window.TripScan] into account, and leaves out others.
func CountTrips(passages []Passage, changes []Change, w Window, through *int16) *Trips {
	t := NewTrips(w, through)
	t.Add(passages, changes)
	return t
}

// Add counts the trips of further vehicles.
func (t *Trips) Add(passages []Passage, changes []Change) {
	for run := range Runs(within(passages, t.Window.TripScan()), changes) {
		first, last := run[0], run[len(run)-1]
		counts := t.Window.Holds(last.At)
		if t.Through != nil {
			counts = slices.ContainsFunc(run,
				func(p Passage) bool { return p.Plaza == *t.Through && t.Window.Holds(p.At) })
		}
		switch {
		case !counts:
		case first.Plaza == last.Plaza:
			t.Same[first.Plaza]++
		default:
			t.Cells[Pair{first.Plaza, last.Plaza}]++
		}
	}
}

// Origins returns the trips by where they begin. Those that end where they began are not among
// them.
func (t *Trips) Origins() map[int16]int64 {
	return t.by(func(p Pair) int16 { return p.From })
}

// Destinations returns the trips by where they end, without those that end where they began.
func (t *Trips) Destinations() map[int16]int64 {
	return t.by(func(p Pair) int16 { return p.To })
}

func (t *Trips) by(plaza func(Pair) int16) map[int16]int64 {
	all := map[int16]int64{}
	for p, n := range t.Cells {
		all[plaza(p)] += n
	}
	return all
}

// MinCell is the fewest vehicles that are shown by themselves: fewer could be recognised.
const MinCell = 5

// Share is how many of all vehicles are of one kind, such as from one plaza.
type Share[K any] struct {
	Of       K
	Other    bool // those of several kinds that are too few to show; Of is empty
	Vehicles int64
	Fraction float64 // of all
	// Low and High are Fraction's 95 % confidence interval, see [Interval].
	Low, High float64
}

// Shares returns the shares of counts, the largest first and others last. Kinds of fewer than
// [MinCell] vehicles become others; where it is just one, the next smallest does too, or the total
// would give it away. Of equal kinds the first by compare comes first.
func Shares[K comparable](counts map[K]int64, compare func(a, b K) int) []Share[K] {
	var all []Share[K]
	var total int64
	for k, n := range counts {
		if n > 0 {
			all = append(all, Share[K]{Of: k, Vehicles: n})
			total += n
		}
	}
	slices.SortFunc(all, func(a, b Share[K]) int {
		return cmp.Or(cmp.Compare(b.Vehicles, a.Vehicles), compare(a.Of, b.Of))
	})
	shown := len(all)
	for shown > 0 && all[shown-1].Vehicles < MinCell {
		shown--
	}
	if shown == len(all)-1 && shown > 0 {
		shown--
	}
	if hidden := all[shown:]; len(hidden) > 0 {
		other := Share[K]{Other: true}
		for _, s := range hidden {
			other.Vehicles += s.Vehicles
		}
		all = append(all[:shown], other)
	}
	for i := range all {
		all[i].Fraction = float64(all[i].Vehicles) / float64(total)
		all[i].Low, all[i].High = Interval(all[i].Vehicles, total)
	}
	return all
}

// Interval returns the 95 % confidence interval of a share of k in n (Wilson, Probable Inference,
// the Law of Succession, and Statistical Inference, Journal of the American Statistical Association
// 22, 1927). Of none it is all.
func Interval(k, n int64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	const z2 = z95 * z95
	p, m := float64(k)/float64(n), float64(n)
	middle := (p + z2/(2*m)) / (1 + z2/m)
	half := z95 / (1 + z2/m) * math.Sqrt(p*(1-p)/m+z2/(4*m*m))
	return max(middle-half, 0), min(middle+half, 1)
}
