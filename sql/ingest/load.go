package ingest

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// LoadMode is a way to load rows.
type LoadMode uint8

// The ways to load rows.
const (
	LoadAuto   LoadMode = iota // LOAD DATA LOCAL where the server allows it, else INSERT
	LoadLocal                  // LOAD DATA LOCAL, from memory
	LoadInsert                 // multi-row INSERT
)

// LoadModes are all ways to load rows.
var LoadModes = []LoadMode{LoadAuto, LoadLocal, LoadInsert}

func (m LoadMode) String() string { return [...]string{"auto", "local", "insert"}[m] }

// ParseLoadMode reads auto, local or insert.
func ParseLoadMode(s string) (LoadMode, error) {
	switch s {
	case "", "auto":
		return LoadAuto, nil
	case "local":
		return LoadLocal, nil
	case "insert":
		return LoadInsert, nil
	}
	return 0, fmt.Errorf("load mode %q is none of auto, local, insert", s)
}

var (
	// errLoadRefused means that the server does not take LOAD DATA LOCAL.
	errLoadRefused = errors.New("the server refuses LOAD DATA LOCAL")
	// errLoadInexact means that LOAD DATA LOCAL clipped a value or skipped a row: LOCAL turns
	// strict-mode errors into warnings. The transaction must be rolled back.
	errLoadInexact = errors.New("LOAD DATA LOCAL did not take every row as it is")
)

// loader loads rows by LOAD DATA LOCAL from memory, where the server allows it.
type loader struct {
	mode  atomic.Int32 // a LoadMode; LoadAuto until the server was asked
	turns *turns
}

// useLocal reports whether to load by LOAD DATA LOCAL, asking the server the first time.
func (w *Writer) useLocal(ctx context.Context) bool {
	switch LoadMode(w.loader.mode.Load()) {
	case LoadLocal:
		return true
	case LoadInsert:
		return false
	}
	var allowed bool
	err := w.db.QueryRowContext(ctx, `SELECT @@local_infile`).Scan(&allowed)
	if err != nil && db.Number(err) != db.ErrUnknownVariable {
		return false // no answer: ask again next time
	}
	if err != nil || !allowed {
		w.loader.mode.Store(int32(LoadInsert))
		w.db.Logf("loading rows by INSERT: the server does not allow LOAD DATA LOCAL")
		return false
	}
	w.loader.mode.Store(int32(LoadLocal))
	return true
}

// LoadMode returns how rows are loaded: LoadAuto as long as the server was not asked.
func (w *Writer) LoadMode() LoadMode { return LoadMode(w.loader.mode.Load()) }

// fallBack goes over to INSERT after the server refused LOAD DATA LOCAL, unless that was asked for.
func (w *Writer) fallBack() error {
	if w.configured == LoadLocal {
		return toll.Permanent("SET GLOBAL local_infile = ON, or use --load auto",
			"load rows into MySQL at %s: %w", w.db.Address, errLoadRefused)
	}
	w.loader.mode.Store(int32(LoadInsert))
	w.db.Logf("loading rows by INSERT from now on: the server refuses LOAD DATA LOCAL")
	return nil
}

// readerID makes the names of readers unique in the driver's registry, which is global.
var readerID atomic.Uint64

// loadStatement returns the statement that loads rows, and readies what it reads them from until
// done is called. The turn notes when the server asks for them.
func (l *loader) loadStatement(r *rows, t *turn) (statement string, done func()) {
	name := fmt.Sprintf("tollstream-%d", readerID.Add(1))
	mysql.RegisterReaderHandler(name, func() io.Reader {
		t.asked()
		return bytes.NewReader(r.buf)
	})
	return `LOAD DATA LOCAL INFILE 'Reader::` + name + `' INTO TABLE livetolldata CHARACTER SET utf8mb4
		FIELDS TERMINATED BY ',' ENCLOSED BY '' ESCAPED BY '\\' LINES TERMINATED BY '\n'
		(timestamp, vehicle_id, vehicle_type, toll_plaza_id)`,
		func() { mysql.DeregisterReaderHandler(name) }
}

// load loads rows whose turn it is.
func (l *loader) load(ctx context.Context, tx *dbsql.Tx, r *rows, t *turn) error {
	statement, done := l.loadStatement(r, t)
	defer done()
	t.begin()
	res, err := tx.ExecContext(ctx, statement)
	switch db.Number(err) {
	case db.ErrLocalInfile, db.ErrLocalInfileMaria, db.ErrLocalInfileOld:
		return errLoadRefused
	}
	if err != nil {
		return writeRowsError{err}
	}
	t.loaded()
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	var warnings int
	if err := tx.QueryRowContext(ctx, `SELECT @@warning_count`).Scan(&warnings); err != nil {
		return err
	}
	if n != int64(r.Len()) || warnings != 0 {
		return errLoadInexact
	}
	return nil
}

// Limits of one INSERT statement.
const (
	insertRows  = 5000
	insertBytes = 1 << 20
)

const insertHead = "INSERT INTO livetolldata " +
	"(timestamp, vehicle_id, vehicle_type, toll_plaza_id) VALUES "

// insertLimit returns how many bytes an INSERT of rows may have.
func (w *Writer) insertLimit(ctx context.Context, q db.Queryer) (int, error) {
	packet, err := w.maxPacket(ctx, q)
	return min(insertBytes, packet-db.PacketReserve), err
}

