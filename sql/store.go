package sql

import (
	"context"
	"crypto/tls"
	dbsql "database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/toll"
)

// Config says which database to use.
type Config struct {
	// DSN in go-sql-driver's form, user:password@tcp(host:port)/database. Parameters that the store
	// depends on (charset, session settings) are set by the store.
	DSN string
	// TLS encrypts the connections and says whom to trust. Nil is what the DSN says in tls=…, without
	// it a plain connection.
	TLS *tls.Config
	// Load chooses how rows are loaded: LoadAuto, LoadLocal or LoadInsert.
	Load LoadMode
	// Decode reads an outbox, for verification. It is wire.DecodePlazaDeltas; injected since sql
	// knows toll only.
	Decode func([]byte) ([]toll.PlazaDelta, error)
	// Encode writes an outbox, for a migration. It is wire.AppendPlazaDeltas with nil.
	Encode func([]toll.PlazaDelta) []byte
	// DecodeSums appends an outbox's deltas without their minutes, which is all that a view needs. It
	// is wire.DecodePlazaSums.
	DecodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)
	// Logf receives what is worth telling an operator. May be nil.
	Logf func(format string, args ...any)
}

// Store is what holds the connections to one database.
type Store struct {
	cfg     Config
	db      *dbsql.DB
	multi   *dbsql.DB              // takes several statements at once: see multistatement.go
	bound   atomic.Pointer[string] // the id of the database to connect to, nil for any
	address string                 // host:port/database, for messages; holds no secret
	name    string                 // of the database
	engine  atomic.Int32           // an engineKind, engineUnknown until asked
}

// connectTimeout bounds one attempt to connect. Statements are bounded by their context.
const connectTimeout = 5 * time.Second

// Open prepares a store. It does not connect yet: the first call does. A DSN that can't be read is
// a [toll.PermanentError].
func Open(cfg Config) (*Store, error) {
	c, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, toll.Permanent("a DSN looks like user:password@tcp(127.0.0.1:3306)/tolldata",
			"read the MySQL DSN: %w", err)
	}
	if c.DBName == "" {
		return nil, toll.Permanent("a DSN ends in the database's name: …)/tolldata",
			"the MySQL DSN names no database")
	}
	if err := configure(c, cfg); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, address: c.Addr + "/" + c.DBName, name: c.DBName}
	if s.db, err = s.pool(c); err != nil {
		return nil, err
	}
	c = c.Clone()
	c.MultiStatements = true
	if s.multi, err = s.pool(c); err != nil {
		return nil, err
	}
	return s, nil
}

// pool returns a pool of connections.
func (s *Store) pool(c *mysql.Config) (*dbsql.DB, error) {
	inner, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := dbsql.OpenDB(&connector{Connector: inner, address: s.address, bound: &s.bound})
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(16)
	db.SetConnMaxIdleTime(10 * time.Second) // below wait_timeout
	return db, nil
}

// configure completes a DSN with what the store depends on. Settings of sessions follow in
// [connector.Connect], so that they win over those in the DSN.
func configure(c *mysql.Config, cfg Config) error {
	if cfg.TLS != nil {
		c.TLS = cfg.TLS
	}
	c.Timeout = connectTimeout
	c.ParseTime = false
	// one round trip a statement; sound, as the connection's charset is UTF-8
	c.InterpolateParams = true
	c.MultiStatements = false
	c.MaxAllowedPacket = 0 // ask the server
	c.AllowAllFiles = false
	c.ClientFoundRows = false // rows affected are those that changed
	c.Logger = &mysql.NopLogger{}
	return c.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin"))
}

// Close closes the connections.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.multi.Close()) }

// Address returns host:port/database.
func (s *Store) Address() string { return s.address }

// Ping connects once.
func (s *Store) Ping(ctx context.Context) error { return s.explain(s.db.PingContext(ctx)) }

// Now returns what the server's clock shows.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var text string
	err := s.db.QueryRowContext(ctx, `SELECT NOW(6)`).Scan(&text) // UTC, as the session's time zone is
	if err != nil {
		return time.Time{}, s.wrap("ask MySQL for the time", err)
	}
	now, err := parseTime(text)
	return now, s.wrap("read MySQL's time", err)
}

