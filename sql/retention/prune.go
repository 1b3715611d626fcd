package retention

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// PruneOptions sets which rows of livetolldata are deleted.
type PruneOptions struct {
	// Before is the wall clock, in the database's timezone: rows with an earlier timestamp are
	// deleted.
	Before toll.WallTime
	// BatchRows is how many rows one transaction deletes at most.
	BatchRows int
	// Progress receives after each transaction how many rows are deleted so far. May be nil.
	Progress func(rows int64)
}

// DefaultPruneRows is how many rows a transaction of a prune deletes: little enough that whoever
// waits for it hardly notices.
const DefaultPruneRows = 10_000

// PruneCount returns how many rows a prune would delete now, and how many there are.
func (c *Cleaner) PruneCount(ctx context.Context, before toll.WallTime) (old, all int64,
	err error) {
	err = c.db.QueryRowContext(ctx,
		`SELECT CAST(COALESCE(SUM(CASE WHEN timestamp < ? THEN 1 ELSE 0 END), 0) AS SIGNED),
			COUNT(*) FROM `+tables.EventTable,
		before.String()).Scan(&old, &all)
	return old, all, c.db.Wrap("count the rows", err)
}

// Prune deletes old rows of livetolldata, in batches, and returns how many it deleted. What
// each transaction deletes it adds to toll_pruned, count and checksum, so a verification is exact
// at every moment in between, and a row that someone else deletes is missed as before. Rows without
// a timestamp stay. Processes may run meanwhile; what they store of an older time stays until the
// next prune. Whatever interrupts a prune, running it again goes on with it.
//
// livetolldata has no key and need not have an index, so each transaction deletes the first old
// rows that a scan comes upon. Rows are stored about in the order of their time, so the scans are
// short, and what was deleted is not scanned again.
func (c *Cleaner) Prune(ctx context.Context, o PruneOptions) (int64, error) {
	if o.BatchRows <= 0 {
		o.BatchRows = DefaultPruneRows
	}
	m, err := tables.LoadMeta(ctx, c.db)
	if err != nil {
		return 0, err
	}
	if err := m.CheckVersion(c.db); err != nil {
		return 0, err
	}
	loc, err := m.Location()
	if err != nil {
		return 0, err
	}
	prune, err := c.pruner(ctx)
	if err != nil {
		return 0, c.db.Wrap("read the server's version", err)
	}
	var total int64
	for conflicts := 0; ; {
		began := time.Now()
		n, err := c.pruneSome(ctx, prune, toll.NewZone(loc), o)
		if db.Conflict(err) && conflicts < maxPruneConflicts {
			conflicts++ // processes go first
		} else if err != nil {
			return total, c.db.Wrap("prune "+tables.EventTable, err)
		} else {
			conflicts = 0
		}
		total += n
		if o.Progress != nil {
			o.Progress(total)
		}
		if err == nil && n < int64(o.BatchRows) {
			return total, nil
		}
		if err := db.Rest(ctx, time.Since(began)/4); err != nil {
			return total, err
		}
	}
}

// maxPruneConflicts is how often in a row a transaction of a prune may fail since others are in the
// way.
const maxPruneConflicts = 20

// pruneSome deletes some rows in one transaction.
func (c *Cleaner) pruneSome(ctx context.Context, prune pruner, zone *toll.Zone,
	o PruneOptions) (int64, error) {
	tx, err := c.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: prune.isolation})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	deleted, err := prune.delete(ctx, tx, o.Before.String(), o.BatchRows)
	if err != nil || deleted.n == 0 {
		return 0, err
	}
	// whoever locks several rows locks them in this order
	for _, plaza := range slices.Sorted(maps.Keys(deleted.plazas)) {
		if err := tables.AddPruned(ctx, tx, tables.PrunedRows, plaza, deleted.plazas[plaza]); err != nil {
			return 0, fmt.Errorf("count what is pruned: %w", err)
		}
	}
	latest, err := db.ParseTime(deleted.latest)
	if err != nil {
		return 0, fmt.Errorf("read the time of a row that is pruned: %w", err)
	}
	if err := tables.AddRetired(ctx, tx, tables.RetiredRows,
		zone.Minute(toll.WallTimeOf(latest))); err != nil {
		return 0, fmt.Errorf("record what is pruned: %w", err)
	}
	return deleted.n, tx.Commit()
}

// prunedBatch is what one transaction of a prune deletes.
type prunedBatch struct {
	n      int64
	plazas map[int]tables.RowCount
	latest string // the latest timestamp among the rows
}

// pruner is a way to delete some old rows and to learn which they were.
type pruner struct {
	isolation dbsql.IsolationLevel
	delete    func(ctx context.Context, tx *dbsql.Tx, before string, limit int) (prunedBatch, error)
}

