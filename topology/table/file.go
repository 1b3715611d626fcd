package table

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/syndtr/goleveldb/leveldb"
	leveldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	leveldbstorage "github.com/syndtr/goleveldb/leveldb/storage"
)

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
