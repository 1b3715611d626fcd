// Package sql is the store behind livetolldata, on MySQL 8, MariaDB 10.6 and TiDB 7.6 and newer,
// tested on 8.0.31, 10.11 and 8.5. The .sql files next to it run in the mysql and mariadb clients
// as they are.
//
// [Store] joins what its packages do with one database: ingest writes batches exactly once, results
// stores windows and congestion, verify checks the invariants, retention deletes and compacts what
// is old. Here is what concerns the database as a whole: its tables, migrations, rebuild, reset,
// dead letters and queries.
package sql

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/journeys"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// Config sets which database to use.
type Config struct {
	// DSN in go-sql-driver's form, user:password@tcp(host:port)/database. Parameters that the store
	// depends on (charset, session settings) are set by the store.
	DSN string
	// TLS encrypts the connections and sets whom to trust. Nil is what the DSN sets in tls=…, without
	// it a plain connection.
	TLS *tls.Config
	// Load chooses how rows are loaded: LoadAuto, LoadLocal or LoadInsert.
	Load ingest.LoadMode
	// Decode reads an outbox, for verification. It is wire.DecodePlazaDeltas; injected since sql
	// knows toll only.
	Decode func([]byte) ([]toll.PlazaDelta, error)
	// Encode writes an outbox, for compaction. It is wire.AppendPlazaDeltas with nil.
	Encode func([]toll.PlazaDelta) []byte
	// DecodeSums appends an outbox's deltas without their minutes, which is all that a view needs. It
	// is wire.DecodePlazaSums.
	DecodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)
	// Logf receives what an operator should know. May be nil.
	Logf func(format string, args ...any)
}

// Store is one database: what its rooms offer, and what concerns the whole of it.
type Store struct {
	*results.Reader
	*verify.Verifier
	*retention.Cleaner
	*incidents.Ledger
	cfg Config
	db  *db.DB
}

// Meta records what a database serves.
type Meta = tables.Meta

// AcceptedLog records that a partition goes on in a log that is not the one that was stored before.
type AcceptedLog = tables.AcceptedLog

// NewToken returns a random token that is not zero.
func NewToken() uint64 { return tables.NewToken() }

// Open prepares a store. It does not connect yet: the first call does. A DSN that can't be read is
// a [toll.PermanentError].
func Open(cfg Config) (*Store, error) {
	db, err := db.Open(db.Config{DSN: cfg.DSN, TLS: cfg.TLS, Logf: cfg.Logf})
	if err != nil {
		return nil, err
	}
	return &Store{
		Reader:   results.NewReader(db),
		Verifier: verify.New(db, cfg.Decode, cfg.DecodeSums),
		Cleaner:  retention.NewCleaner(db),
		Ledger:   incidents.NewLedger(db),
		cfg:      cfg,
		db:       db,
	}, nil
}

// Writer returns a writer of the batches of the topic that has this id.
func (s *Store) Writer(topicID string) *ingest.Writer {
	return ingest.NewWriter(s.db, topicID, s.cfg.Load, s.checkTables)
}

// Compactor returns what compacts the batches of the topic that has this id.
func (s *Store) Compactor(topicID string) *retention.Compactor {
	return retention.NewCompactor(s.db, topicID, s.cfg.Decode, s.cfg.Encode)
}

// Results returns a writer of the results of the topic that has this id.
func (s *Store) Results(topicID string, cfg results.Config) *results.Writer {
	cfg.Decode = s.cfg.Decode
	return results.NewWriter(s.db, topicID, cfg)
}

// Journeys returns what counts travel times and trips.
func (s *Store) Journeys() *journeys.Surveyor { return journeys.New(s.db) }

// CreateDatabase creates the DSN's database if it is missing, and reports whether it did.
func (s *Store) CreateDatabase(ctx context.Context) (created bool, err error) {
	return s.db.CreateDatabase(ctx)
}

// Bind lets the store connect to this database only from now on: another one behind the same
// address is a [toll.PermanentError].
func (s *Store) Bind(m tables.Meta) { s.db.Bind(m.DatabaseID) }

