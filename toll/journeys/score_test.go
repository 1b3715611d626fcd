package journeys_test

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
	. "github.com/tollstream/tollstream/toll/journeys"
	"github.com/tollstream/tollstream/toll/traffic"
)

var (
	seeds     = flag.Uint64("seeds", 1, "how many seeds TestScore scores")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

const (
	minute = 60
	day    = 24 * 60 // minutes
	weeks  = 4
	last   = (weeks - 1) * 7 * day // the first minute of the week that is judged
)

// month is four simulated weeks of a road, the last one with blockages.
type month struct {
	start     toll.WallTime
	plazas    []toll.Plaza
	blockages []simulate.Incident
	sections  []Pair // between neighbours
	passages  []Passage
	truth     map[truthKey]simulate.Truth
	trips     map[int]map[Pair]int64 // what really arrived, by the hour
	// by section, the times of what arrived in each minute
	arrived map[Pair][][]int32
	flow    map[int16][]int64 // events by the minute
	usuals  map[truthKey]float64
}

type truthKey struct {
	Pair
	span int // of five minutes
}

// roadOf returns the plazas of a road.
func roadOf() (plazas []toll.Plaza) {
	for i, volume := range []float64{17_000, 22_000, 19_000, 24_000} {
		plazas = append(plazas, toll.Plaza{ID: int16(1 + i), Road: "A1",
			PositionKm: []float64{0, 7, 15, 27}[i], Lanes: 4, VehiclesPerDay: volume, HeavyShare: 0.1})
	}
	return plazas
}

func newMonth(t testing.TB, seed uint64) *month {
	start := time.Date(2026, 4, 6, 0, 0, 0, 0, time.UTC) // a Monday
	m := &month{start: toll.WallTimeOf(start), truth: map[truthKey]simulate.Truth{},
		trips: map[int]map[Pair]int64{}, arrived: map[Pair][][]int32{}, flow: map[int16][]int64{},
		usuals: map[truthKey]float64{}}
	m.plazas = roadOf()
	for i := 1; i < len(m.plazas); i++ {
		m.sections = append(m.sections, Pair{int16(i), int16(i + 1)}, Pair{int16(i + 1), int16(i)})
	}
	r := rand.New(rand.NewPCG(seed, 3))
	for day := (weeks - 1) * 7; day < weeks*7; day++ {
		for hour := 6.0; ; {
			hour += 0.5 + 2*r.Float64()
			at := start.AddDate(0, 0, day).Add(time.Duration(hour * float64(time.Hour)))
			length := time.Duration(20+r.IntN(40)) * time.Minute
			if hour += length.Hours() + 1.5; hour > 22 {
				break
			}
			m.blockages = append(m.blockages, simulate.Incident{Plaza: int16(1 + r.IntN(len(m.plazas))),
				Kind: simulate.Blockage, Start: at, End: at.Add(length), Size: 0.05 + 0.8*r.Float64()})
		}
	}
	trips, err := simulate.NewTrips(simulate.TripsConfig{
		ProfileConfig: simulate.ProfileConfig{Plazas: m.plazas, Location: time.UTC, Start: start,
			End: start.AddDate(0, 0, 7*weeks), Seed: seed, Variation: 1, Incidents: m.blockages},
		Stops: simulate.DefaultStops, Unread: simulate.DefaultUnread, Truth: m.record})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.plazas {
		m.flow[p.ID] = make([]int64, weeks*7*day)
	}
	for e := new(toll.Event); ; {
		if _, ok := trips.Next(e); !ok {
			break
		}
		m.passages = append(m.passages, Passage{At: e.Time, Vehicle: e.Vehicle, Plaza: e.Plaza})
		m.flow[e.Plaza][m.minuteOf(e.Time)]++
	}
	m.passages = Sort(m.passages)
	for _, s := range m.sections {
		m.arrived[s] = make([][]int32, weeks*7*day)
	}
	for s := range Segments(m.passages, nil) {
		if all := m.arrived[s.Pair]; all != nil {
			all[m.minuteOf(s.Arrive)] = append(all[m.minuteOf(s.Arrive)], s.Gap())
		}
	}
	return m
}

func (m *month) minuteOf(t toll.WallTime) int { return int(t-m.start) / minute }

// record keeps what really happened.
func (m *month) record(x simulate.Truth) {
	at, p := m.minuteOf(toll.WallTimeOf(x.Start)), Pair{x.From, x.To}
	switch {
	case !x.Trip:
		m.truth[truthKey{p, at / 5}] = x
	case x.From != x.To:
		if m.trips[at/60] == nil {
			m.trips[at/60] = map[Pair]int64{}
		}
		m.trips[at/60][p] += int64(x.Vehicles)
	}
}

// times returns what arrived on a section in the minutes [from, to).
func (m *month) times(p Pair, from, to int) (times Times) {
	all := slices.Concat(m.arrived[p][max(from, 0):to]...)
	slices.Sort(all)
	for _, s := range all {
		if n := len(times); n == 0 || times[n-1].Seconds != s {
			times = append(times, Took{Seconds: s})
		}
		times[len(times)-1].Vehicles++
	}
	return times
}

// usual returns the usual time of a section at a minute, to five minutes.
func (m *month) usual(p Pair, at int) float64 {
	at -= at % 5
	key := truthKey{p, at / 5}
	if u, known := m.usuals[key]; known {
		return u
	}
	var weeks []Times
	for was := at - 7*day; was >= LongMinutes; was -= 7 * day {
		weeks = append(weeks, m.times(p, was-LongMinutes, was))
	}
	h := History{Weeks: Sum(weeks...)}
	if h.Weeks.Vehicles() < MinVehicles {
		h.Before = m.times(p, at-60-LongMinutes, at-LongMinutes)
	}
	m.usuals[key] = h.Reference(nil).Usual
	return m.usuals[key]
}

// errors returns how far medians and 95th percentiles of five minutes are from what is true.
func (m *month) errors() (medians, p95s []float64) {
	for _, p := range m.sections {
		for at := last; at < weeks*7*day; at += 5 {
			truth := m.truth[truthKey{p, at / 5}]
			measures, ok := Measure(m.times(p, at, at+5), Reference{}, 0)
			if !ok || measures.Vehicles < 20 || truth.Median == 0 {
				continue
			}
			medians = append(medians, math.Abs(measures.Median/truth.Median.Seconds()-1))
			p95s = append(p95s, math.Abs(measures.P95/truth.P95.Seconds()-1))
		}
	}
	slices.Sort(medians)
	slices.Sort(p95s)
	return medians, p95s
}

// cells counts the cells of hours whose interval holds the true share.
func (m *month) cells() (inside, all int) {
	at := 0
	byTime := slices.Clone(m.passages)
	slices.SortFunc(byTime, func(a, b Passage) int { return cmp.Compare(a.At, b.At) })
	for hour := last / 60; hour < weeks*7*24-2; hour += 3 {
		w := Window{m.start + toll.WallTime(hour)*3600, m.start + toll.WallTime(hour+1)*3600}
		for at < len(byTime) && byTime[at].At < w.TripScan().Start {
			at++
		}
		until := at
		for until < len(byTime) && byTime[until].At < w.TripScan().End {
			until++
		}
		trips := CountTrips(Sort(slices.Clone(byTime[at:until])), nil, w, nil)
		truth, total := m.trips[hour], int64(0)
		for _, n := range truth {
			total += n
		}
		for _, s := range Shares(trips.Cells, Pair.Compare) {
			if s.Other {
				continue
			}
			all++
			if true := float64(truth[s.Of]) / float64(total); s.Low <= true && true <= s.High {
				inside++
			}
		}
	}
	return inside, all
}

// departures follows what became of the vehicles that left, as time goes on.
type departures struct {
	next   map[Pair][]int64
	gone   map[int16][]int64
	events []departure
	at     int
}

// departure is a vehicle that leaves a plaza, or is seen next.
type departure struct {
	at   toll.WallTime
	left int // the minute
	from int16
	next int16 // 0 where it leaves
}

func (m *month) departures() *departures {
	d := &departures{next: map[Pair][]int64{}, gone: map[int16][]int64{}}
	for i, p := range m.passages {
		left := m.minuteOf(p.At)
		if left < last-MaxGap/60 {
			continue
		}
		d.events = append(d.events, departure{p.At, left, p.Plaza, 0})
		if i+1 < len(m.passages) && m.passages[i+1].Vehicle == p.Vehicle {
			d.events = append(d.events, departure{m.passages[i+1].At, left, p.Plaza, m.passages[i+1].Plaza})
		}
	}
	slices.SortStableFunc(d.events, func(a, b departure) int { return cmp.Compare(a.at, b.at) })
	return d
}

// until returns the departures as they are at a minute.
func (d *departures) until(m *month, at int) *Departures {
	end := m.start + toll.WallTime(at)*minute
	for ; d.at < len(d.events) && d.events[d.at].at < end; d.at++ {
		e := d.events[d.at]
		if d.gone[e.from] == nil {
			d.gone[e.from] = make([]int64, weeks*7*day)
		}
		if e.next == 0 {
			d.gone[e.from][e.left]++
			continue
		}
		d.gone[e.from][e.left]--
		if e.next != e.from {
			p := Pair{e.from, e.next}
			if d.next[p] == nil {
				d.next[p] = make([]int64, weeks*7*day)
			}
			d.next[p][e.left]++
		}
	}
	now := NewDepartures(end)
	for i := range MaxGap / 60 {
		for p, n := range d.next {
			left(now, p, i, n[at-1-i])
		}
		for p, n := range d.gone {
			left(now, Pair{p, p}, i, n[at-1-i])
		}
	}
	return now
}

// left adds vehicles that left a plaza some minutes before.
func left(d *Departures, p Pair, minutes int, vehicles int64) {
	if d.Next[p] == nil {
		d.Next[p] = new([MaxGap / 60]int64)
	}
	d.Next[p][minutes] += vehicles
}

// clues returns what is found on each section at the end of each minute of the last week.
func (m *month) clues() map[Pair][]Clue {
	found := map[Pair][]Clue{}
	m.eachMinute(func(p Pair, short, long Times, usual float64, overdue *Overdue) {
		found[p] = append(found[p], Detect(short, long, usual, overdue))
	})
	return found
}

// eachMinute yields what there is to judge a section by at the end of each minute of the last week.
func (m *month) eachMinute(
	yield func(p Pair, short, long Times, usual float64, overdue *Overdue)) {
	followed := m.departures()
	for at := last; at < weeks*7*day; at++ {
		d := followed.until(m, at)
		for _, p := range m.sections {
			usual := m.usual(p, at)
			var overdue *Overdue
			if o, ok := d.Overdue(p, usual); ok {
				overdue = &o
			}
			yield(p, m.times(p, at-ShortMinutes, at), m.times(p, at-LongMinutes, at), usual, overdue)
		}
	}
}

// bySections returns how soon each blockage was found, in minutes, and how many alarms were false.
func (m *month) bySections(t testing.TB, found map[Pair][]Clue) (after []int, falseAlarms int) {
	for _, b := range m.blockages {
		first := math.MaxInt
		for _, p := range m.sections {
			if p.To != b.Plaza {
				continue
			}
			start := m.minuteOf(toll.WallTimeOf(b.Start))
			for at := start + 1; at < start+int(b.End.Sub(b.Start).Minutes())+30; at++ {
				if at-last < len(found[p]) && found[p][at-last] != NoClue {
					first = min(first, at-start)
				}
			}
		}
		after = append(after, first)
	}
	for p, clues := range found {
		until := 0
		for i, clue := range clues {
			if clue == NoClue {
				continue
			}
			if i > until && !m.reallySlow(p, last+i) {
				falseAlarms++
				at := m.start + toll.WallTime(last+i)*minute
				t.Logf("false alarm on %v at %s: %s", p, at.Format("Mon 15:04"), clue)
			}
			until = i + 30 // one that goes on is the same
		}
	}
	slices.Sort(after)
	return after, falseAlarms
}

// reallySlow reports whether a section took a tenth longer than usual in the quarter of an hour
// before, or its plaza was blocked.
func (m *month) reallySlow(p Pair, at int) bool {
	for _, b := range m.blockages {
		start := m.minuteOf(toll.WallTimeOf(b.Start))
		if b.Plaza == p.To && start <= at && at < start+int(b.End.Sub(b.Start).Minutes())+60 {
			return true
		}
	}
	for span := at/5 - 3; span <= at/5; span++ {
		var usual []float64
		for week := 1; week < weeks; week++ {
			usual = append(usual, m.truth[truthKey{p, span - week*7*day/5}].Median.Seconds())
		}
		slices.Sort(usual)
		if m.truth[truthKey{p, span}].Median.Seconds() > 1.1*usual[len(usual)/2] {
			return true
		}
	}
	return false
}

// byFlow returns how soon the flow detector finds each blockage, and how many alarms it gives where
// there is none.
func (m *month) byFlow() (after []int, falseAlarms int) {
	zone := toll.NewZone(time.UTC)
	first := zone.Minute(m.start)
	below := map[int16][]toll.Minute{}
	for _, plaza := range m.plazas {
		counts := make([]traffic.DayCounts, weeks*7)
		for i := range counts {
			counts[i] = traffic.NewDayCounts(zone, traffic.DayOf(zone, first+toll.Minute(i*day)))
		}
		var panes []toll.Pane
		for i, n := range m.flow[plaza.ID] {
			counts[i/day].Add(i%day/toll.Quarter, n)
			if n > 0 {
				panes = append(panes, toll.Pane{Start: first + toll.Minute(i),
					Types: []toll.TypeCount{{Type: "car", Count: n}}})
			}
		}
		basis := &traffic.Basis{Plaza: toll.Plaza{ID: plaza.ID}, Zone: zone,
			Usual: func(date int64) *traffic.UsualDay {
				i := int(date - traffic.DayOf(zone, first))
				var weeks []traffic.DayCounts
				for i -= 7; i >= 0; i -= 7 {
					weeks = append(weeks, counts[i])
				}
				if len(weeks) == 0 {
					return nil
				}
				return new(traffic.UsualDayOf(weeks))
			}}
		var a traffic.Assessment
		for _, c := range a.Run(panes, first, first+weeks*7*day, basis) {
			if c.To == traffic.BelowUsual && c.Detected >= first+last {
				below[plaza.ID] = append(below[plaza.ID], c.Detected)
			}
		}
	}
	for _, b := range m.blockages {
		start, end := zone.Minute(toll.WallTimeOf(b.Start)), zone.Minute(toll.WallTimeOf(b.End))
		soonest := math.MaxInt
		for _, at := range below[b.Plaza] {
			if at > start && at < end+30 {
				soonest = min(soonest, int(at-start))
			}
		}
		after = append(after, soonest)
	}
	for _, all := range below {
		for _, at := range all {
			if !slices.ContainsFunc(m.blockages, func(b simulate.Incident) bool {
				return at > zone.Minute(toll.WallTimeOf(b.Start)) &&
					at < zone.Minute(toll.WallTimeOf(b.End))+60
			}) {
				falseAlarms++
			}
		}
	}
	slices.Sort(after)
	return after, falseAlarms
}

func foundIn(after []int) string {
	in := func(most int) float64 {
		n, _ := slices.BinarySearch(after, most+1)
		return 100 * float64(n) / float64(len(after))
	}
	median := "never"
	if m := after[len(after)/2]; m < math.MaxInt {
		median = fmt.Sprint(m, " min")
	}
	return fmt.Sprintf("median %s, %.0f %% in 10 min, %.0f %% in 20, %.0f %% ever", median, in(10),
		in(20), in(math.MaxInt-1))
}

// TestScore scores four simulated weeks: with -seeds 5 -v five of them. The constants of [Detect]
// were chosen by seeds 1 to 3 and 101 to 105.
func TestScore(t *testing.T) {
	var byTimes, byFlow []int
	var medians, p95s []float64
	falseAlarms, falseByFlow, inside, cells, sectionDays, plazaDays := 0, 0, 0, 0, 0, 0
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		m := newMonth(t, seed)
		a, b := m.errors()
		medians, p95s = append(medians, a...), append(p95s, b...)
		in, all := m.cells()
		inside, cells = inside+in, cells+all
		after, wrong := m.bySections(t, m.clues())
		t.Logf("seed %d by times: %s, %d false alarms", seed, foundIn(after), wrong)
		byTimes, falseAlarms = append(byTimes, after...), falseAlarms+wrong
		after, wrong = m.byFlow()
		t.Logf("seed %d by flow: %s, %d false alarms", seed, foundIn(after), wrong)
		byFlow, falseByFlow = append(byFlow, after...), falseByFlow+wrong
		sectionDays, plazaDays = sectionDays+7*len(m.sections), plazaDays+7*len(m.plazas)
	}
	typical, worst := spread(medians)
	t.Logf("median: off by %.1f %%, 95th percentile of that %.1f %%", typical, worst)
	if typical > 3 || worst > 8 {
		t.Error("want 3 % and 8 % at most")
	}
	typical, worst = spread(p95s)
	t.Logf("95th percentile: off by %.1f %%, 95th percentile of that %.1f %%", typical, worst)
	if typical > 5 {
		t.Error("want 5 % at most")
	}
	share := 100 * float64(inside) / float64(cells)
	t.Logf("origins and destinations: %.1f %% of %d shares are in their interval", share, cells)
	if share < 90 {
		t.Error("want 90 % at least")
	}
	slices.Sort(byTimes)
	slices.Sort(byFlow)
	t.Logf("%d blockages by times: %s; %d false alarms in %d section-days", len(byTimes),
		foundIn(byTimes), falseAlarms, sectionDays)
	t.Logf("by flow: %s; %d false alarms in %d plaza-days", foundIn(byFlow), falseByFlow, plazaDays)
	if byTimes[len(byTimes)/2] > 10 || falseAlarms*100 > max(sectionDays, 100) {
		t.Error("want them found in 10 minutes in the median, one false alarm in 100 days at most")
	}
}

