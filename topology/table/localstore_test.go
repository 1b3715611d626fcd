package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb/opt"
	leveldbstorage "github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/table"

	"github.com/tollstream/tollstream/internal/corpus"
)

const (
	writes = 2000
	keys   = 500 // so many that a gap in a journal is not covered by later writes of the same keys
)

// TestLocalStoreDamaged fills a local copy, damages each of its files in turn, and opens it again:
// it is either as it was, or an earlier state of it with the offset of then, or empty; never a
// mixture.
func TestLocalStoreDamaged(t *testing.T) {
	fill := func(t *testing.T, dir string) {
		t.Helper()
		stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Damaged: new(Damaged)}
		s, err := stores.Open("table", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.MarkRecovered(); err != nil {
			t.Fatal(err)
		}
		noise := make([]byte, 2000)
		rng := rand.New(rand.NewPCG(1, 2))
		for offset := int64(1); offset <= writes; offset++ {
			for i := range noise {
				noise[i] = byte(rng.Uint32())
			}
			// Before the offset, as goka does: a state may be newer than the offset, never older.
			if err := s.Set(fmt.Sprint(offset%keys), fmt.Appendf(nil, "%d %s", offset, noise)); err != nil {
				t.Fatal(err)
			}
			if err := s.SetOffset(offset); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	master := t.TempDir()
	fill(t, master)
	files, err := filepath.Glob(filepath.Join(master, "table.0", "*"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files of the store: %v, %v", files, err)
	}
	damages := map[string]func(path string, size int64) error{
		"noise in the middle": func(path string, size int64) error { return overwrite(path, size/2, 64) },
		"noise at the start":  func(path string, size int64) error { return overwrite(path, 0, 64) },
		// of a table: with the mark by which it is known
		"noise at the end": func(path string, size int64) error {
			return overwrite(path, max(0, size-64), 64)
		},
		// where a table says how long its blocks are
		"its end says terabytes": func(path string, size int64) error {
			return writeAt(path, max(0, size-tableFooterBytes), binary.AppendUvarint([]byte{1}, 1<<42))
		},
		"cut in half": func(path string, size int64) error { return os.Truncate(path, size/2) },
		"empty":       func(path string, size int64) error { return os.Truncate(path, 0) },
		"gone":        func(path string, size int64) error { return os.Remove(path) },
	}
	kept, lost := 0, 0
	for _, file := range files {
		for name, damage := range damages {
			if filepath.Ext(file) == ".log" && (name == "gone" || name == "empty") {
				// LevelDB misses no journal where there is a newer one; what that leaves behind, reconcile
				// mends
				continue
			}
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, "table.0", filepath.Base(file))
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path, info.Size()); err != nil {
					t.Fatal(err)
				}
				stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
					Damaged: new(Damaged)}
				var offset int64
				for range 3 { // a copy that fails while it is read is thrown away at the next opening
					if offset, err = readCopy(t, stores); err == nil {
						break
					}
				}
				if err != nil {
					t.Fatalf("the copy fails for good: %v", err)
				}
				if offset == writes {
					kept++
				} else {
					lost++
				}
			})
		}
	}
	if kept == 0 || lost == 0 {
		t.Errorf("%d copies were kept, %d were older or empty: the damages do not tell", kept, lost)
	}
}

// readCopy reads all of a copy, and fails the test where a value is older than the offset says.
func readCopy(t *testing.T, stores *Stores) (offset int64, err error) {
	t.Helper()
	s, err := stores.Open("table", 0)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if offset, err = s.GetOffset(noOffset); err != nil {
		return 0, err
	}
	for key := range int64(keys) {
		value, err := s.Get(fmt.Sprint(key))
		if err != nil {
			return 0, err
		}
		newest := offset - (offset-key+keys)%keys // the last write of the key up to the offset
		if newest <= 0 {
			continue
		}
		var written int64
		if _, err := fmt.Sscan(string(value[:min(len(value), 20)]), &written); err != nil ||
			written < newest {
			t.Fatalf("the copy says that it holds all up to offset %d, and key %d is of offset %d: %v",
				offset, key, written, err)
		}
	}
	return offset, nil
}

