package sql

import (
	"context"
	"crypto/rand"
	dbsql "database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

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
		options += tidbOptions
	}
	_, err := s.db.ExecContext(ctx, t.create+options)
	if n := db.Number(err); n == db.ErrNeedsKey || n == db.ErrNeedsKeyMaria {
		_, err = s.db.ExecContext(ctx, t.withHiddenKey()+options)
	}
	return err
}

// tidbOptions spread a table without a key over TiDB's regions: its rows get hidden ids, and where
// they ascend all inserts go to one region. Other servers read a comment.
const tidbOptions = " /*T! shard_row_id_bits = 4 pre_split_regions = 4 */"

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

// Check verifies all that a process needs of the database: that it answers, has the right tables,
// and serves id. Where the database does not know the topic's id yet, it is recorded. Each problem
// is a [toll.PermanentError] whose hint names the command that resolves it.
func (s *Store) Check(ctx context.Context, id Identity) (tables.Meta, error) {
	found, err := s.columns(ctx, s.db)
	if err != nil {
		return tables.Meta{}, s.db.Wrap("read the columns of the tables", err)
	}
	if m, err := s.versionOnly(ctx); err == nil {
		// An older or newer version explains other tables and columns better than a list of them does.
		if err := m.CheckVersion(s.db); err != nil {
			return tables.Meta{}, err
		}
	}
	if err := s.checkFound(found); err != nil {
		return tables.Meta{}, err
	}
	if err := s.checkServer(ctx); err != nil {
		return tables.Meta{}, err
	}
	m, err := tables.ReadMeta(ctx, s.db)
	if errors.Is(err, tables.ErrNoMeta) {
		return tables.Meta{}, tables.NotSetUp(s.db, err)
	}
	if err != nil {
		return tables.Meta{}, s.db.Wrap("read toll_meta", err)
	}
	if err := s.checkIdentity(m, id); err != nil && m.Resetting == tables.NotResetting {
		return m, err
	}
	if m.Resetting != tables.NotResetting {
		return m, toll.Permanent("run again: "+m.Resetting.Command(),
			"a reset of %s was interrupted and is not complete", s.db.Address)
	}
	if m.TopicID == "" && id.TopicID != "" {
		if err := s.SetTopicID(ctx, id.TopicID); err != nil {
			return m, err
		}
		m.TopicID = id.TopicID
	}
	return m, nil
}

// checkTables checks the tables as a start does: an error that is permanent names how they differ
// from ours.
func (s *Store) checkTables(ctx context.Context, q db.Reader) error {
	found, err := s.columns(ctx, q)
	if err != nil {
		return s.db.Wrap("read the columns of the tables", err)
	}
	if err := s.checkFound(found); err != nil {
		return err
	}
	return s.checkEngines(ctx, q)
}

// checkFound checks that the tables that were found are all of ours, with our columns.
func (s *Store) checkFound(found map[string][]column) error {
	if missing := missingTables(found); len(missing) > 0 {
		var names []string
		for _, t := range missing {
			names = append(names, t.name)
		}
		return toll.Permanent(
			"run: tollstream init; or a right is missing, since a user without SELECT on tables does not "+
				"see them, see docs/security.md",
			"the database %s lacks %s", s.db.Address, strings.Join(names, ", "))
	}
	return s.checkColumns(found)
}

// versionOnly reads toll_meta's version alone, which every version of the tables has.
func (s *Store) versionOnly(ctx context.Context) (tables.Meta, error) {
	var m tables.Meta
	err := s.db.QueryRowContext(ctx,
		`SELECT schema_version FROM toll_meta WHERE id = 1`).Scan(&m.SchemaVersion)
	return m, err
}

// Identity is what a process serves. A database serves one identity only.
type Identity struct {
	Group    string
	Topic    string
	TopicID  string // empty where it is not known
	Timezone string
}

// Meta returns what the database serves.
func (s *Store) Meta(ctx context.Context) (tables.Meta, error) { return tables.LoadMeta(ctx, s.db) }

