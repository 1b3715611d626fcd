package wire

import (
	"encoding/binary"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// AppendChain appends the chain that a cursor holds: for each plaza the Next of the partition's
// last batch that had it. The body is
//
//	number of plazas, then each, ascending: plaza, next
//
// each a difference from the one before. A chain of no plaza is not empty: a column that allows no
// NULL holds it.
func AppendChain(dst []byte, chain map[int16]int64) []byte {
	var few [256]int16
	plazas := few[:0]
	for plaza := range chain {
		plazas = append(plazas, plaza)
	}
	slices.Sort(plazas)

	start := len(dst)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(len(plazas)))
	after, next := int64(toll.MinPlaza)-1, int64(0)
	for _, plaza := range plazas {
		dst = appendGap(dst, int64(plaza), after+1)
		dst = appendDiff(dst, chain[plaza], next)
		after, next = int64(plaza), chain[plaza]
	}
	return seal(dst, start, kindChain)
}

// DecodeChain reads a chain. No bytes at all are the empty chain of a new cursor.
func DecodeChain(b []byte) (map[int16]int64, error) {
	if len(b) == 0 {
		return map[int16]int64{}, nil
	}
	r := open(kindChain, b)
	n := r.count(2)
	chain := make(map[int16]int64, n)
	after, next := int64(toll.MinPlaza)-1, int64(0)
	for range n {
		after = r.gap(after + 1)
		next = r.offset(r.diff(next))
		if after > toll.MaxPlaza {
			r.fail("plaza %d is out of range", after)
		}
		if r.err != nil {
			return nil, r.err
		}
		chain[int16(after)] = next
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	return chain, nil
}

// AppendClock appends the event time of a source partition, as its cursor holds it. The body is
//
//	events, time, record time, run
//	number of voters, then each, ascending by slot: slots since the one before, plaza,
//	  events since its last, time − its last time, record time − its record time
//
// without the voters that no longer vote. A partition without events has no bytes at all.
func AppendClock(dst []byte, c *toll.Clock) []byte {
	if c.Events == 0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, c.Events)
	dst = binary.AppendVarint(dst, c.Time)
	dst = binary.AppendVarint(dst, c.Record)
	dst = binary.AppendVarint(dst, int64(c.Run))
	n := 0
	for i := range c.Voters {
		if c.Votes(&c.Voters[i]) {
			n++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	next := 0
	for i := range c.Voters {
		v := &c.Voters[i]
		if !c.Votes(v) {
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(i-next))
		dst = binary.AppendVarint(dst, int64(v.Plaza))
		dst = binary.AppendUvarint(dst, c.Events-v.Seen)
		dst = appendDiff(dst, c.Time, v.Last)
		dst = appendGap(dst, c.Record, v.Record)
		next = i + 1
	}
	return seal(dst, start, kindClock)
}

// voterBytes is the least that a voter takes.
const voterBytes = 5

// DecodeClock reads a clock. No bytes at all are that of a partition without events.
func DecodeClock(b []byte) (toll.Clock, error) {
	var c toll.Clock
	if len(b) == 0 {
		return c, nil
	}
	r := open(kindClock, b)
	if c.Events = r.uvarint(); c.Events == 0 {
		r.fail("it counts no event")
	}
	c.Time, c.Record = r.varint(), r.varint()
	run := r.varint()
	if c.Run = int32(run); int64(c.Run) != run {
		r.fail("a run of %d", run)
	}
	next := uint64(0)
	for range r.count(voterBytes) {
		skip := r.uvarint()
		if r.err != nil || skip >= toll.VoterSlots-next {
			r.fail("a voter beyond the last slot")
			break
		}
		v := &c.Voters[next+skip]
		next += skip + 1
		plaza := r.varint()
		if v.Plaza = int16(plaza); int64(v.Plaza) != plaza {
			r.fail("plaza %d is out of range", plaza)
		}
		v.Seen = c.Events - r.uvarint()
		v.Last = c.Time - r.varint()
		v.Record = c.Record - int64(r.uvarint())
		if r.err == nil && (!c.Votes(v) || v.Record > c.Record || v.Seen > c.Events) {
			r.fail("a voter that does not vote")
		}
	}
	if err := r.close(); err != nil {
		return toll.Clock{}, err
	}
	return c, nil
}
