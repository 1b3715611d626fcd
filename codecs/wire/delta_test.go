package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

var (
	_ goka.Codec = DeltasCodec{}
	_ goka.Codec = StateCodec{}
)

func TestDeltasCodec(t *testing.T) {
	one := &toll.Delta{Epoch: 7, Partition: 2, First: 1000, Next: 2000,
		PlazaDelta: plazaDelta(4856, 2, 3)}
	two := &toll.Delta{Epoch: 7, Partition: 3, First: 1100, Next: 1200,
		PlazaDelta: plazaDelta(4856, 1, 1)}
	other := &toll.Delta{Epoch: 7, Partition: 3, First: 1100, Next: 1200,
		PlazaDelta: plazaDelta(4857, 1, 1)}
	alone := AppendDelta(nil, one)
	for _, want := range [][]*toll.Delta{{one}, {one, two}, {two, one, two}} {
		b, err := (DeltasCodec{}).Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 1 && !bytes.Equal(b, alone) {
			t.Errorf("one delta is written as %x, want %x", b, alone)
		}
		if got, err := (DeltasCodec{}).Decode(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Decode = %+v, %v", got, err)
		}
		for n := range b {
			refused(t, b[:n])
			flipped := bytes.Clone(b)
			flipped[n] ^= 0x40
			refused(t, flipped)
		}
	}
	refused(t, nil)
	refused(t, []byte("text"))
	refused(t, []byte{deltasByte})
	// which would be written without the byte before it
	refused(t, append([]byte{deltasByte, 1, byte(len(alone))}, alone...))
	refused(t, AppendDeltas(nil, alone, AppendDelta(nil, other)))
	refused(t, append([]byte{deltasByte}, bytes.Repeat([]byte{0xff}, 11)...))
	for _, value := range []any{nil, one, []*toll.Delta(nil), []*toll.Delta{one, other}, "x"} {
		if b, err := (DeltasCodec{}).Encode(value); err == nil {
			t.Errorf("Encode(%#v) = %x", value, b)
		}
	}
}

func refused(t *testing.T, message []byte) {
	t.Helper()
	got, err := (DeltasCodec{}).Decode(message)
	failure, ok := got.(DecodeFailure)
	if err != nil || !ok || !bytes.Equal(failure.Raw, message) || !errors.Is(failure, ErrCorrupt) &&
		!errors.Is(failure, ErrNewer) {
		t.Errorf("Decode(%x) = %#v, %v", message, got, err)
	}
}

