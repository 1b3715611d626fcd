package codecs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"tollstream/toll"
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

// Two deltas of one plaza and batch would continue the same place of the chain, and one would never be merged.
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
			p.Types = append(p.Types, toll.TypeCount{Type: fmt.Sprintf("%d %d", i*7919%2000, j+10), Count: 1})
		}
		d.Panes, d.Events = []toll.Pane{p}, p.Count()
		want = append(want, d)
	}
	got, err := DecodePlazaDeltas(AppendPlazaDeltas(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d deltas became %d, %v", len(want), len(got), err)
	}
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
	}
}
