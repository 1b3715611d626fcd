package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/skipped"
)

// migration brings the tables from the version before to version to. Each of its statements must be
// harmless when it is run again, or fail with one of the errors in alreadyDone: DDL can't be rolled
// back. So must fill, which follows them. New tables are not among the statements: Init creates
// what is missing.
type migration struct {
	to         int
	statements []string
	// fill returns what is to be said of it; empty for nothing. It may be nil.
	fill func(ctx context.Context, s *Store) (string, error)
}

// migrations are in ascending order. The first one starts from FirstSchemaVersion.
var migrations = []migration{
	{
		to: 4, // identity of the last consumed record; kinds of rejects
		statements: []string{
			`ALTER TABLE toll_cursor ADD COLUMN last_offset bigint NULL`,
			`ALTER TABLE toll_cursor ADD COLUMN last_leader_epoch int NULL`,
			`ALTER TABLE toll_cursor ADD COLUMN last_timestamp bigint NULL`,
			`ALTER TABLE toll_cursor ADD COLUMN last_crc int unsigned NULL`,
			`ALTER TABLE toll_cursor ADD COLUMN log_replaced varchar(500) NOT NULL DEFAULT ''`,
			`ALTER TABLE toll_batch ADD COLUMN gone bigint NOT NULL DEFAULT 0`,
			`ALTER TABLE toll_dead_letter ADD COLUMN kind varchar(24) NOT NULL DEFAULT ''`,
			`ALTER TABLE toll_dead_letter ADD COLUMN error_number int NOT NULL DEFAULT 0`,
			`ALTER TABLE toll_dead_letter ADD COLUMN retry_partition int NULL`,
			`ALTER TABLE toll_dead_letter ADD COLUMN retry_offset bigint NULL`,
		},
		fill: fillVersion4,
	},
	{
		to: 5, // the epoch of changes of congestion
		statements: []string{
			`ALTER TABLE toll_transition ADD COLUMN epoch bigint unsigned NOT NULL DEFAULT 0`,
		},
	},
	{
		to: 6, // incidents; toll_process, whose rows hold what toll_stalled did
		statements: []string{
			`ALTER TABLE toll_transition ADD INDEX began (since_minute, toll_plaza_id)`,
			`DROP TABLE IF EXISTS toll_stalled`,
		},
	},
}

// fillVersion4 gives dead letters their kinds, and moves what was counted otherwise before.
func fillVersion4(ctx context.Context, s *Store) (string, error) {
	if err := fillKinds(ctx, s); err != nil {
		return "", err
	}
	now, err := s.Now(ctx) // before a transaction, in which the embedded server would not answer
	if err != nil {
		return "", err
	}
	raise := func(ctx context.Context, tx *dbsql.Tx, topicID string) (uint64, error) {
		var r Rebuild
		err := r.raise(ctx, tx, topicID, 0, now)
		return r.NewEpoch, err
	}
	return skipped.Move(ctx, skipped.Config{DB: s.db, Decode: s.cfg.Decode, Encode: s.cfg.Encode,
		Raise: raise, Plazas: readPlazaFile})
}

// alreadyDone are the numbers of errors by which a server reports that a migration's step was made
// before.
var alreadyDone = []uint16{
	1050, // the table exists
	1060, // the column exists
	1061, // the index exists
	1091, // what is to be dropped does not
}

// migrate brings the tables from version from up to that of the last migration, and returns what it
// did.
func (s *Store) migrate(ctx context.Context, from int, all []migration) ([]string, error) {
	var done []string
	for _, m := range all {
		if m.to <= from {
			continue
		}
		for _, statement := range m.statements {
			if _, err := s.db.ExecContext(ctx, statement); err != nil &&
				!slices.Contains(alreadyDone, db.Number(err)) && !embeddedAlreadyDone(err) {
				return done, s.db.Wrap(fmt.Sprintf("migrate the tables to version %d", m.to), err)
			}
		}
		note := ""
		if m.fill != nil {
			var err error
			if note, err = m.fill(ctx, s); err != nil {
				return done, s.db.Wrap(fmt.Sprintf("migrate the rows to version %d", m.to), err)
			}
		}
		if _, err := s.db.ExecContext(ctx, `UPDATE toll_meta SET schema_version = ? WHERE id = 1`,
			m.to); err != nil {
			return done, s.db.Wrap("record the version of the tables", err)
		}
		done = append(done, fmt.Sprintf("migrated the tables from version %d to %d", from, m.to))
		if note != "" {
			done = append(done, note)
		}
		from = m.to
	}
	return done, nil
}

// embeddedAlreadyDone does for the embedded server, whose errors have no number of their own, what
// alreadyDone does.
func embeddedAlreadyDone(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && my.Number == db.ErrUnknown &&
		(strings.Contains(my.Message, "already exists") || strings.HasPrefix(my.Message, "Duplicate"))
}
