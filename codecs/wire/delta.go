package wire

import (
	"encoding/binary"

	"github.com/tollstream/tollstream/toll"
)

// AppendDelta appends a delta as the loop topic holds it; see [AppendDeltas]. The body is
//
//	epoch, source partition, first, next − first, dictionary of vehicle types,
//	plaza, prev − first, events, checksum (8 bytes), earliest, latest − earliest, panes and so on
//
// as in an outbox. Version 3 ends with the minutes that were rolled up, and has some.
func AppendDelta(dst []byte, d *toll.Delta) []byte {
	types := dictionaries.Get().(*dictionary)
	defer types.release()
	types.collectDelta(&d.PlazaDelta)

	start := len(dst)
	if d.Fold != nil {
		dst = append(dst, versionFolded)
	} else {
		dst = append(dst, version)
	}
	dst = binary.AppendUvarint(dst, d.Epoch)
	dst = binary.AppendVarint(dst, int64(d.Partition))
	dst = binary.AppendUvarint(dst, uint64(d.First))
	dst = appendGap(dst, d.Next, d.First)
	dst = types.append(dst)
	dst = appendDiff(dst, int64(d.Plaza), 0)
	dst = appendPlazaDelta(dst, &d.PlazaDelta, d.First, 0, types)
	if d.Fold != nil {
		dst = appendFold(dst, d.Fold, baseMinute(d.Earliest), types)
	}
	return seal(dst, start, kindDelta)
}

// DecodeDelta reads a delta.
func DecodeDelta(b []byte) (*toll.Delta, error) {
	r := open(kindDelta, b)
	d := &toll.Delta{Epoch: r.uvarint(), Partition: r.partition(r.varint()),
		First: r.offset(int64(r.uvarint()))}
	d.Next = r.gap(d.First)
	types := r.dictionary()
	r.plaza(&d.PlazaDelta, r.diff(0))
	r.plazaDelta(&d.PlazaDelta, d.First, 0, &types)
	if r.version >= versionFolded {
		if d.Fold = r.fold(baseMinute(d.Earliest), &types); d.Fold == nil {
			r.fail("no minutes were rolled up")
		}
	}
	r.sum(&d.PlazaDelta)
	types.close(&r)
	if d.Prev > d.First {
		r.fail("it follows a batch that ends at %d, but begins at %d", d.Prev, d.First)
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	return d, nil
}

func (r *reader) partition(v int64) int32 {
	if v < 0 || int64(int32(v)) != v {
		r.fail("partition %d is out of range", v)
	}
	return int32(v)
}

func (r *reader) offset(v int64) int64 {
	if v < 0 {
		r.fail("a negative offset")
	}
	return v
}
