package tables

import (
	"context"
	dbsql "database/sql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// What toll_pruned counts.
const (
	PrunedRows    = "rows"         // of livetolldata, by plaza
	PrunedLetters = "dead_letters" // by partition
)

// What toll_retired names: of a kind of windows, those that end at or before the minute were
// deleted for their age, if they were published; of rows, some of this minute or earlier ones were
// pruned.
const (
	RetiredRows    = "rows"
	RetiredWindows = "window " // and the kind
)

// ReadPruned returns what was pruned, by plaza or partition.
func ReadPruned(ctx context.Context, q db.Reader, what string) (map[int]RowCount, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, pruned, checksum FROM toll_pruned WHERE what = ?`,
		what)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	pruned := map[int]RowCount{}
	for rows.Next() {
		var id int
		c := RowCount{Exact: true}
		if err := rows.Scan(&id, &c.Rows, &c.Checksum); err != nil {
			return nil, err
		}
		pruned[id] = c
	}
	return pruned, rows.Err()
}

// AddPruned counts more as pruned. The caller deletes it in the same transaction.
func AddPruned(ctx context.Context, tx *dbsql.Tx, what string, id int, more RowCount) error {
	// The row is locked before it is read, whether it is there already or not. The sum is made here:
	// SQL refuses one that exceeds 2^64, which ours wraps around.
	if _, err := tx.ExecContext(ctx, `INSERT INTO toll_pruned (what, id, pruned, checksum)
		VALUES (?, ?, 0, 0)
		ON DUPLICATE KEY UPDATE pruned = pruned`, what, id); err != nil {
		return err
	}
	var had RowCount
	if err := tx.QueryRowContext(ctx,
		`SELECT pruned, checksum FROM toll_pruned WHERE what = ? AND id = ? FOR UPDATE`, what, id).
		Scan(&had.Rows, &had.Checksum); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx,
		`UPDATE toll_pruned SET pruned = ?, checksum = ? WHERE what = ? AND id = ?`,
		had.Rows+more.Rows, had.Checksum+more.Checksum, what, id)
	return err
}

// ReadRetired returns up to which minute what is old was deleted.
func ReadRetired(ctx context.Context, q db.Reader) (map[string]toll.Minute, error) {
	rows, err := q.QueryContext(ctx, `SELECT what, before_minute FROM toll_retired`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	retired := map[string]toll.Minute{}
	for rows.Next() {
		var what string
		var before toll.Minute
		if err := rows.Scan(&what, &before); err != nil {
			return nil, err
		}
		retired[what] = before
	}
	return retired, rows.Err()
}

// AddRetired records that what is old was deleted up to a minute. The caller deletes it in the same
// transaction.
func AddRetired(ctx context.Context, tx *dbsql.Tx, what string, before toll.Minute) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_retired (what, before_minute) VALUES (?, ?)
		ON DUPLICATE KEY UPDATE before_minute = GREATEST(before_minute, VALUES(before_minute))`, what,
		before)
	return err
}
