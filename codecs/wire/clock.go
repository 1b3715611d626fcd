package wire

import (
	"encoding/binary"

	"github.com/tollstream/tollstream/toll"
)

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
