package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// SchemaVersion is the version of the tables that this build reads and writes.
const SchemaVersion = 5

// firstSchemaVersion is the oldest version of the tables that can be migrated.
const firstSchemaVersion = 3

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

// errNoMeta says that toll_meta has no row.
var errNoMeta = errors.New("toll_meta is empty")

// loadMeta returns what a database serves. One that is not set up is a [toll.PermanentError].
func loadMeta(ctx context.Context, db *database) (Meta, error) {
	m, err := readMeta(ctx, db)
	if errors.Is(err, errNoMeta) {
		return Meta{}, notSetUp(db, err)
	}
	return m, db.wrap("read toll_meta", err)
}

func notSetUp(db *database, err error) error {
	return toll.Permanent("run: tollstream init", "the database %s is not set up: %w", db.address, err)
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

// checkVersion returns a [toll.PermanentError] for tables that this build can't work with.
func (m *Meta) checkVersion(db *database) error {
	switch {
	case m.SchemaVersion > SchemaVersion:
		return toll.Permanent("use that newer tollstream",
			"the tables in %s are of version %d, made by a newer tollstream; this one knows %d",
			db.address, m.SchemaVersion, SchemaVersion)
	case m.SchemaVersion < firstSchemaVersion:
		return toll.Permanent(
			"use another database with --mysql, or drop these tables and replay the topic",
			"the tables in %s are of version %d, and the oldest that can be migrated is %d",
			db.address, m.SchemaVersion, firstSchemaVersion)
	case m.SchemaVersion < SchemaVersion:
		return toll.Permanent("run: tollstream init",
			"the tables in %s are of version %d, this tollstream needs %d",
			db.address, m.SchemaVersion, SchemaVersion)
	}
	return nil
}

// location returns the location of livetolldata's wall clock.
func (m *Meta) location() (*time.Location, error) {
	loc, err := time.LoadLocation(m.Timezone)
	if err != nil {
		return nil, toll.Permanent("install the system's timezone data",
			"the timezone %q of toll_meta: %w", m.Timezone, err)
	}
	return loc, nil
}

// resetState is toll_meta.resetting.
type resetState int

const (
	notResetting resetState = iota
	resettingOurs
	resettingAllRows
)

func (r resetState) command() string {
	if r == resettingAllRows {
		return "tollstream reset --yes --all-rows"
	}
	return "tollstream reset --yes"
}

// Scan implements the interface of database/sql.
func (r *resetState) Scan(v any) error {
	switch v := v.(type) {
	case int64:
		*r = resetState(v)
		return nil
	case []byte:
		_, err := fmt.Sscan(string(v), (*int)(r))
		return err
	}
	return fmt.Errorf("toll_meta.resetting is a %T", v)
}
