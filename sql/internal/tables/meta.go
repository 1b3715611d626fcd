package tables

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// SchemaVersion is the version of the tables that this build reads and writes.
const SchemaVersion = 6

// FirstSchemaVersion is the oldest version of the tables that can be migrated.
const FirstSchemaVersion = 3

// Meta records what a database serves.
type Meta struct {
	SchemaVersion int
	DatabaseID    string // random; another server behind the same address has another
	Group         string
	Topic         string
	TopicID       string // as Kafka prints it; empty until the topic is known
	Timezone      string // IANA name; of the wall clock in livetolldata.timestamp
	CreatedAt     time.Time
	// the kinds that are counted, as toll.FormatWindows writes them; empty until a process records
	// them
	Windows string
	// how far behind its partition's clock an event is still on time; recorded with the windows
	Lateness time.Duration

	Resetting resetState
}

// ErrNoMeta means that toll_meta has no row.
var ErrNoMeta = errors.New("toll_meta is empty")

// LoadMeta returns what a database serves. One that is not set up is a [toll.PermanentError].
func LoadMeta(ctx context.Context, db *db.DB) (Meta, error) {
	m, err := ReadMeta(ctx, db)
	if errors.Is(err, ErrNoMeta) {
		return Meta{}, NotSetUp(db, err)
	}
	return m, db.Wrap("read toll_meta", err)
}

func NotSetUp(db *db.DB, err error) error {
	return toll.Permanent("run: tollstream init", "the database %s is not set up: %w", db.Address, err)
}

func ReadMeta(ctx context.Context, q db.Queryer) (Meta, error) {
	var m Meta
	var created string
	var lateness int
	err := q.QueryRowContext(ctx, `SELECT schema_version, database_id, consumer_group, topic, topic_id,
		timezone, created_at, resetting, windows, lateness_seconds FROM toll_meta WHERE id = 1`).
		Scan(&m.SchemaVersion, &m.DatabaseID, &m.Group, &m.Topic, &m.TopicID, &m.Timezone, &created,
			&m.Resetting, &m.Windows, &lateness)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Meta{}, ErrNoMeta
	}
	if err != nil {
		return Meta{}, err
	}
	m.Lateness = time.Duration(lateness) * time.Second
	m.CreatedAt, err = db.ParseTime(created)
	return m, err
}

// CheckVersion returns a [toll.PermanentError] for tables that this build can't work with.
func (m *Meta) CheckVersion(db *db.DB) error {
	switch {
	case m.SchemaVersion > SchemaVersion:
		return toll.Permanent("use that newer tollstream",
			"the tables in %s are of version %d, made by a newer tollstream; this one knows %d",
			db.Address, m.SchemaVersion, SchemaVersion)
	case m.SchemaVersion < FirstSchemaVersion:
		return toll.Permanent(
			"use another database with --mysql, or drop these tables and replay the topic",
			"the tables in %s are of version %d, and the oldest that can be migrated is %d",
			db.Address, m.SchemaVersion, FirstSchemaVersion)
	case m.SchemaVersion < SchemaVersion:
		return toll.Permanent("run: tollstream init",
			"the tables in %s are of version %d, this tollstream needs %d",
			db.Address, m.SchemaVersion, SchemaVersion)
	}
	return nil
}

// Location returns the location of livetolldata's wall clock.
func (m *Meta) Location() (*time.Location, error) {
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
	NotResetting resetState = iota
	ResettingOurs
	ResettingAllRows
)

func (r resetState) Command() string {
	if r == ResettingAllRows {
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