// Close closes the connections.
func (s *Store) Close() error { return s.db.Close() }

// Address returns host:port/database.
func (s *Store) Address() string { return s.db.Address }

// Ping connects once.
func (s *Store) Ping(ctx context.Context) error { return s.db.Explain(s.db.PingContext(ctx)) }

// Now returns what the server's clock shows.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var text string
	err := s.db.QueryRowContext(ctx, `SELECT NOW(6)`).Scan(&text) // UTC, as the session's time zone is
	if err != nil {
		return time.Time{}, s.db.Wrap("ask MySQL for the time", err)
	}
	now, err := db.ParseTime(text)
	return now, s.db.Wrap("read MySQL's time", err)
}

// checkServer returns a [toll.PermanentError] where the server can't keep the promise of exactly
// once with its settings or the storage engines of our tables.
func (s *Store) checkServer(ctx context.Context) error {
	if s.db.Embedded(ctx) {
		return nil // it has one engine, and writes no log
	}
	if err := s.db.CheckVersion(ctx); err != nil {
		return err
	}
	if err := s.checkBinaryLog(ctx); err != nil {
		return err
	}
	if _, err := s.db.MaxPacket(ctx, s.db); err != nil {
		return s.db.Wrap("look at the server's settings", err)
	}
	return s.checkEngines(ctx, s.db)
}

// checkBinaryLog refuses a server that logs statements, before the first such transaction fails.
func (s *Store) checkBinaryLog(ctx context.Context) error {
	var enabled bool
	var format string
	err := s.db.QueryRowContext(ctx, `SELECT @@log_bin, @@binlog_format`).Scan(&enabled, &format)
	if db.Number(err) == db.ErrUnknownVariable {
		return nil // a server that logs rows only
	}
	if err != nil {
		return s.db.Wrap("read the format of the binary log", err)
	}
	if enabled && format == "STATEMENT" {
		return toll.Permanent(db.BinlogHint, "MySQL at %s has binlog_format = STATEMENT, "+
			"which does not take transactions with READ COMMITTED", s.db.Address)
	}
	return nil
}

// checkEngines returns a [toll.PermanentError] where a table of ours is not of InnoDB. Another
// engine keeps the rows of a transaction that is rolled back, and loses those of one that is
// committed, or has not been tried.
func (s *Store) checkEngines(ctx context.Context, q db.Reader) error {
	if s.db.Embedded(ctx) {
		return nil // it has one engine, and no other
	}
	rows, err := q.QueryContext(ctx, `SELECT table_name, COALESCE(engine, ''), table_type
		FROM information_schema.tables
		WHERE table_schema = ? ORDER BY table_name`, s.db.Name)
	if err != nil {
		return s.db.Wrap("read the engines of the tables", err)
	}
	defer rows.Close()
	var wrong, convert []string
	for rows.Next() {
		var name, engine, kind string
		if err := rows.Scan(&name, &engine, &kind); err != nil {
			return s.db.Wrap("read the engines of the tables", err)
		}
		if kind != "BASE TABLE" {
			engine = "a " + strings.ToLower(kind)
		}
		ours := slices.ContainsFunc(schema, func(t table) bool { return t.name == strings.ToLower(name) })
		if ours && engine != "InnoDB" {
			wrong = append(wrong, name+" is "+engine)
			if kind == "BASE TABLE" {
				convert = append(convert, "ALTER TABLE "+db.QuoteName(s.db.Name)+"."+db.QuoteName(name)+
					" ENGINE=InnoDB;")
			} else {
				convert = append(convert, "RENAME TABLE "+db.QuoteName(name)+" TO another name;")
			}
		}
	}
	if err := rows.Err(); err != nil {
		return s.db.Wrap("read the engines of the tables", err)
	}
	if len(wrong) == 0 {
		return nil
	}
	return toll.Permanent("stop all processes and run: "+strings.Join(convert, " ")+
		" then look at what was stored so far: tollstream verify --deep",
		"exactly once needs tables of the storage engine InnoDB, and in %s %s", s.db.Address,
		strings.Join(wrong, ", "))
}
