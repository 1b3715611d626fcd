package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/lovoo/goka/storage"
	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
	leveldbstorage "github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/tollstream/tollstream/topology/kafka"
)

// Stores opens the local copies of the group table, a LevelDB per partition. They are caches:
// a copy that can't be read is thrown away, and goka then reads the partition from Kafka.
type Stores struct {
	Dir     string
	Log     *slog.Logger
	Damaged *Damaged // outlives this run, which ends with the failure that it notes
}

// Damaged are the folders of copies that failed while they were used, to be thrown away at the
// next opening.
type Damaged struct {
	mu     sync.Mutex
	byPath map[string]error
}

// add notes the first failure of a copy.
func (d *Damaged) add(path string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byPath == nil {
		d.byPath = map[string]error{}
	}
	if d.byPath[path] == nil {
		d.byPath[path] = err
	}
}

// take returns the failure of a copy, nil for none, and forgets it.
func (d *Damaged) take(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.byPath[path]
	delete(d.byPath, path)
	return err
}

// storeBytes bounds each of the two buffers of a partition's local store. LevelDB's own defaults, 4
// and 8 MiB, are far more than the states of a partition's plazas, a few kilobytes each.
const storeBytes = 1 << 20

// storeOptions are strict: what LevelDB would pass over by itself, such as the damaged end of a
// journal, may be the newest state of a plaza, while the offset that was stored with it is kept.
func storeOptions() *opt.Options {
	return &opt.Options{WriteBuffer: storeBytes, BlockCacheCapacity: storeBytes, Strict: opt.StrictAll}
}

// Open is a [storage.Builder].
func (l *Stores) Open(topic string, partition int32) (storage.Storage, error) {
	path := filepath.Join(l.Dir, fmt.Sprintf("%s.%d", topic, partition))
	if damage := l.Damaged.take(path); damage != nil {
		if err := l.discard(path, partition, damage); err != nil {
			return nil, err
		}
	}
	db, files, err := openLevelDB(path)
	if err != nil && !isOutside(err) {
		if err := l.discard(path, partition, err); err != nil {
			return nil, err
		}
		db, files, err = openLevelDB(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the local copy of the group table: %w", err)
	}
	st, err := storage.New(db)
	if err != nil {
		return nil, errors.Join(err, db.Close(), files.Close())
	}
	s := &localStore{Storage: st, owner: l, path: path, files: files}
	s.offset, err = st.GetOffset(noOffset)
	s.stored = s.offset
	if err != nil { // which may be damaged too
		if isOutside(err) {
			return nil, errors.Join(fmt.Errorf("read the offset of the local copy of the group table: %w",
				err), db.Close(), files.Close())
		}
		_ = errors.Join(db.Close(), files.Close()) // which may find the same damage
		if err := l.discard(path, partition, err); err != nil {
			return nil, err
		}
		return l.Open(topic, partition)
	}
	return s, nil
}

// isOutside reports whether an error comes from around the store, such as a full disk, and says
// nothing of what it holds.
func isOutside(err error) bool {
	for _, cause := range []error{syscall.ENOSPC, syscall.EACCES, syscall.EPERM, syscall.EROFS,
		syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN} {
		// goka passes errors on as text
		if errors.Is(err, cause) || strings.Contains(err.Error(), cause.Error()) {
			return true
		}
	}
	return false
}

func (l *Stores) discard(path string, partition int32, cause error) error {
	l.Log.Warn("the local copy of the group table is damaged; it is rebuilt from Kafka", "partition",
		partition, "error", kafka.Brief(cause))
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove the local copy of the group table: %w", err)
	}
	return nil
}

// noOffset is the offset of a copy that has none: goka passes over offset 0, whose successor is the
// first to be stored.
const noOffset = 0

