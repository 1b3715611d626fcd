package db

import (
	"context"
	dbsql "database/sql"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// TiDB speaks MySQL's protocol and is another server behind it. What of ours it does not know, and
// what keeps the same promise there:
//
//   - START TRANSACTION … READ ONLY: see [DB.Snapshot].
//   - LOCK IN SHARE MODE: see [DB.ShareLock].
//   - A transaction's snapshot is of when it began, not of its first read: see [DB.BeginLocking].
//   - Scans come in no order: the rows that a prune counts are named by their hidden id.
//   - A row has a largest size of its own: see [DB.MaxPacket].
//
// Before 7.6, LOAD DATA commits the transaction that it is in.
const oldestTiDB = "7.6"

// tidbVersion reads TiDB's own version from what VERSION() says: 8.0.11-TiDB-v7.5.2.
func tidbVersion(version string) (own string, is bool) {
	_, own, is = strings.Cut(version, "-TiDB-")
	return strings.TrimPrefix(own, "v"), is
}

// refuseOldTiDB returns a [toll.PermanentError] for a TiDB whose LOAD DATA commits. One whose
// version is no number, as a managed one's, is taken for a new one.
func refuseOldTiDB(version string) error {
	own, is := tidbVersion(version)
	if !is {
		return nil
	}
	parts := strings.SplitN(own, ".", 3)
	if len(parts) < 2 {
		return nil
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil || major > 7 || major == 7 && minor >= 6 {
		return nil
	}
	return toll.Permanent("upgrade TiDB to "+oldestTiDB+" or newer; 8.5 is tested",
		"TiDB %s commits in the middle of a transaction that loads rows, and tollstream needs %s",
		own, oldestTiDB)
}

// CheckVersion returns a [toll.PermanentError] where the server is too old.
func (d *DB) CheckVersion(ctx context.Context) error {
	var version string
	if err := d.QueryRowContext(ctx, `SELECT VERSION()`).Scan(&version); err != nil {
		return d.Wrap("read the server's version", err)
	}
	return refuseOldTiDB(version)
}

// TiDB reports whether the server is TiDB.
func (d *DB) TiDB(ctx context.Context) bool { return d.kind(ctx) == engineTiDB }

// KnownTiDB is TiDB for where nothing can be asked, as KnownEmbedded is.
func (d *DB) KnownTiDB() bool { return engineKind(d.engine.Load()) == engineTiDB }

// ShareLock ends a query that locks a row against changes. TiDB has no lock that is shared: there
// its readers also wait for each other, until the end of their transactions
// (docs.pingcap.com/tidb/stable/pessimistic-transaction).
func (d *DB) ShareLock(ctx context.Context) string {
	if d.TiDB(ctx) {
		return "FOR UPDATE"
	}
	return "LOCK IN SHARE MODE"
}

// BeginLocking begins a transaction that locks rows first, and then reads what the lock protects.
//
// Its reads must be of the time after the lock. With REPEATABLE READ that is so on MySQL, which
// takes the snapshot at the first plain read, and not on TiDB, where it is of the beginning
// (docs.pingcap.com/tidb/stable/sql-statement-start-transaction): it would miss what the holder of
// the lock before us committed. With READ COMMITTED each statement sees what is committed when it
// begins, on all servers, and no gaps between rows are locked.
func (d *DB) BeginLocking(ctx context.Context) (*dbsql.Tx, error) {
	return d.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelReadCommitted})
}
