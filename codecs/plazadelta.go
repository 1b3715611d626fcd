package codecs

import (
	"cmp"
	"encoding/binary"
	"slices"

	"tollstream/toll"
)

// AppendPlazaDeltas appends the outbox of a batch: all its plaza deltas, in whatever order, at most one per plaza. An
// outbox of none is not empty: a batch of rejects only has one, and a column that allows no NULL holds it.
//
// The body is
//
//	dictionary of vehicle types
//	number of deltas, then each, ascending by plaza:
//	  plaza, prev, events, checksum (8 bytes), earliest, latest, panes
//
// plaza, prev and earliest are differences from the delta before, latest from earliest.
func AppendPlazaDeltas(dst []byte, deltas []toll.PlazaDelta) []byte {
	byPlaza := func(a, b toll.PlazaDelta) int { return cmp.Compare(a.Plaza, b.Plaza) }
	if !slices.IsSortedFunc(deltas, byPlaza) {
		deltas = slices.Clone(deltas)
		slices.SortFunc(deltas, byPlaza)
	}
	types := dictionaries.Get().(*dictionary)
	defer types.release()
	for i := range deltas {
		for j := range deltas[i].Panes {
			types.collect(deltas[i].Panes[j].Types)
		}
	}

	start := len(dst)
	dst = append(dst, version)
	dst = types.append(dst)
	dst = binary.AppendUvarint(dst, uint64(len(deltas)))
	var before toll.PlazaDelta
	for i := range deltas {
		d := &deltas[i]
		if i == 0 {
			dst = appendDiff(dst, int64(d.Plaza), 0)
		} else {
			dst = appendGap(dst, int64(d.Plaza), int64(before.Plaza)+1)
		}
		dst = appendPlazaDelta(dst, d, before.Prev, before.Earliest, types)
		before = *d
	}
	return seal(dst, start, kindPlazaDeltas)
}

// DecodePlazaDeltas reads an outbox. The deltas ascend by plaza.
func DecodePlazaDeltas(blob []byte) ([]toll.PlazaDelta, error) {
	r := open(kindPlazaDeltas, blob)
	types := r.dictionary()
	n := r.count(1 + plazaDeltaBytes)
	var deltas []toll.PlazaDelta
	if n > 0 {
		deltas = make([]toll.PlazaDelta, n)
	}
	var before toll.PlazaDelta
	for i := range deltas {
		d := &deltas[i]
		if i == 0 {
			r.plaza(d, r.diff(0))
		} else {
			r.plaza(d, r.gap(int64(before.Plaza)+1))
		}
		r.plazaDelta(d, before.Prev, before.Earliest, &types)
		if r.err != nil {
			return nil, r.err
		}
		before = *d
	}
	types.close(&r)
	if err := r.close(); err != nil {
		return nil, err
	}
	return deltas, nil
}

// plazaDeltaBytes is the least that a plaza delta takes without the plaza.
const plazaDeltaBytes = 1 + 1 + 8 + 1 + 1 + 1

func appendPlazaDelta(dst []byte, d *toll.PlazaDelta, prev int64, earliest toll.WallTime, types *dictionary) []byte {
	dst = appendDiff(dst, d.Prev, prev)
	dst = binary.AppendUvarint(dst, uint64(d.Events))
	dst = binary.LittleEndian.AppendUint64(dst, d.Checksum)
	dst = appendDiff(dst, int64(d.Earliest), int64(earliest))
	dst = appendGap(dst, int64(d.Latest), int64(d.Earliest))
	return appendPanes(dst, d.Panes, baseMinute(d.Earliest), types)
}

func (r *reader) plaza(d *toll.PlazaDelta, plaza int64) {
	d.Plaza = int16(plaza)
	if int64(d.Plaza) != plaza {
		r.fail("plaza %d is out of range", plaza)
	}
}

// plazaDelta undoes appendPlazaDelta.
func (r *reader) plazaDelta(d *toll.PlazaDelta, prev int64, earliest toll.WallTime, types *typeReader) {
	d.Prev = r.offset(r.diff(prev))
	d.Events = int64(r.uvarint())
	d.Checksum = r.fixed64()
	d.Earliest = toll.WallTime(r.diff(int64(earliest)))
	d.Latest = toll.WallTime(r.gap(int64(d.Earliest)))
	d.Panes = r.panes(baseMinute(d.Earliest), types)
	var counted int64
	for i := range d.Panes {
		counted += d.Panes[i].Count()
	}
	if d.Events != counted {
		r.fail("%d events, but %d in the panes", d.Events, counted)
	}
}
