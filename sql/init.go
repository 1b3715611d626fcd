package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Init makes the database ready to serve id. It creates the tables that are missing, migrates those
// of an older version, and records what the database serves together with the baseline: the rows
// that livetolldata held before. It changes nothing that is right, and refuses what is wrong with a
// [toll.PermanentError].
//
// It returns what it did, a sentence each; nothing for a database that is ready.
func (s *Store) Init(ctx context.Context, id Identity) ([]string, error) {
	found, err := s.columns(ctx, s.db)
	if err != nil {
		return nil, s.db.Wrap("read the columns of the tables", err)
	}
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	var done []string
	if len(found["toll_meta"]) > 0 {
		m, err := s.versionOnly(ctx)
		if err != nil && !errors.Is(err, dbsql.ErrNoRows) {
			return nil, s.db.Wrap("read toll_meta", err)
		}
		if err == nil &&
			(m.SchemaVersion < tables.FirstSchemaVersion || m.SchemaVersion > tables.SchemaVersion) {
			return nil, m.CheckVersion(s.db)
		}
		if err == nil {
			if done, err = s.migrate(ctx, m.SchemaVersion, migrations); err != nil {
				return done, err
			}
		}
		if len(done) > 0 {
			if found, err = s.columns(ctx, s.db); err != nil {
				return done, s.db.Wrap("read the columns of the tables", err)
			}
		}
	}
	if err := s.checkColumns(found); err != nil {
		return done, err
	}
	for _, t := range missingTables(found) {
		if err := s.createTable(ctx, t); err != nil {
			return done, s.db.Wrap("create table "+t.name, err)
		}
		done = append(done, "created table "+t.name)
	}
	more, err := s.initMeta(ctx, id)
	return append(done, more...), err
}

// createTable creates a table that is missing.
func (s *Store) createTable(ctx context.Context, t table) error {
	if s.db.Embedded(ctx) {
		_, err := s.db.ExecContext(ctx, t.withoutKeys())
		return err
	}
	options := ""
	if t.name == tables.EventTable {
		var charset string
		if err := s.db.QueryRowContext(ctx,
			`SELECT @@character_set_database`).Scan(&charset); err != nil {
			return err
		}
		if charset != "utf8mb4" {
			options = " default character set utf8mb4" // any vehicle type fits
		}
	}
	_, err := s.db.ExecContext(ctx, t.create+options)
	if n := db.Number(err); n == db.ErrNeedsKey || n == db.ErrNeedsKeyMaria {
		_, err = s.db.ExecContext(ctx, t.withHiddenKey()+options)
	}
	return err
}

// initMeta records what the database serves, or checks it where it is recorded.
func (s *Store) initMeta(ctx context.Context, id Identity) ([]string, error) {
	m, err := tables.ReadMeta(ctx, s.db)
	if errors.Is(err, tables.ErrNoMeta) {
		var baseline tables.RowCount
		if baseline, err = s.recordBaseline(ctx, id); err == nil {
			done := fmt.Sprintf("recorded that the database serves group %s, topic %s, timezone %s",
				id.Group, id.Topic, id.Timezone)
			if baseline.Rows == 0 {
				return []string{done}, nil
			}
			return []string{done, fmt.Sprintf("baseline: %s held before", text.Count(baseline.Rows, "row"))},
				nil
		}
		if db.Number(err) != db.ErrDuplicateKey {
			return nil, s.db.Wrap("record what the database serves", err)
		}
		m, err = tables.ReadMeta(ctx, s.db) // another init was first
	}
	if err != nil {
		return nil, s.db.Wrap("read toll_meta", err)
	}
	if m.Resetting != tables.NotResetting {
		return nil, toll.Permanent("run again: "+m.Resetting.Command(),
			"a reset of %s was interrupted and is not complete", s.db.Address)
	}
	if err := s.checkIdentity(m, id); err != nil {
		return nil, err
	}
	if m.TopicID != "" || id.TopicID == "" {
		return nil, nil
	}
	if err := s.SetTopicID(ctx, id.TopicID); err != nil {
		return nil, err
	}
	return []string{"recorded the topic's id " + id.TopicID}, nil
}

// recordBaseline counts the rows that livetolldata holds and records them with what the database
// serves, in one transaction: the count is of the snapshot in which nothing of ours was stored yet.
func (s *Store) recordBaseline(ctx context.Context, id Identity) (tables.RowCount, error) {
	var total tables.RowCount
	tx, err := s.db.BeginTx(ctx, &dbsql.TxOptions{Isolation: dbsql.LevelRepeatableRead})
	if err != nil {
		return total, err
	}
	defer tx.Rollback()
	var batches int64
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM toll_batch`).Scan(&batches); err != nil {
		return total, err
	}
	if batches > 0 {
		return total, toll.Permanent("restore the row of toll_meta from a backup, or empty the tables",
			"toll_meta of %s is empty, but toll_batch holds %s", s.db.Address, text.Count(batches, "batch"))
	}
	counts, err := tables.CountRows(ctx, tx, tables.CountOptions{Checksum: true})
	if err != nil {
		return total, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM toll_baseline`); err != nil {
		return total, err
	}
	for plaza, c := range counts {
		if !c.Exact {
			return total, errors.New("the server can't sum checksums exactly")
		}
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO toll_baseline (toll_plaza_id, events, checksum) VALUES (?, ?, ?)`,
			plaza, c.Rows, c.Checksum); err != nil {
			return total, err
		}
		total.Rows += c.Rows
	}
	if err := insertMeta(ctx, tx, id); err != nil {
		return total, err
	}
	return total, tx.Commit()
}
