package wire

import (
	"encoding/binary"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// AppendChain appends the chain that a cursor holds: for each plaza the Next of the partition's
// last batch that had it. The body is
//
//	number of plazas, then each, ascending: plaza, next
//
// each a difference from the one before. A chain of no plaza is not empty: a column that allows no
// NULL holds it.
func AppendChain(dst []byte, chain map[int16]int64) []byte {
	var few [256]int16
	plazas := few[:0]
	for plaza := range chain {
		plazas = append(plazas, plaza)
	}
	slices.Sort(plazas)

	start := len(dst)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(len(plazas)))
	after, next := int64(toll.MinPlaza)-1, int64(0)
	for _, plaza := range plazas {
		dst = appendGap(dst, int64(plaza), after+1)
		dst = appendDiff(dst, chain[plaza], next)
		after, next = int64(plaza), chain[plaza]
	}
	return seal(dst, start, kindChain)
}

// DecodeChain reads a chain. No bytes at all are the empty chain of a new cursor.
func DecodeChain(b []byte) (map[int16]int64, error) {
	if len(b) == 0 {
		return map[int16]int64{}, nil
	}
	r := open(kindChain, b)
	n := r.count(2)
	chain := make(map[int16]int64, n)
	after, next := int64(toll.MinPlaza)-1, int64(0)
	for range n {
		after = r.gap(after + 1)
		next = r.offset(r.diff(next))
		if after > toll.MaxPlaza {
			r.fail("plaza %d is out of range", after)
		}
		if r.err != nil {
			return nil, r.err
		}
		chain[int16(after)] = next
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	return chain, nil
}