// localStore is the local copy of one partition. It does what goka's own does, and
//   - notes when it fails, so that the next one starts from Kafka,
//   - stores the offset of a write of ours only if it follows the one before. Where another process
//     has written in between (an owner that woke up late, or the one that took over from this one),
//     the copy lacks what that wrote: the offset then stays, and the next recovery reads from
//     there, and
//   - keeps writes of ours in memory, since the same plazas are read and written again and again,
//     and stores them after a while. The offset is stored after them: a crash costs a recovery from
//     an earlier one, as a lost copy does.
type localStore struct {
	storage.Storage
	owner *Stores
	path  string
	files io.Closer // of the LevelDB

	mu        sync.Mutex
	recovered bool
	offset    int64 // up to which the copy holds all that the changelog does
	stored    int64 // the offset that is stored
	kept      map[string]keptValue
	keptBytes int
}

// keptValue is the last value of a key.
type keptValue struct {
	value  []byte
	stored bool
}

// What a copy keeps in memory: bytes of values, and by how much the offset runs ahead of what is
// stored, which a recovery after a crash reads again.
const (
	maxKeptBytes  = 4 << 20
	maxKeptWrites = 4000
)

func (s *localStore) note(err error) error {
	if err != nil && !isOutside(err) && !strings.Contains(err.Error(), leveldb.ErrClosed.Error()) {
		s.owner.Damaged.add(s.path, err)
	}
	return err
}

// Has implements storage.Storage.
func (s *localStore) Has(key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.kept[key]; ok {
		return true, nil
	}
	has, err := s.Storage.Has(key)
	return has, s.note(err)
}

// Get implements storage.Storage.
func (s *localStore) Get(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.kept[key]; ok {
		return kept.value, nil
	}
	value, err := s.Storage.Get(key)
	return value, s.note(err)
}

// Set implements storage.Storage.
func (s *localStore) Set(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recovered || value == nil {
		return s.note(s.Storage.Set(key, value))
	}
	if s.kept == nil {
		s.kept = map[string]keptValue{}
	}
	s.keptBytes += len(value) - len(s.kept[key].value)
	s.kept[key] = keptValue{value: value}
	if s.keptBytes >= maxKeptBytes {
		return s.flush()
	}
	return nil
}

// flush stores what is kept in memory, and drops it where it takes too much.
func (s *localStore) flush() error {
	for key, kept := range s.kept {
		if kept.stored {
			continue
		}
		if err := s.Storage.Set(key, kept.value); err != nil {
			return s.note(err)
		}
		s.kept[key] = keptValue{kept.value, true}
	}
	if s.keptBytes >= maxKeptBytes {
		clear(s.kept)
		s.keptBytes = 0
	}
	if s.offset == s.stored {
		return nil
	}
	s.stored = s.offset
	return s.note(s.Storage.SetOffset(s.offset))
}

func (s *localStore) flushed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

// Iterator implements storage.Storage.
func (s *localStore) Iterator() (storage.Iterator, error) {
	if err := s.flushed(); err != nil {
		return nil, err
	}
	return s.Storage.Iterator()
}

// IteratorWithRange implements storage.Storage.
func (s *localStore) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	if err := s.flushed(); err != nil {
		return nil, err
	}
	return s.Storage.IteratorWithRange(start, limit)
}

// Close implements storage.Storage.
func (s *localStore) Close() error {
	return errors.Join(s.flushed(), s.Storage.Close(), s.files.Close())
}

// Delete implements storage.Storage.
func (s *localStore) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keptBytes -= len(s.kept[key].value)
	delete(s.kept, key)
	return s.note(s.Storage.Delete(key))
}

// GetOffset implements storage.Storage.
func (s *localStore) GetOffset(fallback int64) (int64, error) {
	if err := s.flushed(); err != nil {
		return 0, err
	}
	offset, err := s.Storage.GetOffset(fallback)
	return offset, s.note(err)
}

// MarkRecovered implements storage.Storage.
func (s *localStore) MarkRecovered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recovered = true
	return s.note(s.Storage.MarkRecovered())
}

