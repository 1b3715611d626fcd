package journeys

import (
	"cmp"
	"math"
	"slices"
)

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
