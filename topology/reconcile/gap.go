package reconcile

import "sync"

// GapLog tells gaps that were logged from new ones: every delta of a plaza that lacks one leaves a
// gap until it was sent again.
type GapLog struct {
	mu   sync.Mutex
	told map[plazaPart]int64 // up to where the plaza had merged then
}

// News reports whether a gap was not reported yet.
func (g *GapLog) News(plaza int16, partition int32, merged int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := plazaPart{plaza, partition}
	if before, ok := g.told[at]; ok && before == merged {
		return false
	}
	if g.told == nil {
		g.told = map[plazaPart]int64{}
	}
	g.told[at] = merged
	return true
}
