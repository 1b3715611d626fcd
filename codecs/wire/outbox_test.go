package wire

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

func TestPlazaDeltasInAnyOrder(t *testing.T) {
	want := plazaDeltas(5, 1, 2)
	given := slices.Clone(want)
	slices.Reverse(given)
	first := given[0].Plaza
	got, err := DecodePlazaDeltas(AppendPlazaDeltas(nil, given))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if given[0].Plaza != first {
		t.Error("the given deltas were sorted")
	}
}

// Two deltas of one plaza and batch would continue the same place of the chain, and one would never
// be merged.
func TestPlazaDeltasRefuseAPlazaTwice(t *testing.T) {
	deltas := append(plazaDeltas(2, 1, 1), plazaDeltas(1, 1, 1)...)
	if got, err := DecodePlazaDeltas(AppendPlazaDeltas(nil, deltas)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A batch may hold thousands of types, each a hostile producer's invention.
func TestPlazaDeltasOfManyTypes(t *testing.T) {
	var want []toll.PlazaDelta
	for i := range 2000 {
		d := toll.PlazaDelta{Plaza: int16(i)}
		p := toll.Pane{Start: toll.Minute(i)}
		for j := range 30 {
			p.Types = append(p.Types, toll.TypeCount{Type: fmt.Sprintf("%d %d", i*7919%2000, j+10),
				Count: 1})
		}
		d.Panes, d.Events = []toll.Pane{p}, p.Count()
		want = append(want, d)
	}
	got, err := DecodePlazaDeltas(AppendPlazaDeltas(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d deltas became %d, %v", len(want), len(got), err)
	}
}

// sumsOf are the deltas without what [DecodePlazaSums] leaves out.
func sumsOf(deltas []toll.PlazaDelta) []toll.PlazaDelta {
	sums := slices.Clone(deltas)
	for i := range sums {
		sums[i].Panes, sums[i].LateQuarter, sums[i].TooLate, sums[i].Fold = nil, nil, nil, nil
	}
	return sums
}

func TestDecodePlazaSums(t *testing.T) {
	var all, want []toll.PlazaDelta
	for _, value := range samples(kindPlazaDeltas) {
		deltas := value.([]toll.PlazaDelta)
		blob := AppendPlazaDeltas(nil, deltas)
		decoded, err := DecodePlazaDeltas(blob)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, sumsOf(decoded)...)
		if all, err = DecodePlazaSums(all, blob); err != nil || !reflect.DeepEqual(all, want) {
			t.Fatalf("got %+v, %v, want %+v", all, err, want)
		}
		for n := range blob {
			flipped := slices.Clone(blob)
			flipped[n] ^= 0x40
			for _, damaged := range [][]byte{blob[:n], flipped} {
				if got, err := DecodePlazaSums(nil, damaged); got != nil || !errors.Is(err, ErrCorrupt) &&
					!errors.Is(err, ErrNewer) {
					t.Fatalf("%x: got %+v, %v", damaged, got, err)
				}
			}
		}
	}
	wrong := plazaDeltas(1, 1, 1)
	wrong[0].Events++
	if got, err := DecodePlazaSums(nil, AppendPlazaDeltas(nil, wrong)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzPlazaSums: what is read of an outbox in passing is what all of it says, or refused.
func FuzzPlazaSums(f *testing.F) {
	corpus.Add(f)
	for _, value := range samples(kindPlazaDeltas) {
		blob := AppendPlazaDeltas(nil, value.([]toll.PlazaDelta))
		f.Add(blob[0], blob[1:len(blob)-trailerBytes])
	}
	f.Fuzz(func(t *testing.T, v byte, body []byte) {
		blob := seal(append([]byte{v}, body...), 0, kindPlazaDeltas)
		var sums []toll.PlazaDelta
		var err error
		if n, most := allocated(func() { sums, err = DecodePlazaSums(nil, blob) }),
			uint64(100*len(blob)+100_000); n > most {
			t.Fatalf("%d bytes allocated for an outbox of %d", n, len(blob))
		}
		if err != nil && (sums != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer)) {
			t.Fatalf("%+v, %v", sums, err)
		}
		deltas, errDeltas := DecodePlazaDeltas(blob)
		if errDeltas == nil && (err != nil || !reflect.DeepEqual(sums, sumsOf(deltas))) {
			t.Fatalf("got %+v, %v, but the outbox is %+v", sums, err, deltas)
		}
	})
}

func BenchmarkPlazaDeltas(b *testing.B) {
	for _, plazas := range []int{11, 1000} {
		deltas := plazaDeltas(plazas, 2, 3)
		message := AppendPlazaDeltas(nil, deltas)
		b.Run(fmt.Sprintf("append/plazas=%d", plazas), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(message)))
			var dst []byte
			for b.Loop() {
				dst = AppendPlazaDeltas(dst[:0], deltas)
			}
		})
		b.Run(fmt.Sprintf("decode/plazas=%d", plazas), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				if _, err := DecodePlazaDeltas(message); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("sums/plazas=%d", plazas), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(message)))
			var dst []toll.PlazaDelta
			for b.Loop() {
				var err error
				if dst, err = DecodePlazaSums(dst[:0], message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A state is written once per plaza and batch, to the local store and to the changelog, so its size
// matters.
func TestStateSize(t *testing.T) {
	for _, c := range []struct {
		name  string
		state *toll.State
		most  int
	}{
		{"empty", toll.NewState(1), 64},
		{"two hours and two days of three types", plazaState(120, 3, 4), 2500},
	} {
		n := len(AppendState(nil, c.state))
		t.Logf("%s: %d bytes", c.name, n)
		if n > c.most {
			t.Errorf("%s: %d bytes, more than %d", c.name, n, c.most)
		}
	}
}

func TestStateCodec(t *testing.T) {
	want := plazaState(2, 2, 2)
	b, err := (StateCodec{}).Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (StateCodec{}).Decode(b)
	if err != nil || got.(*toll.State).Events != want.Events {
		t.Errorf("Decode = %+v, %v", got, err)
	}
	if epoch, merged, err := DecodeProgress(b); err != nil || epoch != want.Epoch ||
		!slices.Equal(merged, want.Merged) {
		t.Errorf("DecodeProgress = %d, %v, %v", epoch, merged, err)
	}
	trimmed, err := TrimState(b)
	if err != nil || len(trimmed) > 100 {
		t.Errorf("TrimState = %d bytes, %v", len(trimmed), err)
	}
	if s, err := DecodeState(trimmed); err != nil || s.Epoch != want.Epoch ||
		s.Events != want.Events || !slices.Equal(s.Merged, want.Merged) {
		t.Errorf("of the trimmed state: %+v, %v", s, err)
	}
	for _, damaged := range [][]byte{nil, {}, b[1:], b[:len(b)-1]} {
		if got, err := TrimState(damaged); err == nil || got != nil {
			t.Errorf("TrimState(%x) = %x, %v", damaged, got, err)
		}
		if _, merged, err := DecodeProgress(damaged); err == nil || merged != nil {
			t.Errorf("DecodeProgress(%x) = %v, %v", damaged, merged, err)
		}
		if got, err := (StateCodec{}).Decode(damaged); !errors.Is(err, ErrCorrupt) &&
			!errors.Is(err, ErrNewer) || got != nil {
			t.Errorf("Decode(%x) = %v, %v", damaged, got, err)
		}
	}
	for _, value := range []any{nil, (*toll.State)(nil), toll.State{}, "x"} {
		if b, err := (StateCodec{}).Encode(value); err == nil {
			t.Errorf("Encode(%#v) = %x", value, b)
		}
	}
}

func BenchmarkState(b *testing.B) {
	s := plazaState(120, 3, 4)
	message := AppendState(nil, s)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		var dst []byte
		for b.Loop() {
			dst = AppendState(dst[:0], s)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			if _, err := DecodeState(message); err != nil {
				b.Fatal(err)
			}
		}
	})
}