func (s *Store) logf(format string, args ...any) {
	if s.cfg.Logf != nil {
		s.cfg.Logf(format, args...)
	}
}

// Numbers of MySQL's errors that the store tells apart.
const (
	errAccessDeniedDB = 1044
	errAccessDenied   = 1045
	errNoDatabase     = 1049
	errDuplicateKey   = 1062
	errNeedsKeyMaria  = 1173 // MariaDB's innodb_force_primary_key
	errNeedsKey       = 3750 // MySQL's sql_require_primary_key
	errNoTable        = 1146
	errTableDenied    = 1142
	errColumnDenied   = 1143
	errSpecificDenied = 1227
	errUnknownColumn  = 1054
	errNoPassword     = 1698 // as errAccessDenied, where none was sent
	errInsecure       = 3159 // "Connections using insecure transport are prohibited"
	errLocalInfileOld = 1148 // "The used command is not allowed with this MySQL version"
	errLocalInfile    = 3948 // MySQL 8: "Loading local data is disabled"
	// MariaDB: "The used command is not allowed because the MariaDB server or client has disabled the
	// local infile capability"
	errLocalInfileMaria = 4166
)

// explain turns an error of the driver that no retry mends into a [toll.PermanentError] that says
// what to do, and leaves others as they are.
func (s *Store) explain(err error) error {
	if toll.IsPermanent(err) {
		return err
	}
	var my *mysql.MySQLError
	if !errors.As(err, &my) {
		hint := trust.Hint(err, "--mysql")
		if errors.Is(err, mysql.ErrNoTLS) {
			hint = "the server has no TLS: set it up there, or use --mysql-tls off"
		}
		if hint != "" {
			return toll.Permanent(hint, "connect to MySQL at %s: %w", s.address, err)
		}
		return err
	}
	switch my.Number {
	case errAccessDenied, errNoPassword:
		return toll.Permanent(
			"check user and password in --mysql or TOLLSTREAM_MYSQL; a user may also have to come with TLS or a certificate (--mysql-ca, --mysql-cert)",
			"connect to MySQL at %s: %w", s.address, err)
	case errInsecure:
		return toll.Permanent(
			"add --mysql-tls verify-ca and, with --mysql-ca, the authority that signed the server's certificate: "+
				"of one that MySQL generated for itself it is ca.pem in the data folder",
			"connect to MySQL at %s: %w", s.address, err)
	case errAccessDeniedDB, errTableDenied, errColumnDenied, errSpecificDenied:
		return toll.Permanent("grant the MySQL user what docs/security.md lists for this command",
			"use MySQL at %s: %w", s.address, err)
	case errNoDatabase:
		return toll.Permanent("create it, or run: tollstream init", "connect to MySQL at %s: %w",
			s.address, err)
	case errNoTable, errUnknownColumn:
		return toll.Permanent("run: tollstream init", "use MySQL at %s: %w", s.address, err)
	}
	return err
}

// wrap adds the failed action to an error, explained.
func (s *Store) wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, s.explain(err))
}

// LoadMode is a way to load rows.
type LoadMode uint8

// The ways to load rows.
const (
	LoadAuto   LoadMode = iota // LOAD DATA LOCAL where the server allows it, else INSERT
	LoadLocal                  // LOAD DATA LOCAL, from memory
	LoadInsert                 // multi-row INSERT
)

// LoadModes are all ways to load rows.
var LoadModes = []LoadMode{LoadAuto, LoadLocal, LoadInsert}

func (m LoadMode) String() string { return [...]string{"auto", "local", "insert"}[m] }

// ParseLoadMode reads auto, local or insert.
func ParseLoadMode(s string) (LoadMode, error) {
	switch s {
	case "", "auto":
		return LoadAuto, nil
	case "local":
		return LoadLocal, nil
	case "insert":
		return LoadInsert, nil
	}
	return 0, fmt.Errorf("load mode %q is none of auto, local, insert", s)
}
