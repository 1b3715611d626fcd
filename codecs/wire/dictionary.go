package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"github.com/tollstream/tollstream/toll"
)

// dictionary is the ascending list of the vehicle types in a message. In the message it is
//
//	number of names, then each: length, bytes
//	list of counts: number, then each: names skipped since the one before in the list, count
//
// and every name is in use.
type dictionary struct {
	names []string
	fresh []string // collected since names was last sorted, with repetitions
}

var dictionaries = sync.Pool{New: func() any { return new(dictionary) }}

// release gives the dictionary back, without the strings.
func (d *dictionary) release() {
	if cap(d.names) > 1024 || cap(d.fresh) > 1024 {
		return
	}
	clear(d.names[:cap(d.names)])
	clear(d.fresh[:cap(d.fresh)])
	d.names, d.fresh = d.names[:0], d.fresh[:0]
	dictionaries.Put(d)
}

// collect adds the names of a list. Lists mostly hold the same types in the same order, so the
// place after the one found before is tried first.
func (d *dictionary) collect(types []toll.TypeCount) {
	at := 0
	for i := range types {
		name := types[i].Type
		if at < len(d.names) && d.names[at] == name {
			at++
			continue
		}
		j, found := slices.BinarySearch(d.names, name)
		if found {
			at = j + 1
			continue
		}
		// Names are sorted in again each time that the unsorted ones outnumber them, so many types don't
		// take quadratic time.
		if d.fresh = append(d.fresh, name); len(d.fresh) > len(d.names) {
			d.fold()
			at = 0
		}
	}
}

// fold sorts what was collected into names.
func (d *dictionary) fold() {
	if len(d.fresh) == 0 {
		return
	}
	d.names = append(d.names, d.fresh...)
	d.fresh = d.fresh[:0]
	slices.Sort(d.names)
	d.names = slices.Compact(d.names)
}

// append ends the collecting and writes the names.
func (d *dictionary) append(dst []byte) []byte {
	d.fold()
	dst = binary.AppendUvarint(dst, uint64(len(d.names)))
	for _, name := range d.names {
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
	}
	return dst
}

// appendCounts writes a list of counts, whose names were collected.
func (d *dictionary) appendCounts(dst []byte, types []toll.TypeCount) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(types)))
	next := 0
	for i := range types {
		at := d.find(types[i].Type, next)
		dst = appendGap(dst, int64(at), int64(next))
		dst = binary.AppendUvarint(dst, uint64(types[i].Count))
		next = at + 1
	}
	return dst
}

// find returns the place of a name that was collected; next is where it is looked for first.
func (d *dictionary) find(name string, next int) int {
	if next < len(d.names) && d.names[next] == name {
		return next
	}
	at, _ := slices.BinarySearch(d.names, name)
	return at
}

// countBytes is the least that an entry of a list takes, nameBytes that of a name.
const countBytes, nameBytes = 2, 2

// typeReader undoes dictionary. Lists share their memory, which is taken in large pieces, and can
// be grown one by one all the same.
type typeReader struct {
	names  []string
	used   []bool
	unseen int // names without a count so far
	room   []toll.TypeCount
}

func (r *reader) dictionary() typeReader {
	n := r.count(nameBytes)
	if n == 0 {
		return typeReader{}
	}
	// One string holds all names, lengths in between and all.
	start := r.at
	for range n {
		size := r.count(1)
		if size == 0 {
			r.fail("an empty vehicle type")
			return typeReader{}
		}
		r.at += size
	}
	all := string(r.b[start:r.at])
	t := typeReader{names: make([]string, n), used: make([]bool, n), unseen: n}
	again := reader{kind: r.kind, b: r.b, at: start}
	for i := range t.names {
		size := again.count(1)
		at := again.at - start
		t.names[i] = all[at : at+size]
		again.at += size
		if i > 0 && t.names[i-1] >= t.names[i] {
			r.fail("vehicle types do not ascend")
			return typeReader{}
		}
	}
	return t
}

// take returns room for a list of n counts. more is how many lists of about that length follow, to
// make room for.
func (t *typeReader) take(r *reader, n, more, size int) []toll.TypeCount {
	if len(t.room) < n {
		most := max(r.left()/size, n)
		t.room = make([]toll.TypeCount, min(n*min(more+1, most), most))
	}
	list := t.room[:n:n]
	t.room = t.room[n:]
	return list
}

func (t *typeReader) use(at uint64) string {
	if !t.used[at] {
		t.used[at] = true
		t.unseen--
	}
	return t.names[at]
}

// skipDictionary takes the place of dictionary where no names are needed: then a nil typeReader
// skips the lists.
func (r *reader) skipDictionary() {
	for range r.count(nameBytes) {
		r.at += r.count(1)
	}
}

// counts reads a list. A nil reader skips it, and adds its counts to skipped.
func (t *typeReader) counts(r *reader, more int) []toll.TypeCount {
	n := r.count(countBytes)
	if t == nil {
		for range n {
			r.uvarint()
			r.skipped += int64(r.uvarint())
		}
		return nil
	}
	if n == 0 {
		return nil
	}
	if n > len(t.names) {
		r.fail("more counts than vehicle types")
		return nil
	}
	list := t.take(r, n, more, countBytes)
	next := uint64(0)
	for i := range list {
		skip := r.uvarint()
		if skip >= uint64(len(t.names))-next {
			r.fail("a vehicle type that is not there")
			return nil
		}
		at := next + skip
		next = at + 1
		list[i] = toll.TypeCount{Type: t.use(at), Count: int64(r.uvarint())}
	}
	return list
}

// masked reads the counts of the types whose bits are set.
func (t *typeReader) masked(r *reader, mask uint64, more int) []toll.TypeCount {
	n := bits.OnesCount64(mask)
	if n == 0 {
		return nil
	}
	if n > r.left() {
		r.fail("it ends too early")
		return nil
	}
	list := t.take(r, n, more, 1)
	for i := range list {
		at := bits.TrailingZeros64(mask)
		mask &^= 1 << at
		list[i] = toll.TypeCount{Type: t.use(uint64(at)), Count: int64(r.uvarint())}
	}
	return list
}

// close fails unless every name was used.
func (t *typeReader) close(r *reader) {
	if r.err == nil && t.unseen > 0 {
		r.fail("%d vehicle types without a count", t.unseen)
	}
}
