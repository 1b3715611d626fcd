package wire

import "testing"

func TestChainOfANewCursor(t *testing.T) {
	for _, b := range [][]byte{nil, {}} {
		chain, err := DecodeChain(b)
		if err != nil || chain == nil || len(chain) != 0 {
			t.Errorf("DecodeChain(%#v) = %#v, %v", b, chain, err)
		}
	}
}

func BenchmarkChain(b *testing.B) {
	c := chain()
	message := AppendChain(nil, c)
	b.Logf("%d plazas: %d bytes", len(c), len(message))
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		var dst []byte
		for b.Loop() {
			dst = AppendChain(dst[:0], c)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			if _, err := DecodeChain(message); err != nil {
				b.Fatal(err)
			}
		}
	})
}
