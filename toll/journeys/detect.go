package journeys

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
