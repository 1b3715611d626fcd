package wire

import (
	"encoding/binary"

	"github.com/tollstream/tollstream/toll"
)

// Panes of a delta are written as
//
//	number, then each: minutes since the one before, list of counts, how many came late
//
// where the first counts from base, with a sign, and each other from the minute after the one
// before.

// paneBytes is the least that a pane takes.
const paneBytes = 3

func appendPanes(dst []byte, panes []toll.Pane, base toll.Minute, types *dictionary) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(panes)))
	for i := range panes {
		p := &panes[i]
		if i == 0 {
			dst = appendDiff(dst, int64(p.Start), int64(base))
		} else {
			dst = appendGap(dst, int64(p.Start), int64(panes[i-1].Start)+1)
		}
		dst = types.appendCounts(dst, p.Types)
		dst = binary.AppendUvarint(dst, uint64(p.Late))
	}
	return dst
}

// panes undoes appendPanes. Without types it skips them.
func (r *reader) panes(base toll.Minute, types *typeReader) []toll.Pane {
	n := r.count(paneBytes)
	if types == nil {
		for range n {
			r.uvarint()
			types.counts(r, 0)
			r.uvarint()
		}
		return nil
	}
	if n == 0 {
		return nil
	}
	panes := make([]toll.Pane, n)
	for i := range panes {
		var start int64
		if i == 0 {
			start = r.diff(int64(base))
		} else {
			start = r.gap(int64(panes[i-1].Start) + 1)
		}
		panes[i].Start = toll.Minute(start)
		if int64(panes[i].Start) != start {
			r.fail("minute %d is out of range", start)
		}
		panes[i].Types = types.counts(r, n-1-i)
		panes[i].Late = int64(r.uvarint())
		if r.err != nil {
			return nil
		}
	}
	return panes
}

// baseMinute is the minute of a wall time, give or take the zone's offset: near the panes of events
// at that time.
func baseMinute(w toll.WallTime) toll.Minute { return toll.Minute(w / 60) }
