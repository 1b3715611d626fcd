package ingest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// tooLate counts, for a source, the events of a batch that came too late for windows that they
// belong to. That is known once a batch is built and never changes, so it is stored with the batch.
type tooLate struct {
	kinds []toll.WindowKind
	zones *toll.ZoneSet
}

// of returns the counts of a batch's deltas, ascending by window. It is nil nearly always.
func (t *tooLate) of(deltas []toll.PlazaDelta) []toll.TooLateCount {
	var counts map[toll.WindowID]*toll.TooLateCount
	var few [16]toll.Window
	for i := range deltas {
		d := &deltas[i]
		if len(d.LateQuarter) == 0 && len(d.TooLate) == 0 {
			continue
		}
		if counts == nil {
			counts = map[toll.WindowID]*toll.TooLateCount{}
		}
		zone := t.zones.Of(d.Plaza)
		for k := range t.kinds {
			kind := &t.kinds[k]
			add := func(panes []toll.Pane) {
				for j := range panes {
					for _, w := range kind.Covering(zone, panes[j].Start, few[:0]) {
						id := toll.WindowID{Plaza: d.Plaza, Kind: kind.Name, Start: w.Start}
						if counts[id] == nil {
							counts[id] = &toll.TooLateCount{WindowID: id, End: w.End}
						}
						counts[id].Events += panes[j].Count()
					}
				}
			}
			if !kind.OfQuarters() {
				add(d.LateQuarter)
			}
			add(d.TooLate)
		}
	}
	if counts == nil {
		return nil
	}
	list := make([]toll.TooLateCount, 0, len(counts))
	for _, c := range slices.SortedFunc(maps.Values(counts), func(a, b *toll.TooLateCount) int {
		return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), strings.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Start, b.Start))
	}) {
		list = append(list, *c)
	}
	return list
}
