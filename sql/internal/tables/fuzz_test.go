package tables_test

import (
	"math/big"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// FuzzByType: what toll_window holds in by_type is read as it was written, in memory by its size.
func FuzzByType(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{`{}`, `{"car":9,"truck":2}`, `{"\u001b[2J":1}`, `{"a\"b":1,"a\\":2}`,
		`{"car":-1}`, `{"car":1e3}`, `{"car":9223372036854775807}`, `{"car":1,"car":2}`, `null`, `[]`,
		"{\"\x00\":0,\"0\":0,\"0\":0}"} { // the last one once failed
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // which the column can't hold
		}
		var r tables.TypesReader
		var types []toll.TypeCount
		var err error
		if n, most := dbtest.Allocated(func() { types, err = r.Decode(nil, text) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil || !slices.IsSortedFunc(types, func(a, b toll.TypeCount) int {
			if a.Type < b.Type {
				return -1
			}
			return 1
		}) {
			return // not in the order in which they are written
		}
		again, err := r.Decode(nil, tables.AppendTypes(nil, types))
		if err != nil || !slices.Equal(again, types) {
			t.Fatalf("%s became %+v became %+v, %v", text, types, again, err)
		}
	})
}

// FuzzSum: a sum that a server returns is read modulo 2^64, in memory by its size, or refused; what
// is called exact is.
func FuzzSum(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{"0", "18446744073709551616", "-1", "9007199254740993", "1.5e300",
		"1e15", "NaN", "Inf", "0x10", "", "-1e5", "1_000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return // a server's sums have 65 digits at most
		}
		var sum uint64
		var exact bool
		var err error
		if n, most := dbtest.Allocated(func() { sum, exact, err = tables.ParseSum(text) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil || !exact {
			return
		}
		if n, ok := new(big.Int).SetString(text, 10); ok {
			if want := new(big.Int).Mod(n, new(big.Int).Lsh(big.NewInt(1), 64)); want.Uint64() != sum {
				t.Fatalf("%q is read as %d", text, sum)
			}
		} else if sum >= 1<<53 {
			t.Fatalf("%q is read as %d and called exact", text, sum)
		}
	})
}