func overwrite(path string, at int64, n int) error {
	noise := make([]byte, n)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	return writeAt(path, at, noise)
}

func writeAt(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// TestLocalStoreFooters changes each byte of a table's footer, all else being right. The copy is
// rebuilt, and takes no more memory than a store has.
func TestLocalStoreFooters(t *testing.T) {
	dir := t.TempDir()
	stores := &Stores{Dir: dir, Log: slog.New(slog.DiscardHandler), Damaged: new(Damaged)}
	for range 2 { // the second opening writes what the journal holds to a table
		s, err := stores.Open("table", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.MarkRecovered(); err != nil {
			t.Fatal(err)
		}
		for key := range int64(keys) {
			if err := s.Set(fmt.Sprint(key), fmt.Append(nil, writes+key, " value")); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.SetOffset(1), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := filepath.Glob(filepath.Join(dir, "table.0", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables: %v, %v", tables, err)
	}
	table := tables[0]
	right, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	master := t.TempDir()
	if err := os.CopyFS(master, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for at := len(right) - tableFooterBytes; at < len(right); at++ {
		for _, flip := range []byte{1, 0x80, 0xff} {
			if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(master)),
				writeAt(table, int64(at), []byte{right[at] ^ flip})); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			offset, err := readCopy(t, stores)
			for n := 0; err != nil && n < 3; n++ { // thrown away at the next opening
				offset, err = readCopy(t, stores)
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 256<<20 {
				t.Fatalf("byte %d of the footer ^ %#x: %d bytes were allocated", at-len(right)+tableFooterBytes,
					flip, took)
			}
			if err != nil || offset != noOffset {
				t.Fatalf("byte %d of the footer ^ %#x: offset %d, %v", at-len(right)+tableFooterBytes, flip,
					offset, err)
			}
		}
	}
}

// TestLocalStoreHalfTable leaves a table behind that a crash left half written: it is none of the
// store's, which is kept.
func TestLocalStoreHalfTable(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Damaged: new(Damaged)}
	for round := range int64(3) {
		s, err := stores.Open("table", 0)
		if err != nil {
			t.Fatal(err)
		}
		if offset, err := s.GetOffset(noOffset); err != nil || offset != round {
			t.Fatalf("round %d: offset %d, %v\n%s", round, offset, err, &log)
		}
		if err := errors.Join(s.MarkRecovered(), s.Set("1", []byte("value")), s.SetOffset(round+1),
			s.Close()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "table.0", "009999.ldb"), []byte("half"),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("a store that was right is called damaged:\n%s", &log)
	}
}

// TestLocalStoreForeignWrite lets another process write between two writes of ours: what it wrote
// is not in the copy, so the next recovery has to read from there.
func TestLocalStoreForeignWrite(t *testing.T) {
	stores := &Stores{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Damaged: new(Damaged)}
	s, err := stores.Open("table", 3)
	if err != nil {
		t.Fatal(err)
	}
	set := func(offsets ...int64) {
		t.Helper()
		for _, o := range offsets {
			if err := s.SetOffset(o); err != nil {
				t.Fatal(err)
			}
		}
	}
	wants := func(want int64) {
		t.Helper()
		if got, err := s.GetOffset(-1); err != nil || got != want {
			t.Fatalf("offset %d, %v, want %d", got, err, want)
		}
	}
	set(0, 7, 8) // recovery, of a compacted topic
	if err := s.MarkRecovered(); err != nil {
		t.Fatal(err)
	}
	wants(8)
	set(9, 10)
	wants(10)
	set(12, 13) // 11 is another's
	wants(10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = stores.Open("table", 3); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wants(10)
	set(11, 12, 13)
	if err := s.MarkRecovered(); err != nil {
		t.Fatal(err)
	}
	set(14)
	wants(14)
}

// TestLocalStoreKeeps writes the same few plazas very often: what is read is what was written last,
// and a copy that was never closed has an offset that is no later than its values.
func TestLocalStoreKeeps(t *testing.T) {
	dir := t.TempDir()
	open := func(dir string) storage.Storage {
		t.Helper()
		stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Damaged: new(Damaged)}
		s, err := stores.Open("table", 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	value := func(s storage.Storage, key string) int64 {
		t.Helper()
		text, err := s.Get(key)
		has, hasErr := s.Has(key)
		if err != nil || hasErr != nil || has != (text != nil) {
			t.Fatal(text, err, has, hasErr)
		}
		n, _ := strconv.ParseInt(string(text), 10, 64)
		return n
	}
	s := open(dir)
	if err := s.MarkRecovered(); err != nil {
		t.Fatal(err)
	}
	last := map[string]int64{}
	write := func(offset int64) {
		t.Helper()
		key := fmt.Sprint(offset % 3)
		last[key] = offset
		if err := errors.Join(s.Set(key, fmt.Append(nil, offset)), s.SetOffset(offset)); err != nil {
			t.Fatal(err)
		}
		if got := value(s, key); got != offset {
			t.Fatalf("%s is %d, want %d", key, got, offset)
		}
	}
	iterate := func(s storage.Storage) {
		t.Helper()
		got := map[string]int64{}
		it, err := s.Iterator()
		if err != nil {
			t.Fatal(err)
		}
		defer it.Release()
		for it.Next() {
			text, err := it.Value()
			if err != nil {
				t.Fatal(err)
			}
			if len(it.Key()) == 1 { // a plaza's
				got[string(it.Key())], _ = strconv.ParseInt(string(text), 10, 64)
			}
		}
		if !maps.Equal(got, last) {
			t.Fatalf("got %v, want %v", got, last)
		}
	}
	for offset := int64(1); offset <= 2*maxKeptWrites+10; offset++ {
		write(offset)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c := open(crashed)
	defer c.Close()
	offset, err := c.GetOffset(noOffset)
	if err != nil || offset < maxKeptWrites || offset > 2*maxKeptWrites+10 {
		t.Fatal(offset, err)
	}
	for o := offset - 2; o <= offset; o++ {
		if got := value(c, fmt.Sprint(o%3)); got < o {
			t.Errorf("at offset %d the write at %d is missing: there is that at %d", offset, o, got)
		}
	}
	iterate(s)
	write(2*maxKeptWrites + 11)
	if err := s.Delete("1"); err != nil {
		t.Fatal(err)
	}
	delete(last, "1")
	if value(s, "1") != 0 {
		t.Error("it was not deleted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(dir)
	defer s.Close()
	iterate(s)
	if offset, err := s.GetOffset(noOffset); err != nil || offset != 2*maxKeptWrites+11 {
		t.Error(offset, err)
	}
}

// TestLocalStoreOutside leaves a copy alone when what fails is around it.
func TestLocalStoreOutside(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Damaged: new(Damaged)}
	s, err := stores.Open("table", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := stores.Open("table", 0); err == nil { // as it is in use
		t.Fatal("a copy was opened twice")
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "table.0")); err != nil || len(entries) == 0 ||
		log.Len() > 0 {
		t.Fatalf("the copy in use was removed: %v\n%s", err, &log)
	}
}

// TestLocalStoreDamagedInUse damages a copy that is in use: the run ends, and the next one makes
// the copy again.
func TestLocalStoreDamagedInUse(t *testing.T) {
	dir, damaged := t.TempDir(), new(Damaged)
	var log strings.Builder
	open := func() storage.Storage { // as each run does, with stores of its own
		t.Helper()
		stores := &Stores{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), Damaged: damaged}
		s, err := stores.Open("table", 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := errors.Join(s.MarkRecovered(), s.Set("1", []byte("value")), s.SetOffset(1), s.Close(),
		open().Close()); err != nil {
		t.Fatal(err) // the second opening writes what the journal holds to a table
	}
	tables, err := filepath.Glob(filepath.Join(dir, "table.0", "*.ldb"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("tables: %v, %v", tables, err)
	}
	s = open()
	if offset, err := s.GetOffset(noOffset); err != nil || offset != 1 {
		t.Fatalf("offset %d, %v", offset, err)
	}
	s.(*localStore).note(errors.New("a block's checksum is wrong"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	if offset, err := s.GetOffset(noOffset); err != nil || offset != noOffset ||
		strings.Count(log.String(), "is rebuilt") != 1 {
		t.Errorf("offset %d, %v\n%s", offset, err, &log)
	}
}

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
