package ingest

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// writeRowsError is an error of a statement that writes rows of livetolldata.
type writeRowsError struct{ error }

func (e writeRowsError) Unwrap() error { return e.error }

// mayBeAboutRows reports whether MySQL did not take the rows of a commit as they are, for what may
// be in them.
func (w *Writer) mayBeAboutRows(ctx context.Context, err error) bool {
	if errors.Is(err, errLoadInexact) {
		return true
	}
	_, load := errors.AsType[writeRowsError](err)
	return load && w.rowError(ctx, err) != nil && !toll.IsPermanent(w.db.Explain(err))
}

// rowError returns the server's error where it may be about the rows that were written, and nil
// where it can't be.
func (w *Writer) rowError(ctx context.Context, err error) *mysql.MySQLError {
	my, answered := errors.AsType[*mysql.MySQLError](err)
	if !answered || neverAboutRows(my) && !(my.Number == db.ErrUnknown && w.db.Embedded(ctx)) {
		return nil
	}
	return my
}

// neverAboutRows reports whether a server's error is about the server, the connection, another
// transaction, limits of the user or an altered table, and so not about a row. Some of these pass,
// and others are permanent, which Explain decides. Where in doubt it is false: then the row is
// tried alone, see [Writer.findRejected].
func neverAboutRows(my *mysql.MySQLError) bool {
	if n := my.Number; n >= 1000 && n < 1044 && n != errDuplicateWrite || n >= 8000 && n < 9100 {
		return true // files, disks, memory, connections; of TiDB its transactions and its storage
	}
	if slices.Contains(neverRowErrors, my.Number) {
		return true
	}
	switch string(my.SQLState[:2]) {
	case "08", "40", "57", "70": // connection, rollback, shutdown, interrupted
		return true
	}
	return false
}

// neverRowErrors are those that [neverAboutRows] does not know by their range or SQLSTATE.
var neverRowErrors = []uint16{
	1047,                   // a Galera node that is not ready
	1053, 1077, 1078, 1079, // shutdown
	db.ErrUnknown,          // proxies and others report outages and policies as this
	1114,                   // table full, or disk
	1129, 1130, 1152, 1184, // connections
	db.ErrPacketTooLarge, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, // packets and network
	db.ErrAtCommit, 1181, 1182, 1196, 1197, 1534, // commit, rollback, binary log, redo log
	1194, 1195, 1712, 1812, 1813, 1814, 1815, 1877, // damaged or missing files of a table or partition
	1203, 1226, // limits of a user
	db.ErrLockWait, db.ErrDeadlock, 1206, 1207, 1637, 3572, 3058, // locks, too many transactions
	1223, 1290, 1792, 1836, 1874, // read-only
	1317, 1907, 1927, 1969, 3024, 3169, 4031, // killed, timed out
	1412, 1615, 1020, // the table was altered meanwhile
	1436, 1135, // stack, threads
	1598, db.ErrBinlogFormat, 1785, 1786, db.ErrNoKey, 3100, db.ErrCertification, // replication
	3032, // offline mode
}

// errDuplicateWrite is as ErrDuplicateKey, where the server does not know which key.
const errDuplicateWrite = 1022

