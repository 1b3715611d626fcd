package ingest

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io"
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
		return rowsError{err}
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
		return from, rowsError{err}
	}
	if got, err := res.RowsAffected(); err != nil {
		return from, err
	} else if got != int64(n) {
		return from, fmt.Errorf("INSERT stored %d of %d rows", got, n)
	}
	return from, nil
}
