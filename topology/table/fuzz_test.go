package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/opt"
	leveldbstorage "github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/table"

	"github.com/tollstream/tollstream/internal/corpus"
)

// FuzzLocalTable: a table of a local copy is called damaged, or LevelDB reads it, in memory by its
// size.
func FuzzLocalTable(f *testing.F) {
	corpus.Add(f)
	for _, entries := range []int{0, 1, 300} {
		var b bytes.Buffer
		w := table.NewWriter(&b, &opt.Options{BlockSize: 512})
		for i := range entries {
			if err := w.Append(fmt.Appendf(nil, "key %06d", i),
				bytes.Repeat([]byte{byte(i)}, i%50)); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		terabytes := bytes.Clone(b.Bytes())
		copy(terabytes[len(terabytes)-tableFooterBytes:], binary.AppendUvarint([]byte{1}, 1<<42))
		f.Add(terabytes)
	}
	fd := leveldbstorage.FileDesc{Type: leveldbstorage.TypeTable, Num: 1}
	f.Fuzz(func(t *testing.T, file []byte) {
		read := 0
		n := allocated(func() {
			r := bytes.NewReader(file)
			if err := checkTable(r, int64(len(file)), fd); err != nil {
				return
			}
			reader, err := table.NewReader(r, int64(len(file)), fd, nil, nil, storeOptions())
			if err != nil {
				return
			}
			defer reader.Release()
			it := reader.NewIterator(nil, nil)
			defer it.Release()
			for it.Next() {
				read += len(it.Key()) + len(it.Value())
			}
		})
		if most := uint64(1000*len(file) + 1<<20); n > most {
			t.Fatalf("%d bytes allocated for a table of %d", n, len(file))
		}
	})
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