// spread returns the mean and the 95th percentile, in per cent.
func spread(all []float64) (mean, p95 float64) {
	slices.Sort(all)
	for _, x := range all {
		mean += 100 * x / float64(len(all))
	}
	return mean, 100 * all[len(all)*95/100]
}

// TestRandomIDs: ids that are drawn by chance never look like journeys. A few plazas and minutes
// hold as many pairs of each as many plazas and hours.
func TestRandomIDs(t *testing.T) {
	t.Parallel()
	for rate, length := range map[float64]time.Duration{1: 4 * time.Hour, 10: 3 * time.Hour,
		1000: 4 * time.Minute} {
		for seed := range uint64(20) {
			end := time.Date(2026, 4, 6, 12, 0, 0, 0, time.UTC)
			g := simulate.New(simulate.DefaultPlazas()[:4], seed, simulate.Steady(end.Add(-length), rate))
			passages := Passages(func(yield func(toll.Event) bool) {
				var e toll.Event
				for range int(rate * length.Seconds()) {
					g.Next(&e)
					if !yield(e) {
						return
					}
				}
			})
			w := Window{Start: toll.WallTimeOf(end) - 15*minute, End: toll.WallTimeOf(end)}
			if v := Count(passages, nil, w).Verdict(); v == HasJourneys || rate == 1000 && v != RandomIDs {
				t.Errorf("%v a second, seed %d: %s", rate, seed, v)
			}
		}
	}
}

