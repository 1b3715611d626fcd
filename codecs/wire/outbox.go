package wire

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// AppendPlazaDeltas appends the outbox of a batch: all its plaza deltas, in whatever order, at most
// one per plaza. Where batches were compacted there may be several, in the order of their chain. An
// outbox of none is not empty: a batch of rejects only has one, and a column that allows no NULL
// holds it.
//
// The body is
//
//	dictionary of vehicle types
//	number of deltas, then each, ascending by plaza:
//	  plaza, prev, events, checksum (8 bytes), earliest, latest,
//	  panes, panes of events that were late for minutes, of those that were too late
//	  how many ran ahead, by how much
//
// plaza, prev and earliest are differences from the delta before, latest from earliest. The last is
// left out where none ran ahead.
//
// Version 3 is that of compacted batches. Plazas may repeat, so plaza is the plain difference, and
// each delta goes on with
//
//	where it ends − prev, whether minutes were rolled up (0 or 1), and if so:
//	  before which, counts of events that were on time or late, how many were late,
//	  counts of those that were late for minutes, and of those that were too late
func AppendPlazaDeltas(dst []byte, deltas []toll.PlazaDelta) []byte {
	byPlaza := func(a, b toll.PlazaDelta) int { return cmp.Compare(a.Plaza, b.Plaza) }
	if !slices.IsSortedFunc(deltas, byPlaza) {
		deltas = slices.Clone(deltas)
		slices.SortStableFunc(deltas, byPlaza)
	}
	types := dictionaries.Get().(*dictionary)
	defer types.release()
	for i := range deltas {
		types.collectDelta(&deltas[i])
	}

	start := len(dst)
	compacted := slices.ContainsFunc(deltas, func(d toll.PlazaDelta) bool {
		return d.Ends != 0 || d.Fold != nil
	})
	apart := int64(1) // of plazas, at least
	if compacted {
		dst = append(dst, versionFolded)
		apart = 0
	} else {
		dst = append(dst, version)
	}
	dst = types.append(dst)
	dst = binary.AppendUvarint(dst, uint64(len(deltas)))
	var before toll.PlazaDelta
	for i := range deltas {
		d := &deltas[i]
		if i == 0 {
			dst = appendDiff(dst, int64(d.Plaza), 0)
		} else {
			dst = appendGap(dst, int64(d.Plaza), int64(before.Plaza)+apart)
		}
		dst = appendPlazaDelta(dst, d, before.Prev, before.Earliest, types)
		if compacted {
			dst = appendGap(dst, d.Ends, d.Prev)
			dst = appendFold(dst, d.Fold, baseMinute(d.Earliest), types)
		}
		before = *d
	}
	return seal(dst, start, kindPlazaDeltas)
}

// DecodePlazaDeltas reads an outbox. The deltas ascend by plaza.
func DecodePlazaDeltas(blob []byte) ([]toll.PlazaDelta, error) {
	r := open(kindPlazaDeltas, blob)
	types := r.dictionary()
	deltas := r.plazaDeltas(nil, &types)
	types.close(&r)
	if err := r.close(); err != nil {
		return nil, err
	}
	return deltas, nil
}

// DecodePlazaSums reads of an outbox what does not go by minute: all of a delta but its Panes,
// LateQuarter, TooLate and Fold, which are nil. It appends to dst, allocates next to nothing else,
// and takes a quarter of the time of [DecodePlazaDeltas]. Of the minutes it checks that they add up
// to Events; what else is wrong with them, under the right checksum, goes unnoticed.
func DecodePlazaSums(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error) {
	r := open(kindPlazaDeltas, blob)
	r.skipDictionary()
	dst = r.plazaDeltas(dst, nil)
	if err := r.close(); err != nil {
		return nil, err
	}
	return dst, nil
}

// plazaDeltas appends the deltas of an outbox; without their minutes where types is nil.
func (r *reader) plazaDeltas(dst []toll.PlazaDelta, types *typeReader) []toll.PlazaDelta {
	n := r.count(1 + plazaDeltaBytes)
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	deltas := dst[start:]
	clear(deltas)
	apart := int64(1)
	if r.version >= versionFolded {
		apart = 0
		if n == 0 {
			r.fail("compacted batches without a delta")
		}
	}
	var before toll.PlazaDelta
	for i := range deltas {
		d := &deltas[i]
		if i == 0 {
			r.plaza(d, r.diff(0))
		} else {
			r.plaza(d, r.gap(int64(before.Plaza)+apart))
		}
		r.plazaDelta(d, before.Prev, before.Earliest, types)
		if r.version >= versionFolded {
			if d.Ends = r.offset(r.gap(d.Prev)); d.Ends == d.Prev {
				r.fail("a delta ends where it begins")
			}
			if i > 0 && d.Plaza == before.Plaza && d.Prev != before.Ends {
				r.fail("a delta follows one that ends at %d, but the one before ends at %d", d.Prev,
					before.Ends)
			}
			d.Fold = r.fold(baseMinute(d.Earliest), types)
		}
		r.sum(d)
		if r.err != nil {
			return nil
		}
		before = *d
	}
	return dst
}