// findRejected finds out why MySQL does not take the rows of a batch as they are. It returns
//
//   - a [toll.PermanentError] where the table was altered, or where MySQL rejects rows that are
//     known to be sound as well;
//   - a [toll.RejectedError] that names the rows that are at fault themselves;
//   - nil where MySQL takes every row: then only the way in which they were written was at fault;
//   - any other error where it is not known yet.
//
// Nothing of what it tries stays. It holds the cursor's lock meanwhile, as a commit does: rows that
// another owner stores could make ours duplicates of their own.
func (w *Writer) findRejected(ctx context.Context, b *toll.Batch) error {
	r := b.Rows.(*rows)
	// The rows are written in order, so that one is rejected given those before it. Two equal events
	// under a unique key are one row and one dead letter.
	var bad []toll.RejectedRow
	err := w.attempt(ctx, b, func(t *trial) error {
		for from := 0; from < r.Len(); {
			to, err := t.insert(from, nil)
			if err != nil {
				if to, err = t.halve(from, to, err, &bad); err != nil {
					return err
				}
			}
			from = to
		}
		return nil
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	// Again, in a fresh transaction: MySQL must take all the others, and then reject each of these.
	return w.attempt(ctx, b, func(t *trial) error {
		skip := make(map[int]bool, len(bad))
		for _, row := range bad {
			skip[row.Row] = true
		}
		for from := 0; from < r.Len(); {
			to, err := t.insert(from, skip)
			if err != nil {
				return fmt.Errorf("MySQL refuses rows that it took a moment before: %w", err)
			}
			from = to
		}
		for i := range bad {
			row := bad[i].Row
			if _, err := w.insertSome(ctx, t.tx, r, row, row+1, nil, t.most); err == nil {
				return fmt.Errorf("MySQL takes a row that it refused a moment before: %s", bad[i].Reason)
			} else if w.rowError(ctx, err) == nil {
				return err
			}
		}
		if len(bad) == r.Len() { // else the others have shown that the table takes rows
			if err := t.probe(); err != nil {
				return err
			}
		}
		return &toll.RejectedError{Rows: bad}
	})
}

// trial is a transaction in which rows are written to see whether MySQL takes them. It is rolled
// back.
type trial struct {
	w   *Writer
	ctx context.Context
	tx  *dbsql.Tx
	r   *rows

	stored []byte // text of a row of the table, nil for none
	most   int    // bytes of a statement
}

// attempt calls try with a transaction that stands where the rows of a commit are written: the
// cursor is moved, and the tables are as they should be and can't be altered until it ends.
func (w *Writer) attempt(ctx context.Context, b *toll.Batch, try func(*trial) error) error {
	embedded := w.db.Embedded(ctx)
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	// Some errors make a server roll back the whole transaction. Without autocommit what follows is in
	// a transaction again, instead of staying. The connection is not used again.
	defer conn.Raw(func(any) error { return driver.ErrBadConn })
	if !embedded {
		if _, err := conn.ExecContext(ctx, `SET autocommit = 0`); err != nil {
			return err
		}
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := w.moveCursor(ctx, tx, b); err != nil {
		return err
	}
	t := &trial{w: w, ctx: ctx, tx: tx, r: b.Rows.(*rows)}
	// which keeps everybody from altering the table until the end
	if t.stored, err = t.storedRow(); err != nil {
		return err
	}
	if err := w.checkTables(ctx, tx); err != nil {
		return err
	}
	if t.most, err = w.insertLimit(ctx, tx); err != nil {
		return err
	}
	return try(t)
}

// insert writes the rows from one on that fit a statement, without those to skip, and returns where
// it stopped.
func (t *trial) insert(from int, skip map[int]bool) (to int, err error) {
	return t.w.insertSome(t.ctx, t.tx, t.r, from, t.r.Len(), skip, t.most)
}

// halve finds the rows of [from, to) that are rejected, given that a statement with all of them
// failed. It adds them to bad, leaves the others written and returns to.
func (t *trial) halve(from, to int, cause error, bad *[]toll.RejectedRow) (int, error) {
	my := t.w.rowError(t.ctx, cause)
	if my == nil {
		return 0, cause
	}
	if to-from == 1 {
		*bad = append(*bad, toll.RejectedRow{Row: from, Rejection: toll.Rejection{
			Kind: toll.RejectRefused, Reason: my.Message, SQLState: sqlState(my), Number: my.Number}})
		return to, nil
	}
	middle := from + (to-from)/2
	for _, half := range [...][2]int{{from, middle}, {middle, to}} {
		if _, err := t.w.insertSome(t.ctx, t.tx, t.r, half[0], half[1], nil, t.most); err != nil {
			if _, err := t.halve(half[0], half[1], err, bad); err != nil {
				return 0, err
			}
		}
	}
	return to, nil
}

// probe checks that the table takes rows at all, where MySQL rejected every row of a batch. Which
// rows are sound is the operator's to decide, by partitions, keys, constraints and triggers. So it
// tries what was stored before, as it was and as another vehicle, the first rows of the batch as
// other vehicles, and a vehicle that passes now. One that is taken is enough.
func (t *trial) probe() error {
	vehicle := int32(tables.NewToken() & math.MaxInt32) // random
	var tuples [][]byte
	add := func(line []byte) {
		one := rows{buf: append(line, '\n'), ends: []uint32{uint32(len(line) + 1)}}
		tuples = append(tuples, one.appendTuple(nil, 0))
	}
	other := func(line []byte, typ string) {
		at, rest, _ := bytes.Cut(line, []byte{','})
		_, rest, _ = bytes.Cut(rest, []byte{','})
		plaza := rest[bytes.LastIndexByte(rest, ',')+1:]
		if typ == "" {
			typ = string(rest[:len(rest)-len(plaza)-1])
		}
		add(fmt.Appendf(nil, "%s,%d,%s,%s", at, vehicle, typ, plaza))
	}
	if last := t.w.lastRow.Load(); last != nil {
		add(bytes.Clone(*last))
		other(*last, "")
	}
	if t.stored != nil {
		add(bytes.Clone(t.stored))
		other(t.stored, "")
	}
	for row := range min(t.r.Len(), 10) {
		other(t.r.line(row), "car")
	}
	zone, err := t.w.databaseZone(t.ctx, t.tx)
	if err != nil {
		return err
	}
	plaza := t.r.line(0)[bytes.LastIndexByte(t.r.line(0), ',')+1:]
	add(fmt.Appendf(nil, "%s,%d,car,%s", time.Now().In(zone.Location()).Format(time.DateTime), vehicle,
		plaza))

	for _, tuple := range tuples {
		_, err = t.tx.ExecContext(t.ctx, insertHead+string(tuple))
		if err == nil {
			return nil
		}
		if t.w.rowError(t.ctx, err) == nil {
			return err
		}
	}
	return toll.Permanent(
		"see what was changed at livetolldata: a trigger, a constraint, a key or its partitions",
		"MySQL at %s refuses every row, also one that it took before: %w", t.w.db.Address, err)
}

// storedRow returns the text of a row of livetolldata, nil where there is none.
func (t *trial) storedRow() ([]byte, error) {
	var at, typ string
	var vehicle, plaza int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT CAST(timestamp AS CHAR), vehicle_id, vehicle_type,
		toll_plaza_id FROM livetolldata
		WHERE timestamp IS NOT NULL AND vehicle_id IS NOT NULL AND vehicle_type IS NOT NULL
		AND toll_plaza_id IS NOT NULL
		LIMIT 1`).Scan(&at, &vehicle, &typ, &plaza)
	switch {
	case errors.Is(err, dbsql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	at, _, _ = strings.Cut(at, ".")
	b := fmt.Appendf(nil, "%s,%d,", at, vehicle)
	return fmt.Appendf(appendEscaped(b, typ), ",%d", plaza), nil
}

// sqlState returns an error's SQLSTATE, HY000 where the server sent none.
func sqlState(my *mysql.MySQLError) string {
	if my.SQLState == ([5]byte{}) {
		return "HY000"
	}
	return string(my.SQLState[:])
}
