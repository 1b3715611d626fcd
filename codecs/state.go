package codecs

import (
	"encoding/binary"
	"fmt"

	"tollstream/toll"
)

// AppendState appends what the group table holds of a plaza. The body is
//
//	epoch, events, checksum (8 bytes), gaps, earliest, latest − earliest
//	number of source partitions, then each, ascending: partition, next, latest
//	dictionary of vehicle types
//	counts since the beginning
//	panes of one minute
//
// where a partition counts from the one before, next is a difference from the next before and a partition's latest one
// from the state's. Two hours of minutes with three types take about 1.2 KB; the most, 32 types in every minute, 10 KB.
//
// What later versions add (panes of a quarter of an hour, closed windows and their revisions, lateness) follows the panes
// and shares the dictionary.
func AppendState(dst []byte, s *toll.State) []byte {
	types := dictionaries.Get().(*dictionary)
	defer types.release()
	types.collect(s.Types)
	for i := range s.Panes {
		types.collect(s.Panes[i].Types)
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
	dst = appendPanes(dst, s.Panes, baseMinute(s.Latest), types)
	return seal(dst, start, kindState)
}

// mergedBytes is the least that a source partition takes.
const mergedBytes = 3

// DecodeState reads what the group table holds of a plaza.
func DecodeState(b []byte) (*toll.State, error) {
	r := open(kindState, b)
	s := &toll.State{Epoch: r.uvarint(), Events: int64(r.uvarint()), Checksum: r.fixed64(), Gaps: int64(r.uvarint())}
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
	types := r.dictionary()
	s.Types = types.counts(&r, 0)
	s.Panes = r.panes(baseMinute(s.Latest), &types)
	types.close(&r)
	if err := r.close(); err != nil {
		return nil, err
	}
	return s, nil
}

// StateCodec is the goka.Codec of the group table.
type StateCodec struct{}

// Encode writes a *toll.State.
func (StateCodec) Encode(value any) ([]byte, error) {
	s, ok := value.(*toll.State)
	if !ok || s == nil {
		return nil, fmt.Errorf("encode plaza state: %T is not a plaza state", value)
	}
	return AppendState(make([]byte, 0, 256+16*len(s.Panes)), s), nil
}

// Decode returns a *toll.State. Unlike [DeltaCodec] it does return an error, which ends the processor: a state that can't
// be read must not be taken for an empty one, from which counting would start again.
func (StateCodec) Decode(data []byte) (any, error) {
	s, err := DecodeState(data)
	if err != nil {
		return nil, err
	}
	return s, nil
}
