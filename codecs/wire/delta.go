package wire

import (
	"encoding/binary"
	"fmt"

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

// deltasByte begins a message of several deltas. No delta begins with it: that would be its
// version.
const deltasByte = 0xff

// AppendDeltas appends a message of the loop topic that holds deltas of one plaza, each as
// [AppendDelta] wrote it, in the order in which they are to be merged. One alone is the message
// itself. Of several the message is
//
//	the byte 255, how many there are, then of each: how many bytes it takes, and these
//
// There is no checksum around them, as each has its own.
func AppendDeltas(dst []byte, deltas ...[]byte) []byte {
	if len(deltas) == 1 {
		return append(dst, deltas[0]...)
	}
	dst = append(dst, deltasByte)
	dst = binary.AppendUvarint(dst, uint64(len(deltas)))
	for _, d := range deltas {
		dst = binary.AppendUvarint(dst, uint64(len(d)))
		dst = append(dst, d...)
	}
	return dst
}

// DecodeDeltas reads a message of the loop topic: one delta, or several of one plaza.
func DecodeDeltas(message []byte) ([]*toll.Delta, error) {
	if len(message) == 0 || message[0] != deltasByte {
		d, err := DecodeDelta(message)
		if err != nil {
			return nil, err
		}
		return []*toll.Delta{d}, nil
	}
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("decode deltas: %w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	count, n := binary.Uvarint(message[1:])
	if n <= 0 || count < 2 || count > uint64(len(message)) {
		return nil, corrupt("there can't be %d in %d bytes", count, len(message))
	}
	rest := message[1+n:]
	var deltas []*toll.Delta
	for i := range count {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, corrupt("number %d is cut off", i+1)
		}
		d, err := DecodeDelta(rest[n : n+int(size)])
		if err != nil {
			return nil, fmt.Errorf("number %d of %d in one message: %w", i+1, count, err)
		}
		if i > 0 && d.Plaza != deltas[0].Plaza {
			return nil, corrupt("of plazas %d and %d in one message", deltas[0].Plaza, d.Plaza)
		}
		deltas = append(deltas, d)
		rest = rest[n+int(size):]
	}
	if len(rest) > 0 {
		return nil, corrupt("%d bytes too many", len(rest))
	}
	return deltas, nil
}

// DecodeFailure is what [DeltasCodec] returns for a message that holds no deltas.
type DecodeFailure struct {
	Err error  // an [ErrCorrupt] or [ErrNewer]
	Raw []byte // the message
}

func (f DecodeFailure) Error() string { return f.Err.Error() }
func (f DecodeFailure) Unwrap() error { return f.Err }

// DeltasCodec is the goka.Codec of the loop topic.
type DeltasCodec struct{}

// Encode writes deltas of one plaza, a []*toll.Delta.
func (DeltasCodec) Encode(value any) ([]byte, error) {
	deltas, ok := value.([]*toll.Delta)
	if !ok || len(deltas) == 0 {
		return nil, fmt.Errorf("encode deltas: %T is not deltas, or there are none", value)
	}
	parts := make([][]byte, len(deltas))
	for i, d := range deltas {
		if d.Plaza != deltas[0].Plaza {
			return nil, fmt.Errorf("encode deltas: of plazas %d and %d", deltas[0].Plaza, d.Plaza)
		}
		parts[i] = AppendDelta(nil, d)
	}
	return AppendDeltas(nil, parts...), nil
}

// Decode returns a []*toll.Delta, and for a message that can't be read a [DecodeFailure] as the
// value. Its error is always nil: goka would end the processor over it, and read the same message
// again at every start. The aggregate reports the DecodeFailure; the chain shows the gap that the
// message leaves, and reconciling sends it again.
func (DeltasCodec) Decode(data []byte) (any, error) {
	deltas, err := DecodeDeltas(data)
	if err != nil {
		return DecodeFailure{Err: err, Raw: data}, nil
	}
	return deltas, nil
}
