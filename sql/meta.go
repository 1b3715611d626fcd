package sql

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Identity is what a process serves. A database serves one identity only.
type Identity struct {
	Group    string
	Topic    string
	TopicID  string // empty where it is not known
	Timezone string
}

// Meta returns what the database serves.
func (s *Store) Meta(ctx context.Context) (tables.Meta, error) { return tables.LoadMeta(ctx, s.db) }

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
		"the topic %s was created again: the database %s has stored topic id %s, Kafka has %s", m.Topic,
		s.db.Address, m.TopicID, topicID)
}