// pruner returns the way that the server knows.
func (c *Cleaner) pruner(ctx context.Context) (pruner, error) {
	embedded := c.db.Embedded(ctx)
	var version string
	if err := c.db.QueryRowContext(ctx, `SELECT VERSION()`).Scan(&version); err != nil {
		return pruner{}, err
	}
	if strings.Contains(version, "MariaDB") {
		return pruner{dbsql.LevelReadCommitted, deleteReturning}, nil
	}
	if c.db.TiDB(ctx) {
		return pruner{dbsql.LevelReadCommitted, deleteByID}, nil
	}
	return pruner{dbsql.LevelRepeatableRead,
		func(ctx context.Context, tx *dbsql.Tx, before string, limit int) (prunedBatch, error) {
			return deleteLocked(ctx, tx, before, limit, embedded)
		}}, nil
}

// prunedColumns are a row's plaza, the checksum of its text, and its time.
var prunedColumns = fmt.Sprintf("COALESCE(toll_plaza_id, %d), CRC32(%s), timestamp",
	tables.NullPlaza,
	tables.RowText)

// deleteReturning deletes rows by a statement that says which.
func deleteReturning(ctx context.Context, tx *dbsql.Tx, before string, limit int) (prunedBatch,
	error) {
	rows, err := tx.QueryContext(ctx,
		`DELETE FROM `+tables.EventTable+` WHERE timestamp < ? LIMIT ? RETURNING `+
			prunedColumns, before, limit)
	if err != nil {
		return prunedBatch{}, err
	}
	return sumRows(rows, nil)
}

// deleteByID reads and locks old rows, and deletes them by the id that TiDB hides. There a scan
// with a limit comes to other rows each time, and locks nothing between them.
func deleteByID(ctx context.Context, tx *dbsql.Tx, before string, limit int) (prunedBatch, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+prunedColumns+`, _tidb_rowid FROM `+
		tables.EventTable+` WHERE timestamp < ? LIMIT ? FOR UPDATE`, before, limit)
	if db.Number(err) == db.ErrUnknownColumn {
		return prunedBatch{}, toll.Permanent(
			"make its primary key NONCLUSTERED, or delete the rows yourself while all processes are down",
			"%s has a clustered primary key, so its rows have no _tidb_rowid: %w", tables.EventTable, err)
	}
	if err != nil {
		return prunedBatch{}, err
	}
	var ids []any
	old, err := sumRows(rows, &ids)
	if err != nil || old.n == 0 {
		return prunedBatch{}, err
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM `+tables.EventTable+` WHERE _tidb_rowid IN (`+
		db.Placeholders(len(ids))+`)`, ids...)
	if err != nil {
		return prunedBatch{}, err
	}
	return old, checkDeleted(res, old.n)
}

// checkDeleted returns an error where other rows were deleted than were read.
func checkDeleted(res dbsql.Result, read int64) error {
	deleted, err := res.RowsAffected()
	if err == nil && deleted != read {
		err = fmt.Errorf("%s deleted, not the %s that were read", text.Count(deleted, "row"),
			text.Number(read))
	}
	return err
}

// deleteLocked reads the first old rows, and locks all that it passes, and what lies between, until
// the transaction ends. Then it deletes as many: the same ones, as both scan the table in the order
// of its rows, neither by way of an index.
func deleteLocked(ctx context.Context, tx *dbsql.Tx, before string, limit int,
	embedded bool) (prunedBatch, error) {
	hint := " USE INDEX ()"
	if embedded {
		hint = "" // it has no index there, and does not know the words
	}
	const which = ` WHERE timestamp + INTERVAL 0 SECOND < ? LIMIT ?` // no index finds that
	rows, err := tx.QueryContext(ctx, `SELECT `+prunedColumns+` FROM `+tables.EventTable+hint+which+
		` FOR UPDATE`, before, limit)
	if err != nil {
		return prunedBatch{}, err
	}
	old, err := sumRows(rows, nil)
	if err != nil || old.n == 0 {
		return prunedBatch{}, err
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM `+tables.EventTable+which, before, old.n)
	if err != nil {
		return prunedBatch{}, err
	}
	return old, checkDeleted(res, old.n)
}

// sumRows adds rows of prunedColumns up. Each may have an id as well, which it adds to ids.
func sumRows(rows *dbsql.Rows, ids *[]any) (prunedBatch, error) {
	defer rows.Close()
	b := prunedBatch{plazas: map[int]tables.RowCount{}}
	for rows.Next() {
		var plaza int
		var checksum uint64
		var at dbsql.RawBytes
		var id int64
		columns := []any{&plaza, &checksum, &at}
		if ids != nil {
			columns = append(columns, &id)
		}
		if err := rows.Scan(columns...); err != nil {
			return b, err
		}
		if ids != nil {
			*ids = append(*ids, id)
		}
		count := b.plazas[plaza]
		count.Rows++
		count.Checksum += checksum
		b.plazas[plaza] = count
		b.n++
		if string(at) > b.latest { // 2022-02-10 10:23:02: the order of text is that of time
			b.latest = string(at)
		}
	}
	return b, rows.Err()
}
