package wire

import (
	"encoding/binary"
	"math"

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

// The panes that a state keeps are many and mostly follow on each other, so they are written more
// tightly than a delta's:
//
//	minutes since 1970 before which panes were dropped, 1 more than 0 for never
//	first minute of the gap and its length
//	number of panes; runs of panes that follow on each other: distance from the run before, number
//	each pane: 1 if any came late + 2 × a bit for each type that it has, counts, how many came late
//
// Distances are in steps, the length of a pane. A state of more than maskTypes vehicle types writes
// a list of counts in place of the bits.

// maskTypes is how many vehicle types fit the bits.
const maskTypes = 62

// maxKept bounds the panes that are read, far beyond what a state keeps.
const maxKept = 4096

func appendKept(dst []byte, p *toll.Panes, step, base toll.Minute, types *dictionary) []byte {
	dst = appendDiff(dst, int64(p.From), int64(base))
	dst = appendDiff(dst, int64(p.Gap.Start), int64(base))
	dst = appendGap(dst, int64(p.Gap.End), int64(p.Gap.Start))
	dst = binary.AppendUvarint(dst, uint64(len(p.List)))
	at := int64(base / step)
	for i := 0; i < len(p.List); {
		n := 1
		for i+n < len(p.List) && int64(p.List[i+n].Start) == int64(p.List[i].Start)+int64(n)*int64(step) {
			n++
		}
		start := int64(p.List[i].Start / step)
		dst = appendDiff(dst, start, at)
		dst = binary.AppendUvarint(dst, uint64(n))
		at = start + int64(n)
		i += n
	}
	for i := range p.List {
		dst = types.appendKept(dst, &p.List[i])
	}
	return dst
}

// kept undoes appendKept.
func (r *reader) kept(step, base toll.Minute, types *typeReader) toll.Panes {
	p := toll.Panes{From: r.minute(r.diff(int64(base)))}
	p.Gap.Start = r.minute(r.diff(int64(base)))
	p.Gap.End = r.minute(r.gap(int64(p.Gap.Start)))
	n := r.count(1)
	if n > maxKept {
		r.fail("%d panes are too many", n)
	}
	if r.err != nil || n == 0 {
		return p
	}
	p.List = make([]toll.Pane, n)
	at := int64(base / step)
	for i := 0; i < n; {
		start := r.diff(at)
		length := r.uvarint()
		if i > 0 && start <= at || length == 0 || length > uint64(n-i) {
			r.fail("stretches of panes that do not ascend")
		}
		if start < math.MinInt32 || start > math.MaxInt32 ||
			(start+int64(length))*int64(step) > math.MaxInt32+int64(step) {
			r.fail("minutes are out of range")
		}
		if r.err != nil {
			return p
		}
		for j := range int64(length) {
			p.List[i].Start = r.minute((start + j) * int64(step))
			i++
		}
		at = start + int64(length)
	}
	for i := range p.List {
		types.kept(r, &p.List[i], n-1-i)
		if r.err != nil {
			p.List = nil
			return p
		}
	}
	return p
}

func (r *reader) minute(v int64) toll.Minute {
	if int64(toll.Minute(v)) != v {
		r.fail("minute %d is out of range", v)
	}
	return toll.Minute(v)
}

// appendKept writes the counts of a pane, whose names were collected.
func (d *dictionary) appendKept(dst []byte, p *toll.Pane) []byte {
	late := uint64(0)
	if p.Late != 0 {
		late = 1
	}
	if len(d.names) > maskTypes {
		dst = append(dst, byte(late))
		dst = d.appendCounts(dst, p.Types)
	} else {
		mask, next := uint64(0), 0
		for i := range p.Types {
			next = d.find(p.Types[i].Type, next)
			mask |= 1 << next
			next++
		}
		dst = binary.AppendUvarint(dst, mask<<1|late)
		for i := range p.Types {
			dst = binary.AppendUvarint(dst, uint64(p.Types[i].Count))
		}
	}
	if late == 1 {
		dst = binary.AppendUvarint(dst, uint64(p.Late))
	}
	return dst
}

// kept undoes appendKept.
func (t *typeReader) kept(r *reader, p *toll.Pane, more int) {
	mask := r.uvarint()
	if len(t.names) > maskTypes {
		if mask > 1 {
			r.fail("bits that mean nothing")
		}
		p.Types = t.counts(r, more)
	} else {
		if mask>>1 >= 1<<len(t.names) {
			r.fail("a vehicle type that is not there")
		}
		p.Types = t.masked(r, mask>>1, more)
	}
	if mask&1 == 1 {
		if p.Late = int64(r.uvarint()); p.Late == 0 && r.err == nil {
			r.fail("none came late, in a longer form")
		}
	}
}