// insert inserts all rows.
func (w *Writer) insert(ctx context.Context, tx *dbsql.Tx, r *rows) error {
	most, err := w.insertLimit(ctx, tx)
	for from := 0; from < r.Len() && err == nil; {
		from, err = w.insertSome(ctx, tx, r, from, r.Len(), nil, most)
	}
	return err
}

// insertSome inserts those of the rows [from, to) that fit a statement of that many bytes, without
// those to skip. It returns where it stopped, also with an error.
func (w *Writer) insertSome(
	ctx context.Context, tx *dbsql.Tx, r *rows, from, to int, skip map[int]bool, most int,
) (int, error) {
	statement := append(r.statement[:0], insertHead...)
	n := 0
	for ; from < to && n < insertRows && len(statement) < most-256; from++ {
		if skip[from] {
			continue
		}
		if n > 0 {
			statement = append(statement, ',')
		}
		statement = r.appendTuple(statement, from)
		n++
	}
	r.statement = statement
	if n == 0 {
		return from, nil
	}
	res, err := tx.ExecContext(ctx, string(statement))
	if err != nil {
		return from, writeRowsError{err}
	}
	if got, err := res.RowsAffected(); err != nil {
		return from, err
	} else if got != int64(n) {
		return from, fmt.Errorf("INSERT stored %d of %d rows", got, n)
	}
	return from, nil
}

// rows holds events as LOAD DATA reads them: one line a row, `2022-02-10
// 10:23:02,3728373,car,4856`, in which only the type can need escapes. Without them a line is the
// row's text, the one that checksums are made of.
type rows struct {
	buf  []byte
	ends []uint32 // where each line ends in buf, behind its newline

	day     int64 // the date in dayText, in days since 1970-01-01
	dayText [10]byte
	hasDay  bool
	scratch []byte

	statement []byte // the last INSERT of these rows, kept for its memory
}

func (r *rows) Len() int  { return len(r.ends) }
func (r *rows) Size() int { return len(r.buf) }
func (r *rows) Reset()    { r.buf, r.ends = r.buf[:0], r.ends[:0] }

// Append implements [toll.Rows].
func (r *rows) Append(e *toll.Event) uint32 {
	day, second := e.Time.Day()
	if !r.hasDay || day != r.day {
		copy(r.dayText[:], e.Time.AppendFormat(r.scratch[:0], "2006-01-02"))
		r.day, r.hasDay = day, true
	}
	b := r.buf
	start := len(b)
	b = append(b, r.dayText[:]...)
	hour, minute, sec := second/3600, second/60%60, second%60
	b = append(b, ' ', digits[hour/10], digits[hour%10], ':', digits[minute/10], digits[minute%10],
		':', digits[sec/10], digits[sec%10], ',')
	b = strconv.AppendUint(b, uint64(uint32(e.Vehicle)), 10)
	b = append(b, ',')
	typeAt := len(b)
	b = append(b, e.Type...)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(e.Plaza), 10)
	sum := crc32.ChecksumIEEE(b[start:])
	if special(e.Type) {
		tail := string(b[typeAt+len(e.Type):])
		b = append(appendEscaped(b[:typeAt], e.Type), tail...)
	}
	r.buf = append(b, '\n')
	r.ends = append(r.ends, uint32(len(r.buf)))
	return sum
}

const digits = "0123456789"

func special(t string) bool {
	for i := 0; i < len(t); i++ {
		switch t[i] {
		case ',', '\\', '\n', '\r', 0:
			return true
		}
	}
	return false
}

func appendEscaped(b []byte, t string) []byte {
	for i := 0; i < len(t); i++ {
		switch c := t[i]; c {
		case 0:
			b = append(b, '\\', '0')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case ',', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\n`, "\n", `\r`, "\r", `\0`, "\x00")

// line returns the i-th line without its newline.
func (r *rows) line(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.buf[start : r.ends[i]-1]
}

// appendTuple appends row i as a tuple of an INSERT, ('2022-02-10 10:23:02',3728373,'car',4856). A
// type that is not plain letters and digits is written as a hexadecimal literal, so no text of an
// event is ever read as SQL.
func (r *rows) appendTuple(b []byte, i int) []byte {
	line := r.line(i)
	const timeEnd = len("2006-01-02 15:04:05")
	vehicleEnd := timeEnd + 1
	for line[vehicleEnd] != ',' {
		vehicleEnd++
	}
	typeEnd := len(line) - 1
	for line[typeEnd] != ',' {
		typeEnd--
	}
	b = append(b, '(', '\'')
	b = append(b, line[:timeEnd]...)
	b = append(b, '\'')
	b = append(b, line[timeEnd:vehicleEnd+1]...)
	b = appendLiteral(b, line[vehicleEnd+1:typeEnd])
	b = append(b, line[typeEnd:]...)
	return append(b, ')')
}

func appendLiteral(b, escaped []byte) []byte {
	if !slices.ContainsFunc(escaped, func(c byte) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ' ' ||
			c == '-' || c == '_')
	}) {
		b = append(b, '\'')
		b = append(b, escaped...)
		return append(b, '\'')
	}
	b = append(b, "_utf8mb4 0x"...)
	return hex.AppendEncode(b, []byte(unescaper.Replace(string(escaped))))
}
