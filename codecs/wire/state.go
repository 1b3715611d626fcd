package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/tollstream/tollstream/toll"
)

// AppendState appends what the group table holds of a plaza. The body is
//
//	epoch, events, checksum (8 bytes), gaps, earliest, latest − earliest
//	number of source partitions, then each, ascending: partition, next, latest
//	dictionary of vehicle types
//	counts since the beginning
//	events that were late, late for minutes, too late
//	events that ran ahead, by how much the last did
//	minute up to which windows are stored
//	ranges of minutes to store again: number, then each: distance, length
//	panes of a minute, panes of a quarter of an hour
//
// where a partition counts from the one before, next is a difference from the next before and a
// partition's latest one from the state's. With three types of vehicles it takes about 2.5 KB, and
// at most 4 KB: see [toll.MinuteBytes].
func AppendState(dst []byte, s *toll.State) []byte {
	types := dictionaries.Get().(*dictionary)
	defer types.release()
	types.collect(s.Types)
	for _, panes := range [...][]toll.Pane{s.Minutes.List, s.Quarters.List} {
		for i := range panes {
			types.collect(panes[i].Types)
		}
	}

	start := len(dst)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, s.Epoch)
	dst = binary.AppendUvarint(dst, uint64(s.Events))
	dst = binary.LittleEndian.AppendUint64(dst, s.Checksum)
	dst = binary.AppendUvarint(dst, uint64(s.Gaps))
	dst = binary.AppendVarint(dst, int64(s.Earliest))
	dst = appendGap(dst, int64(s.Latest), int64(s.Earliest))
	dst = binary.AppendUvarint(dst, uint64(len(s.Merged)))
	after := toll.Merged{Partition: -1}
	for _, m := range s.Merged {
		dst = appendGap(dst, int64(m.Partition), int64(after.Partition)+1)
		dst = appendDiff(dst, m.Next, after.Next)
		dst = appendDiff(dst, int64(s.Latest), int64(m.Latest))
		after = m
	}
	dst = types.append(dst)
	dst = types.appendCounts(dst, s.Types)
	dst = binary.AppendUvarint(dst, uint64(s.Late))
	dst = binary.AppendUvarint(dst, uint64(s.LateQuarter))
	dst = binary.AppendUvarint(dst, uint64(s.TooLate))
	dst = binary.AppendUvarint(dst, uint64(s.Ahead))
	dst = binary.AppendUvarint(dst, uint64(s.Lead))
	base := baseMinute(s.Latest)
	dst = appendDiff(dst, int64(s.Done), int64(base))
	dst = binary.AppendUvarint(dst, uint64(len(s.Dirty)))
	at := s.Done
	for _, w := range s.Dirty {
		dst = appendDiff(dst, int64(w.Start), int64(at))
		dst = appendGap(dst, int64(w.End), int64(w.Start))
		at = w.End
	}
	dst = appendKept(dst, &s.Minutes, 1, base, types)
	dst = appendKept(dst, &s.Quarters, toll.Quarter, base, types)
	return seal(dst, start, kindState)
}

// mergedBytes is the least that a source partition takes.
const mergedBytes = 3

// DecodeState reads what the group table holds of a plaza.
func DecodeState(b []byte) (*toll.State, error) {
	r := open(kindState, b)
	s := r.progress()
	types := r.dictionary()
	s.Types = types.counts(&r, 0)
	r.eventTime(s, &types)
	types.close(&r)
	if err := r.close(); err != nil {
		return nil, err
	}
	return s, nil
}

// progress reads what comes before the counts by type.
func (r *reader) progress() *toll.State {
	s := &toll.State{Epoch: r.uvarint(), Events: int64(r.uvarint()), Checksum: r.fixed64(),
		Gaps: int64(r.uvarint())}
	s.Earliest = toll.WallTime(r.varint())
	s.Latest = toll.WallTime(r.gap(int64(s.Earliest)))
	if n := r.count(mergedBytes); n > 0 {
		s.Merged = make([]toll.Merged, n)
	}
	after := toll.Merged{Partition: -1}
	for i := range s.Merged {
		m := &s.Merged[i]
		m.Partition = r.partition(r.gap(int64(after.Partition) + 1))
		m.Next = r.offset(r.diff(after.Next))
		m.Latest = s.Latest - toll.WallTime(r.varint())
		after = *m
	}
	return s
}

// DecodeProgress reads of a plaza's state how far it has come, for those who look at many: its
// epoch and what it has merged, ascending by partition. Damage of the rest shows by the checksum
// alone.
func DecodeProgress(b []byte) (epoch uint64, merged []toll.Merged, err error) {
	r := open(kindState, b)
	s := r.progress()
	if r.err != nil {
		return 0, nil, r.err
	}
	return s.Epoch, s.Merged, nil
}

// eventTime reads what follows the counts.
func (r *reader) eventTime(s *toll.State, types *typeReader) {
	s.Late, s.LateQuarter, s.TooLate = int64(r.uvarint()), int64(r.uvarint()), int64(r.uvarint())
	s.Ahead, s.Lead = int64(r.uvarint()), int64(r.uvarint())
	base := baseMinute(s.Latest)
	s.Done = r.minute(r.diff(int64(base)))
	if n := r.count(rangeBytes); n > 0 {
		s.Dirty = make([]toll.Window, n)
	}
	at := s.Done
	for i := range s.Dirty {
		w := &s.Dirty[i]
		w.Start = r.minute(r.diff(int64(at)))
		w.End = r.minute(r.gap(int64(w.Start)))
		at = w.End
	}
	s.Minutes = r.kept(1, base, types)
	s.Quarters = r.kept(toll.Quarter, base, types)
}

// rangeBytes is the least that a range of minutes takes.
const rangeBytes = 2

// StateCodec is the goka.Codec of the group table.
type StateCodec struct{}

// Encode writes a *toll.State.
func (StateCodec) Encode(value any) ([]byte, error) {
	s, ok := value.(*toll.State)
	if !ok || s == nil {
		return nil, fmt.Errorf("encode plaza state: %T is not a plaza state", value)
	}
	return AppendState(make([]byte, 0, 256+8*(len(s.Minutes.List)+len(s.Quarters.List))), s), nil
}

// Decode returns a *toll.State. Unlike [DeltasCodec] it does return an error, which ends the
// processor: a state that can't be read must not be taken for an empty one, from which counting
// would start again.
func (StateCodec) Decode(data []byte) (any, error) {
	s, err := DecodeState(data)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// TrimState returns a state that holds of another what [DecodeProgress] reads and the number of
// events, in a few bytes: for those who ask again and again how far all plazas have come.
func TrimState(b []byte) ([]byte, error) {
	r := open(kindState, b)
	s := r.progress()
	if r.err != nil {
		return nil, r.err
	}
	return AppendState(nil, s), nil
}
