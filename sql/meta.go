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

	"github.com/tollstream/tollstream/toll"
)

// Meta says what a database serves.
type Meta struct {
	SchemaVersion int
	DatabaseID    string // random; another server behind the same address has another
	Group         string
	Topic         string
	TopicID       string // as Kafka prints it; empty until the topic is known
	Timezone      string // IANA name; of the wall clock in livetolldata.timestamp
	CreatedAt     time.Time
	// the kinds that are counted, as toll.FormatWindows writes them; empty until a process settles
	// them
	Windows string
	// how far behind its partition's clock an event is still on time; settled with the windows
	Lateness time.Duration

	resetting resetState
}

// Identity is what a process serves. A database serves one identity only.
type Identity struct {
	Group    string
	Topic    string
	TopicID  string // empty where it is not known
	Timezone string
}

// errNoMeta says that toll_meta has no row.
var errNoMeta = errors.New("toll_meta is empty")

// Meta returns what the database serves.
func (s *Store) Meta(ctx context.Context) (Meta, error) {
	m, err := readMeta(ctx, s.db)
	if errors.Is(err, errNoMeta) {
		return Meta{}, s.notSetUp(err)
	}
	return m, s.wrap("read toll_meta", err)
}

func (s *Store) notSetUp(err error) error {
	return toll.Permanent("run: tollstream init", "the database %s is not set up: %w", s.address, err)
}

func readMeta(ctx context.Context, q queryer) (Meta, error) {
	var m Meta
	var created string
	var lateness int
	err := q.QueryRowContext(ctx, `SELECT schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at, resetting,
		windows, lateness_seconds FROM toll_meta WHERE id = 1`).
		Scan(&m.SchemaVersion, &m.DatabaseID, &m.Group, &m.Topic, &m.TopicID, &m.Timezone, &created,
			&m.resetting, &m.Windows, &lateness)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Meta{}, errNoMeta
	}
	if err != nil {
		return Meta{}, err
	}
	m.Lateness = time.Duration(lateness) * time.Second
	m.CreatedAt, err = parseTime(created)
	return m, err
}

// parseTime reads a DATETIME of ours, which is in UTC.
func parseTime(text string) (time.Time, error) {
	return time.Parse("2006-01-02 15:04:05.999999", text)
}

// insertMeta records what the database serves from now on.
func insertMeta(ctx context.Context, q execer, id Identity) error {
	var databaseID [16]byte
	_, _ = rand.Read(databaseID[:]) // never fails, by its documentation
	_, err := q.ExecContext(ctx, `INSERT INTO toll_meta
		(id, schema_version, database_id, consumer_group, topic, topic_id, timezone, created_at, resetting)
		VALUES (1, ?, ?, ?, ?, ?, ?, NOW(6), 0)`,
		SchemaVersion, hex.EncodeToString(databaseID[:]), id.Group, id.Topic, id.TopicID, id.Timezone)
	return err
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (dbsql.Result, error)
}

// SetTopicID records the topic's id where none is recorded yet. Another one that is recorded is a
// [toll.PermanentError].
func (s *Store) SetTopicID(ctx context.Context, topicID string) error {
	if _, err := s.db.ExecContext(ctx,
		`UPDATE toll_meta SET topic_id = ? WHERE id = 1 AND topic_id = ''`, topicID); err != nil {
		return s.wrap("record the topic's id", err)
	}
	m, err := s.Meta(ctx)
	if err != nil {
		return err
	}
	return s.checkTopicID(m, topicID)
}

// SettleWindows records the kinds of windows, as toll.FormatWindows writes them, and the lateness,
// where none are recorded yet, and returns those that are: the first process settles them, as what
// is counted already can't be counted anew by another rule. Where others are recorded than explicit
// ones it is a [toll.PermanentError].
func (s *Store) SettleWindows(ctx context.Context, windows string, latenessSeconds int,
	explicit bool) (string, int, error) {
	if _, err := s.db.ExecContext(ctx,
		`UPDATE toll_meta SET windows = ?, lateness_seconds = ? WHERE id = 1 AND windows = ''`,
		windows, latenessSeconds); err != nil {
		return "", 0, s.wrap("record the windows", err)
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
				"the first process of a database settles them; to change them, start over: tollstream reset --yes",
				"the database %s counts %s", s.address, strings.Join(diffs, "; "))
	}
	return m.Windows, recorded, nil
}

// checkIdentity returns a [toll.PermanentError] that names what differs from what the database
// serves.
func (s *Store) checkIdentity(m Meta, id Identity) error {
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
			"the database %s serves %s", s.address, strings.Join(diffs, "; "))
	}
	return s.checkTopicID(m, id.TopicID)
}

func (s *Store) checkTopicID(m Meta, topicID string) error {
	if m.TopicID == "" || topicID == "" || m.TopicID == topicID {
		return nil
	}
	return toll.Permanent(
		"to empty the tables for a replay of the new topic, run: tollstream reset --yes",
		"the topic %s was created again: the database %s has stored topic id %s, Kafka has %s", m.Topic,
		s.address, m.TopicID, topicID)
}

// checkVersion returns a [toll.PermanentError] for tables that this build can't work with.
func (s *Store) checkVersion(m Meta) error {
	switch {
	case m.SchemaVersion > SchemaVersion:
		return toll.Permanent("use that newer tollstream",
			"the tables in %s are of version %d, made by a newer tollstream; this one knows %d",
			s.address, m.SchemaVersion, SchemaVersion)
	case m.SchemaVersion < firstSchemaVersion:
		return toll.Permanent(
			"use another database with --mysql, or drop these tables and replay the topic",
			"the tables in %s are of version %d, and the oldest that can be migrated is %d",
			s.address, m.SchemaVersion, firstSchemaVersion)
	case m.SchemaVersion < SchemaVersion:
		return toll.Permanent("run: tollstream init",
			"the tables in %s are of version %d, this tollstream needs %d",
			s.address, m.SchemaVersion, SchemaVersion)
	}
	return nil
}