// FuzzDecodeDeltas: whatever the bytes, what is read writes the same bytes again, and takes memory
// by their size.
func FuzzDecodeDeltas(f *testing.F) {
	corpus.Add(f)
	one := AppendDelta(nil, &toll.Delta{Epoch: 7, Partition: 2, First: 1000, Next: 2000,
		PlazaDelta: plazaDelta(4856, 2, 3)})
	two := AppendDelta(nil, &toll.Delta{Epoch: 7, Partition: 3, First: 1100, Next: 1200,
		PlazaDelta: plazaDelta(4856, 1, 1)})
	f.Add(AppendDeltas(nil, one))
	f.Add(AppendDeltas(nil, one, two))
	f.Add(AppendDeltas(nil, two, two, one))
	f.Add([]byte{deltasByte, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{deltasByte, 2, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		var deltas []*toll.Delta
		var err error
		if n := allocated(func() { deltas, err = DecodeDeltas(message) }); n > uint64(100*len(message)+
			100_000) {
			t.Fatalf("%d bytes allocated for a message of %d", n, len(message))
		}
		if err != nil {
			return
		}
		again, err := (DeltasCodec{}).Encode(deltas)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeDeltas(again); err != nil || !reflect.DeepEqual(got, deltas) {
			t.Fatalf("written and read again: %+v, %v, want %+v", got, err, deltas)
		}
	})
}

func BenchmarkDelta(b *testing.B) {
	d := &toll.Delta{Epoch: 7, Partition: 2, First: 250_000_000, Next: 250_010_000,
		PlazaDelta: plazaDelta(4856, 2, 3)}
	message := AppendDelta(nil, d)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		var dst []byte
		for b.Loop() {
			dst = AppendDelta(dst[:0], d)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			if _, err := DecodeDelta(message); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// FuzzProgress: what is read of a state in passing is what all of it says, or refused.
func FuzzProgress(f *testing.F) {
	corpus.Add(f)
	for _, value := range samples(kindState) {
		message := AppendState(nil, value.(*toll.State))
		f.Add(message[1 : len(message)-trailerBytes])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		message := seal(append([]byte{version}, body...), 0, kindState)
		var epoch uint64
		var merged []toll.Merged
		var err error
		if n, most := allocated(func() { epoch, merged, err = DecodeProgress(message) }),
			uint64(100*len(message)+100_000); n > most {
			t.Fatalf("%d bytes allocated for a message of %d", n, len(message))
		}
		if err != nil && (!errors.Is(err, ErrCorrupt) || merged != nil) {
			t.Fatalf("%v with %v", merged, err)
		}
		for i := range merged {
			if merged[i].Partition < 0 || merged[i].Next < 0 || i > 0 &&
				merged[i].Partition <= merged[i-1].Partition {
				t.Fatalf("merged %+v", merged)
			}
		}
		state, errState := DecodeState(message)
		if errState == nil &&
			(err != nil || epoch != state.Epoch || !slices.Equal(merged, state.Merged)) {
			t.Fatalf("epoch %d, merged %+v, %v, but the state is %+v", epoch, merged, err, state)
		}
	})
}

// FuzzFold takes an outbox of compacted batches apart into rows, rolls each up to a minute of its
// own, and then all of them. What comes out holds what the outbox held, minute by minute from the
// last of these minutes on, and can be stored and read.
func FuzzFold(f *testing.F) {
	corpus.Add(f)
	for _, value := range samples(kindPlazaDeltas) {
		deltas := value.([]toll.PlazaDelta)
		message := AppendPlazaDeltas(nil, deltas)
		if message[0] == versionFolded {
			f.Add(message[1:len(message)-trailerBytes], uint64(0x5a5a), int32(0), int32(27_408_000),
				int32(math.MinInt32))
			f.Add(message[1:len(message)-trailerBytes], uint64(1), int32(27_408_020), int32(27_408_000),
				int32(27_408_010))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, split uint64, before1, before2, before3 int32) {
		deltas, err := DecodePlazaDeltas(seal(append([]byte{versionFolded}, body...), 0, kindPlazaDeltas))
		if err != nil {
			return
		}
		whole := AppendPlazaDeltas(nil, deltas)
		var rows [2][]toll.PlazaDelta // of each plaza some deltas, and those that follow on them
		for i := 0; i < len(deltas); {
			n := 1
			for i+n < len(deltas) && deltas[i+n].Plaza == deltas[i].Plaza {
				n++
			}
			cut := i + int(split%uint64(n+1))
			split = split>>1 | split<<63
			rows[0], rows[1] = append(rows[0], deltas[i:cut]...), append(rows[1], deltas[cut:i+n]...)
			i += n
		}
		var parts [][]toll.PlazaDelta
		for i, before := range []int32{before1, before2} {
			parts = append(parts, toll.FoldDeltas(rows[i], toll.Minute(before)))
		}
		folded := toll.FoldDeltas(toll.JoinDeltas(parts, []int64{0, 0}), toll.Minute(before3))
		if again := AppendPlazaDeltas(nil, deltas); string(again) != string(whole) {
			t.Fatal("the deltas that were merged have changed")
		}
		stored := AppendPlazaDeltas(nil, folded)
		if again, err := DecodePlazaDeltas(stored); err != nil || !reflect.DeepEqual(again, folded) {
			t.Fatalf("%+v became %+v, %v", folded, again, err)
		}
		want, got := unfold(deltas), unfold(folded)
		if len(want) != len(got) {
			t.Fatalf("%d plazas became %d", len(want), len(got))
		}
		for plaza, w := range want {
			g := got[plaza]
			if g == nil || g.events != w.events || g.checksum != w.checksum || g.ahead != w.ahead ||
				g.prev != w.prev || g.ends != w.ends ||
				g.earliest != w.earliest || g.latest != w.latest || g.kinds != w.kinds || g.before < w.before {
				t.Fatalf("plaza %d: %+v became %+v", plaza, w, g)
			}
			for at := range g.panes {
				if at.minute < g.before && g.folds == 1 && g.deltas == 1 {
					t.Fatalf("plaza %d: minute %d is left before %d", plaza, at.minute, g.before)
				}
			}
			for at, n := range w.panes {
				if at.minute >= g.before && g.panes[at] != n {
					t.Fatalf("plaza %d: minute %d had %+v and has %+v", plaza, at.minute, n, g.panes[at])
				}
			}
			for at := range g.panes {
				if _, ok := w.panes[at]; !ok {
					t.Fatalf("plaza %d: minute %d was not there", plaza, at.minute)
				}
			}
		}
	})
}

// unfolded is what deltas hold of one plaza, summed in the plainest way.
type unfolded struct {
	events, ahead, prev, ends int64
	checksum                  uint64
	earliest, latest          toll.WallTime
	before                    toll.Minute // minutes before it were rolled up
	deltas, folds             int
	// on time or late, late among them, late for minutes, too late; rolled up or not
	kinds [4]int64
	panes map[paneOf]paneCount
}

type paneOf struct {
	minute toll.Minute
	kind   int
}

type paneCount struct{ events, late int64 }

func unfold(deltas []toll.PlazaDelta) map[int16]*unfolded {
	plazas := map[int16]*unfolded{}
	for i := range deltas {
		d := &deltas[i]
		u := plazas[d.Plaza]
		if u == nil {
			u = &unfolded{prev: d.Prev, earliest: d.Earliest, latest: d.Latest, before: math.MinInt32,
				panes: map[paneOf]paneCount{}}
			plazas[d.Plaza] = u
		}
		u.deltas++
		u.events += d.Events
		u.checksum += d.Checksum
		u.ahead += d.Ahead
		u.ends = d.Ends
		u.earliest, u.latest = min(u.earliest, d.Earliest), max(u.latest, d.Latest)
		if d.Fold != nil {
			u.folds++
			u.before = max(u.before, d.Fold.Before)
			for kind, types := range [][]toll.TypeCount{d.Fold.OnTime, nil, d.Fold.LateQuarter,
				d.Fold.TooLate} {
				u.kinds[kind] += toll.SumTypes(types)
			}
			u.kinds[1] += d.Fold.Late
		}
		for kind, panes := range [][]toll.Pane{d.Panes, nil, d.LateQuarter, d.TooLate} {
			for _, p := range panes {
				at := paneOf{p.Start, kind}
				n := u.panes[at]
				u.panes[at] = paneCount{n.events + p.Count(), n.late + p.Late}
				u.kinds[kind] += p.Count()
				if kind == 0 {
					u.kinds[1] += p.Late
				}
			}
		}
	}
	return plazas
}