// SetOffset implements storage.Storage. While goka recovers the copy, it reads every record; then
// the offsets are those of writes of ours, in order.
func (s *localStore) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovered && offset > s.offset+1 {
		return nil
	}
	s.offset = offset
	if s.recovered && offset-s.stored < maxKeptWrites {
		return nil
	}
	return s.flush()
}

// openLevelDB opens a LevelDB. The files are to be closed after it, which gives its lock back.
func openLevelDB(path string) (*leveldb.DB, io.Closer, error) {
	files, err := leveldbstorage.OpenFile(path, false)
	if err != nil {
		return nil, nil, err
	}
	db, err := leveldb.Open(checkedFiles{files}, storeOptions())
	if err != nil {
		// what it says is of no use: the folder is thrown away, or left to whoever uses it
		_ = files.Close()
		return nil, nil, err
	}
	return db, files, nil
}

// checkedFiles are the files of a LevelDB. LevelDB checks the checksum of all that it reads but a
// table's footer, which says where the table's last two blocks are and how long: it makes room for
// as many bytes as stand there, be it terabytes, and the process ends. So the footer is checked
// whenever a table is opened. Not sooner: tables that LevelDB does not open, such as one that a
// crash left half written, are none of a store's.
type checkedFiles struct {
	leveldbstorage.Storage
}

// Open implements storage.Storage of LevelDB.
func (f checkedFiles) Open(fd leveldbstorage.FileDesc) (leveldbstorage.Reader, error) {
	file, err := f.Storage.Open(fd)
	if err != nil || fd.Type != leveldbstorage.TypeTable {
		return file, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = checkTable(file, size, fd)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// The end of a table: … metaindex block, index block, footer. A block is followed by its kind and
// checksum. The footer holds where each of the two blocks begins and its length, as variable-length
// numbers, zeros, and the mark of a table.
const (
	tableFooterBytes  = 48
	tableMark         = 0xdb4775248b80fb57
	blockTrailerBytes = 5
	leastBlockBytes   = 8 // of a block without entries
)

// checkTable checks the footer of a table of size bytes. The blocks that it points to follow on
// each other and end where it begins, so a footer that passes is right, or the checksum of a block
// that it points to is wrong.
func checkTable(file io.ReaderAt, size int64, fd leveldbstorage.FileDesc) error {
	damaged := func(format string, args ...any) error {
		return leveldberrors.NewErrCorrupted(fd,
			fmt.Errorf("the table's footer is damaged: "+format, args...))
	}
	at := size - tableFooterBytes
	if at < 0 {
		return damaged("the file has %d bytes", size)
	}
	var footer [tableFooterBytes]byte
	if _, err := file.ReadAt(footer[:], at); err != nil {
		return fmt.Errorf("read the footer of %s: %w", fd, err)
	}
	if mark := binary.LittleEndian.Uint64(footer[tableFooterBytes-8:]); mark != tableMark {
		return damaged("the file ends with %#x", mark)
	}
	var handles [4]int64 // where the metaindex begins, its length; the same of the index
	rest := footer[:tableFooterBytes-8]
	for i := range handles {
		v, n := binary.Uvarint(rest)
		if n <= 0 || v > uint64(at) {
			return damaged("a block is said to be beyond the file's %d bytes", size)
		}
		if n > 1 && rest[n-1] == 0 {
			return damaged("a number in a longer form")
		}
		handles[i], rest = int64(v), rest[n:]
	}
	for _, b := range rest {
		if b != 0 {
			return damaged("no zeros before the mark")
		}
	}
	metaindex, index := handles[0], handles[2]
	if metaindexEnd, indexEnd := metaindex+handles[1]+blockTrailerBytes, index+handles[3]+
		blockTrailerBytes; min(handles[1], handles[3]) < leastBlockBytes ||
		metaindexEnd != index || indexEnd != at {
		return damaged(
			"the last blocks are said to be [%d, %d) and [%d, %d), and the footer begins at %d", metaindex,
			metaindexEnd, index, indexEnd, at)
	}
	return nil
}
