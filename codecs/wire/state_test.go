package wire

import (
	"errors"
	"slices"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

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