// plazaDeltaBytes is the least that a plaza delta takes without the plaza.
const plazaDeltaBytes = 1 + 1 + 8 + 1 + 1 + 1 + 1 + 1 + 1

func appendPlazaDelta(dst []byte, d *toll.PlazaDelta, prev int64, earliest toll.WallTime,
	types *dictionary) []byte {
	dst = appendDiff(dst, d.Prev, prev)
	dst = binary.AppendUvarint(dst, uint64(d.Events))
	dst = binary.LittleEndian.AppendUint64(dst, d.Checksum)
	dst = appendDiff(dst, int64(d.Earliest), int64(earliest))
	dst = appendGap(dst, int64(d.Latest), int64(d.Earliest))
	base := baseMinute(d.Earliest)
	dst = appendPanes(dst, d.Panes, base, types)
	dst = appendPanes(dst, d.LateQuarter, base, types)
	dst = appendPanes(dst, d.TooLate, base, types)
	dst = binary.AppendUvarint(dst, uint64(d.Ahead))
	if d.Ahead != 0 {
		dst = binary.AppendUvarint(dst, uint64(d.Lead))
	}
	return dst
}

// appendFold writes the rollup of a delta's minutes, nil for none.
func appendFold(dst []byte, f *toll.Fold, base toll.Minute, types *dictionary) []byte {
	if f == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = appendDiff(dst, int64(f.Before), int64(base))
	dst = types.appendCounts(dst, f.OnTime)
	dst = binary.AppendUvarint(dst, uint64(f.Late))
	dst = types.appendCounts(dst, f.LateQuarter)
	return types.appendCounts(dst, f.TooLate)
}

// fold undoes appendFold. Without types it is skipped.
func (r *reader) fold(base toll.Minute, types *typeReader) *toll.Fold {
	switch r.uvarint() {
	case 0:
		return nil
	case 1:
	default:
		r.fail("minutes are rolled up or not")
		return nil
	}
	before := r.diff(int64(base))
	f := &toll.Fold{Before: toll.Minute(before)}
	if int64(f.Before) != before {
		r.fail("minute %d is out of range", before)
	}
	f.OnTime = types.counts(r, 0)
	f.Late = int64(r.uvarint())
	f.LateQuarter = types.counts(r, 0)
	f.TooLate = types.counts(r, 0)
	if types == nil {
		return nil
	}
	return f
}

func (d *dictionary) collectDelta(delta *toll.PlazaDelta) {
	if f := delta.Fold; f != nil {
		d.collect(f.OnTime)
		d.collect(f.LateQuarter)
		d.collect(f.TooLate)
	}
	for _, panes := range [...][]toll.Pane{delta.Panes, delta.LateQuarter, delta.TooLate} {
		for i := range panes {
			d.collect(panes[i].Types)
		}
	}
}

func (r *reader) plaza(d *toll.PlazaDelta, plaza int64) {
	d.Plaza = int16(plaza)
	if int64(d.Plaza) != plaza {
		r.fail("plaza %d is out of range", plaza)
	}
}

// plazaDelta undoes appendPlazaDelta.
func (r *reader) plazaDelta(d *toll.PlazaDelta, prev int64, earliest toll.WallTime,
	types *typeReader) {
	d.Prev = r.offset(r.diff(prev))
	d.Events = int64(r.uvarint())
	d.Checksum = r.fixed64()
	d.Earliest = toll.WallTime(r.diff(int64(earliest)))
	d.Latest = toll.WallTime(r.gap(int64(d.Earliest)))
	base := baseMinute(d.Earliest)
	d.Panes = r.panes(base, types)
	d.LateQuarter = r.panes(base, types)
	d.TooLate = r.panes(base, types)
	if d.Ahead = int64(r.uvarint()); d.Ahead != 0 {
		d.Lead = int64(r.uvarint())
	}
}

// sum checks that a delta's counts add up.
func (r *reader) sum(d *toll.PlazaDelta) {
	counted := d.Fold.Events() + r.skipped
	r.skipped = 0
	for _, panes := range [...][]toll.Pane{d.Panes, d.LateQuarter, d.TooLate} {
		for i := range panes {
			counted += panes[i].Count()
		}
	}
	if d.Events != counted {
		r.fail("%d events, but %d in the panes", d.Events, counted)
	}
}
