package tables

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// SchemaVersion is the version of the tables that this build reads and writes.
const SchemaVersion = 7

// FirstSchemaVersion is the oldest version of the tables that can be migrated.
const FirstSchemaVersion = 5

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

// AcceptedLog records that a partition goes on in a log that is not the one that was stored before,
// since an operator decided so.
type AcceptedLog struct {
	Partition int32 `json:"partition"`
	// Next is the first offset that was not stored then. Below it the rows are of the log before.
	Next int64 `json:"next"`
	// From is the offset from which the logs differ by their leader epochs, nil where these don't
	// show it.
	From *int64 `json:"from"`
	// Rows that have no record in the log any more, and Records of the log that are never stored, if
	// the logs differ from From on; nil where that is nil.
	Rows    *int64 `json:"rows"`
	Records *int64 `json:"records"`
	// MostRows and MostRecords are the same if all that the log held below Next is another's.
	MostRows    int64  `json:"most_rows"`
	MostRecords int64  `json:"most_records"`
	Why         string `json:"why"`
	AcceptedAt  string `json:"accepted_at,omitempty"` // UTC
}

// String states what was left out, in one sentence.
func (a AcceptedLog) String() string {
	most := fmt.Sprintf(
		"at most %s below offset %s have no record in it, and at most %s of it are never stored",
		text.Count(a.MostRows, "row"), text.Number(a.Next), text.Count(a.MostRecords, "record"))
	if a.From == nil {
		return most
	}
	return fmt.Sprintf(
		"by its leader epochs it differs from offset %s on: then %s have no record in it, and %s of it "+
			"are never stored; %s",
		text.Number(*a.From), text.Count(*a.Rows, "row"), text.Count(*a.Records, "record"), most)
}

// ReadAcceptedLogs returns the logs that operators accepted, in the order in which they did.
func ReadAcceptedLogs(ctx context.Context, q db.Reader, topicID string) ([]AcceptedLog, error) {
	rows, err := q.QueryContext(ctx, `SELECT partition_id, accepted_at, next_offset, differs_from,
		rows_left, records_skipped, most_rows, most_records, why
		FROM toll_accepted_log WHERE topic_id = ? ORDER BY accepted_at, partition_id`, topicID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []AcceptedLog
	for rows.Next() {
		var a AcceptedLog
		var from, left, records dbsql.Null[int64]
		if err := rows.Scan(&a.Partition, &a.AcceptedAt, &a.Next, &from, &left, &records, &a.MostRows,
			&a.MostRecords, &a.Why); err != nil {
			return nil, err
		}
		if from.Valid {
			a.From, a.Rows, a.Records = &from.V, &left.V, &records.V
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

// MaxReasonRunes is the length of the columns that hold reasons.
const MaxReasonRunes = 500

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
	pruned := map[int]RowCount{}
	var id int
	c := RowCount{Exact: true}
	rows, err := q.QueryContext(ctx, `SELECT id, pruned, checksum FROM toll_pruned WHERE what = ?`,
		what)
	err = db.Each(rows, err, []any{&id, &c.Rows, &c.Checksum}, func() error {
		pruned[id] = c
		return nil
	})
	return pruned, err
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
	retired := map[string]toll.Minute{}
	var what string
	var before toll.Minute
	rows, err := q.QueryContext(ctx, `SELECT what, before_minute FROM toll_retired`)
	err = db.Each(rows, err, []any{&what, &before}, func() error {
		retired[what] = before
		return nil
	})
	return retired, err
}

// AddRetired records that what is old was deleted up to a minute. The caller deletes it in the same
// transaction.
func AddRetired(ctx context.Context, tx *dbsql.Tx, what string, before toll.Minute) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_retired (what, before_minute) VALUES (?, ?)
		ON DUPLICATE KEY UPDATE before_minute = GREATEST(before_minute, VALUES(before_minute))`, what,
		before)
	return err
}
