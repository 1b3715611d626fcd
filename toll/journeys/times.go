package journeys

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Times is how long vehicles took, ascending by Seconds, each once.
type Times []Took

// Took is how many vehicles took how long.
type Took struct {
	Seconds  int32
	Vehicles int64
}

// Tally collects times, in any order. The zero value is empty.
type Tally struct {
	took map[Pair]map[int32]int64
	size int // different times of pairs
}

// Add adds vehicles that took a time.
func (t *Tally) Add(p Pair, seconds int32, vehicles int64) {
	if t.took == nil {
		t.took = map[Pair]map[int32]int64{}
	}
	of := t.took[p]
	if of == nil {
		of = map[int32]int64{}
		t.took[p] = of
	}
	before := len(of)
	of[seconds] += vehicles
	t.size += len(of) - before
}

// Times returns what was added.
func (t *Tally) Times() map[Pair]Times {
	all := make(map[Pair]Times, len(t.took))
	for p, took := range t.took {
		all[p] = timesOf(took)
	}
	return all
}

func timesOf(took map[int32]int64) Times {
	times := make(Times, 0, len(took))
	for _, s := range slices.Sorted(maps.Keys(took)) {
		times = append(times, Took{s, took[s]})
	}
	return times
}

// Sum returns all of several times as one.
func Sum(all ...Times) Times {
	took := map[int32]int64{}
	for _, t := range all {
		for _, x := range t {
			took[x.Seconds] += x.Vehicles
		}
	}
	return timesOf(took)
}

// Vehicles returns how many vehicles there are.
func (t Times) Vehicles() (n int64) {
	for _, x := range t {
		n += x.Vehicles
	}
	return n
}

// rank returns the k-th shortest time, from 1 on.
func (t Times) rank(k int64) float64 {
	for _, x := range t {
		if k -= x.Vehicles; k <= 0 {
			return float64(x.Seconds)
		}
	}
	return math.NaN()
}

// Percentile returns the time in seconds that a percentage of the vehicles did not exceed: of n
// vehicles, the ⌈n·percent/100⌉-th shortest time (nearest rank: Hyndman and Fan, Sample Quantiles
// in Statistical Packages, 1996, definition 1). It is NaN of none.
func (t Times) Percentile(percent int64) float64 {
	return t.rank(max((t.Vehicles()*percent+99)/100, 1))
}

// Median returns the middle of the times in seconds, or the mean of the two in the middle. It is
// NaN of none.
func (t Times) Median() float64 {
	n := t.Vehicles()
	return (t.rank((n+1)/2) + t.rank(n/2+1)) / 2
}

// z95 is how many standard deviations hold 95 % of what is normally distributed.
const z95 = 1.96

// MedianInterval returns the 95 % confidence interval of the median, by order statistics: the
// times of rank n/2 − 1.96·√n/2, rounded down, and of as many from the other end (Campbell and
// Gardner, Calculating confidence intervals for some non-parametric analyses, British Medical
// Journal 296, 1988). It assumes no distribution. Of fewer than six vehicles there is none.
func (t Times) MedianInterval() (low, high float64, ok bool) {
	if t.Vehicles() < 6 {
		return 0, 0, false
	}
	low, high = t.medianInterval(z95)
	return low, high, true
}

// medianInterval is MedianInterval of z standard deviations.
func (t Times) medianInterval(z float64) (low, high float64) {
	n := t.Vehicles()
	l := max(int64(math.Floor((float64(n)-z*math.Sqrt(float64(n)))/2)), 1)
	return t.rank(l), t.rank(n + 1 - l)
}

// Mean returns the mean time in seconds. It is NaN of none.
func (t Times) Mean() float64 {
	var sum float64
	for _, x := range t {
		sum += float64(x.Seconds) * float64(x.Vehicles)
	}
	return sum / float64(t.Vehicles())
}

// MAD returns the median of how far the times are from the median, in seconds.
func (t Times) MAD() float64 { return t.madBelow(t.Median(), math.Inf(1)) }

// madBelow is MAD of the times up to a limit.
func (t Times) madBelow(median, limit float64) float64 {
	var twice Times // the deviations, as the median may be half a second
	for _, x := range t {
		if s := float64(x.Seconds); s <= limit {
			twice = append(twice, Took{int32(2 * math.Abs(s-median)), x.Vehicles})
		}
	}
	slices.SortFunc(twice, func(a, b Took) int { return cmp.Compare(a.Seconds, b.Seconds) })
	return twice.Median() / 2
}

// Randomness returns R, MAD by median: 0.45 to 0.72 where chance makes the pairs, 0.07 to 0.13
// where vehicles drive.
func (t Times) Randomness() float64 { return t.MAD() / t.Median() }

// Keep returns the times without those of vehicles that stopped on the way or were not read
// between: up to m + max(6·1.4826·MAD of the lower half, 0.25·m), with m the median. The lower half
// is free of them. 1.4826·MAD estimates the standard deviation (Rousseeuw and Croux, Alternatives
// to the Median Absolute Deviation, 1993). It depends on no other window.
func (t Times) Keep() Times {
	m := t.Median()
	limit := m + max(6*1.4826*t.madBelow(m, m), 0.25*m)
	end := len(t)
	for end > 0 && float64(t[end-1].Seconds) > limit {
		end--
	}
	return t[:end:end]
}

// Clue is what shows that a section is slow.
type Clue uint8

// Clues.
const (
	NoClue Clue = iota
	// ByTimes: the vehicles that arrived took longer than usual.
	ByTimes
	// ByOverdue: vehicles that should have arrived have not. It shows a closure, through which too few
	// come to say how long it takes.
	ByOverdue
)

func (c Clue) String() string {
	return [...]string{"not slow", "longer than usual", "vehicles overdue"}[c]
}

// Windows by whose arrivals a section is judged.
const (
	ShortMinutes = 5
	LongMinutes  = 15
)

// Figures of [Detect]. TestScore shows what they bring.
const (
	fewArrivals  = 8    // that say nothing yet
	slowTimes    = 1.1  // of usual
	slowSeconds  = 20   // longer than usual, at least: a shorter wait is the usual one at a booth
	slowZ        = 1.64 // standard deviations: 90 %, of which half is above
	overdueShare = 0.2  // of those expected
	overdueZ     = 6    // standard deviations: how many go where changes with the time of day, too
)

// Detect says whether a section is slow, by two rules. By times: of what arrived in the last
// [ShortMinutes] or in the last [LongMinutes] the lower end of the median's 90 % interval is above
// 1.1 × usual, and above usual by 20 s. By what is overdue: more than a fifth of the vehicles
// expected has not come, and more than six standard deviations of that, see [Departures.Overdue].
// usual is in seconds, 0 where it is not known; so is overdue where it is nil.
//
// It is stateless. The median shows a queue once half of the vehicles waited for long enough, and
// its interval keeps a few trucks at night from looking like one.
func Detect(short, long Times, usual float64, overdue *Overdue) Clue {
	if !(usual > 0) {
		return NoClue
	}
	for _, recent := range []Times{short, long} {
		kept := recent.Keep()
		if low, _ := kept.medianInterval(slowZ); kept.Vehicles() >= fewArrivals &&
			low > max(slowTimes*usual, usual+slowSeconds) {
			return ByTimes
		}
	}
	if overdue != nil {
		missing := overdue.Expected - float64(overdue.Arrived)
		if missing > max(overdueShare*overdue.Expected, overdueZ*overdue.deviation) {
			return ByOverdue
		}
	}
	return NoClue
}