// TestTripsWithStops: journeys are seen as such although 30 % stop on each section.
func TestTripsWithStops(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		end := time.Date(2026, 4, 6, 9, 0, 0, 0, time.UTC)
		trips, err := simulate.NewTrips(simulate.TripsConfig{Stops: 0.3, Unread: simulate.DefaultUnread,
			ProfileConfig: simulate.ProfileConfig{Plazas: roadOf(), Location: time.UTC,
				Start: end.Add(-135 * time.Minute), End: end, Seed: seed, Variation: 1}})
		if err != nil {
			t.Fatal(err)
		}
		passages := Passages(func(yield func(toll.Event) bool) {
			for e := new(toll.Event); ; {
				if _, ok := trips.Next(e); !ok || !yield(*e) {
					return
				}
			}
		})
		w := Window{Start: toll.WallTimeOf(end) - 15*minute, End: toll.WallTimeOf(end)}
		if v := Count(passages, nil, w).Verdict(); v != HasJourneys {
			t.Errorf("seed %d: %s", seed, v)
		}
	}
}

// TestDetect: by the times of a few vehicles, and by what is overdue.
func TestDetect(t *testing.T) {
	same := func(seconds int32, vehicles int64) Times {
		return Times{{seconds - 10, vehicles / 2}, {seconds + 10, vehicles - vehicles/2}}
	}
	for _, c := range []struct {
		name        string
		short, long Times
		usual       float64
		want        Clue
	}{
		{"as usual", same(300, 30), same(300, 90), 300, NoClue},
		{"longer", same(360, 30), same(310, 90), 300, ByTimes},
		{"a little longer", same(315, 30), same(315, 90), 300, NoClue},
		{"a short section, longer by seconds", same(60, 30), same(60, 90), 45, NoClue},
		{"few in five minutes", same(360, 7), same(300, 30), 300, NoClue},
		{"few, and longer for a quarter of an hour", same(360, 7), same(360, 30), 300, ByTimes},
		{"hardly any", nil, same(900, 4), 300, NoClue},
		{"nothing known", same(360, 30), same(360, 90), 0, NoClue},
		{"nobody came", nil, nil, 300, NoClue},
	} {
		if got := Detect(c.short, c.long, c.usual, nil); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}

	// A hundred left each minute; half of them go on, until the road is closed 9 minutes ago.
	d := NewDepartures(0)
	for i := range MaxGap / 60 {
		if i > 14 {
			left(d, Pair{1, 2}, i, 50)
			left(d, Pair{1, 1}, i, 50)
		} else {
			left(d, Pair{1, 1}, i, 100)
		}
	}
	overdue, ok := d.Overdue(Pair{1, 2}, 300)
	if got := Detect(nil, nil, 300, &overdue); !ok || got != ByOverdue {
		t.Errorf("closed: %s by %+v", got, overdue)
	}
	overdue, ok = d.Overdue(Pair{1, 2}, 800)
	if got := Detect(nil, nil, 800, &overdue); !ok || got != NoClue {
		t.Errorf("not due yet: %s by %+v", got, overdue)
	}
}
