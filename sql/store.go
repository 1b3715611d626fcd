package sql

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
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
