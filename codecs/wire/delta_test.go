package wire

import (
	"bytes"
	"errors"
	"reflect"
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
