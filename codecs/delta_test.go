package codecs

import (
	"errors"
	"reflect"
	"testing"

	"tollstream/toll"
)

func TestDeltaCodec(t *testing.T) {
	want := &toll.Delta{Epoch: 7, Partition: 2, First: 1000, Next: 2000, PlazaDelta: plazaDelta(4856, 2, 3)}
	b, err := (DeltaCodec{}).Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (DeltaCodec{}).Decode(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Decode = %+v, %v", got, err)
	}
	for _, damaged := range [][]byte{nil, {}, {version}, []byte("text"), b[:len(b)-1]} {
		got, err := (DeltaCodec{}).Decode(damaged)
		failure, ok := got.(DecodeFailure)
		if err != nil || !ok || string(failure.Raw) != string(damaged) || !errors.Is(failure, ErrCorrupt) && !errors.Is(failure, ErrNewer) {
			t.Errorf("Decode(%x) = %#v, %v", damaged, got, err)
		}
	}
	for _, value := range []any{nil, (*toll.Delta)(nil), toll.Delta{}, "x"} {
		if b, err := (DeltaCodec{}).Encode(value); err == nil {
			t.Errorf("Encode(%#v) = %x", value, b)
		}
	}
}

func BenchmarkDelta(b *testing.B) {
	d := &toll.Delta{Epoch: 7, Partition: 2, First: 250_000_000, Next: 250_010_000, PlazaDelta: plazaDelta(4856, 2, 3)}
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