// Location returns the zone of the rows' times.
func (s *Store) Location(ctx context.Context) (*time.Location, error) {
	meta, err := s.Meta(ctx)
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocation(meta.Timezone)
	if err != nil {
		return nil, fmt.Errorf("load the database's timezone: %w", err)
	}
	return location, nil
}

// insertMeta records what the database serves from now on.
func insertMeta(ctx context.Context, q db.Execer, id Identity) error {
	var databaseID [16]byte
	_, _ = rand.Read(databaseID[:]) // never fails, by its documentation
	_, err := q.ExecContext(ctx, `INSERT INTO toll_meta
		(id, schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at,
		resetting)
		VALUES (1, ?, ?, ?, ?, ?, ?, NOW(6), 0)`,
		tables.SchemaVersion, hex.EncodeToString(databaseID[:]), id.Group, id.Topic, id.TopicID,
		id.Timezone)
	return err
}

// SetTopicID records the topic's id where none is recorded yet. Another one that is recorded is a
// [toll.PermanentError].
func (s *Store) SetTopicID(ctx context.Context, topicID string) error {
	if _, err := s.db.ExecContext(ctx,
		`UPDATE toll_meta SET topic_id = ? WHERE id = 1 AND topic_id = ''`, topicID); err != nil {
		return s.db.Wrap("record the topic's id", err)
	}
	m, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	return s.checkTopicID(m, topicID)
}

// RecordWindows records the kinds of windows, as toll.FormatWindows writes them, and the lateness,
// where none are recorded yet, and returns those that are: the first process fixes them, as what
// is counted already can't be counted again by another rule. Where others are recorded than
// explicit ones it is a [toll.PermanentError].
func (s *Store) RecordWindows(ctx context.Context, windows string, latenessSeconds int,
	explicit bool) (string, int, error) {
	if _, err := s.db.ExecContext(ctx,
		`UPDATE toll_meta SET windows = ?, lateness_seconds = ? WHERE id = 1 AND windows = ''`,
		windows, latenessSeconds); err != nil {
		return "", 0, s.db.Wrap("record the windows", err)
	}
	m, err := s.Meta(ctx)
	if err != nil {
		return "", 0, err
	}
	recorded := int(m.Lateness / time.Second)
	var diffs []string
	if m.Windows != windows {
		diffs = append(diffs, fmt.Sprintf("windows %s, not %s", m.Windows, windows))
	}
	if recorded != latenessSeconds {
		diffs = append(diffs,
			fmt.Sprintf("lateness %v, not %v", m.Lateness, time.Duration(latenessSeconds)*time.Second))
	}
	if explicit && len(diffs) > 0 {
		return m.Windows, recorded,
			toll.Permanent(
				"the first process of a database fixes them; to change them, start over: "+
					"tollstream reset --yes",
				"the database %s counts %s", s.db.Address, strings.Join(diffs, "; "))
	}
	return m.Windows, recorded, nil
}

// checkIdentity returns a [toll.PermanentError] that names what differs from what the database
// serves.
func (s *Store) checkIdentity(m tables.Meta, id Identity) error {
	var diffs, flags []string
	for _, f := range []struct{ what, flag, want, got string }{
		{"group", "--group", m.Group, id.Group},
		{"topic", "--topic", m.Topic, id.Topic},
		{"timezone", "--timezone", m.Timezone, id.Timezone},
	} {
		if f.want != f.got {
			diffs = append(diffs, fmt.Sprintf("%s %q, not %q", f.what, f.want, f.got))
			flags = append(flags, f.flag+" "+f.want)
		}
	}
	if len(diffs) > 0 {
		return toll.Permanent("use "+strings.Join(flags, " ")+", or another database with --mysql",
			"the database %s serves %s", s.db.Address, strings.Join(diffs, "; "))
	}
	return s.checkTopicID(m, id.TopicID)
}

func (s *Store) checkTopicID(m tables.Meta, topicID string) error {
	if m.TopicID == "" || topicID == "" || m.TopicID == topicID {
		return nil
	}
	return toll.Permanent(
		"to empty the tables for a replay of the new topic, run: tollstream reset --yes",
		"the topic %s was recreated: the database %s has stored topic id %s, Kafka has %s", m.Topic,
		s.db.Address, m.TopicID, topicID)
}
