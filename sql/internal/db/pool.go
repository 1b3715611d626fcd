// Package db connects to MySQL and MariaDB: the pool with its session settings, snapshots, the
// numbers of errors and what they mean, and helpers for statements.
package db

import (
	"context"
	"crypto/tls"
	dbsql "database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/toll"
)

// Config sets which database to connect to.
type Config struct {
	// DSN in go-sql-driver's form, user:password@tcp(host:port)/database.
	DSN string
	// TLS encrypts the connections and sets whom to trust. Nil is what the DSN sets in tls=…, without
	// it a plain connection.
	TLS *tls.Config
	// Logf receives what is worth reporting to an operator. May be nil.
	Logf func(format string, args ...any)
}

// DB is a pool of connections to one database.
type DB struct {
	*dbsql.DB
	Multi   *dbsql.DB // takes several statements at once
	Address string    // host:port/database, for messages; holds no secret
	Name    string    // of the database
	cfg     Config
	bound   atomic.Pointer[string] // the id of the database to connect to, nil for any
	engine  atomic.Int32           // an engineKind, engineUnknown until asked
}

// connectTimeout bounds one attempt to connect. Statements are bounded by their context.
const connectTimeout = 5 * time.Second

// Open prepares a pool. It does not connect yet: the first statement does. A DSN that can't be
// read is a [toll.PermanentError].
func Open(cfg Config) (*DB, error) {
	c, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, toll.Permanent("a DSN looks like user:password@tcp(127.0.0.1:3306)/tolldata",
			"read the MySQL DSN: %w", err)
	}
	if c.DBName == "" {
		return nil, toll.Permanent("a DSN ends in the database's name: …)/tolldata",
			"the MySQL DSN names no database")
	}
	if err := configure(c, cfg.TLS); err != nil {
		return nil, err
	}
	d := &DB{cfg: cfg, Address: c.Addr + "/" + c.DBName, Name: c.DBName}
	if d.DB, err = d.pool(c); err != nil {
		return nil, err
	}
	c = c.Clone()
	c.MultiStatements = true
	if d.Multi, err = d.pool(c); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *DB) pool(c *mysql.Config) (*dbsql.DB, error) {
	inner, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	pool := dbsql.OpenDB(&connector{Connector: inner, address: d.Address, bound: &d.bound})
	pool.SetMaxOpenConns(64)
	pool.SetMaxIdleConns(16)
	pool.SetConnMaxIdleTime(10 * time.Second) // below wait_timeout
	return pool, nil
}

// configure completes a DSN with what the store depends on. Settings of sessions follow in
// [connector.Connect], so that they win over those in the DSN.
func configure(c *mysql.Config, encrypt *tls.Config) error {
	if encrypt != nil {
		c.TLS = encrypt
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
func (d *DB) Close() error { return errors.Join(d.DB.Close(), d.Multi.Close()) }

func (d *DB) Logf(format string, args ...any) {
	if d.cfg.Logf != nil {
		d.cfg.Logf(format, args...)
	}
}

// CreateDatabase creates the DSN's database if it is missing, and reports whether it did.
func (d *DB) CreateDatabase(ctx context.Context) (created bool, err error) {
	c, err := mysql.ParseDSN(d.cfg.DSN)
	if err != nil {
		return false, err
	}
	c.DBName = ""
	if err := configure(c, d.cfg.TLS); err != nil {
		return false, err
	}
	inner, err := mysql.NewConnector(c)
	if err != nil {
		return false, err
	}
	server := dbsql.OpenDB(&connector{Connector: inner, address: d.Address,
		bound: new(atomic.Pointer[string])})
	defer server.Close()
	var found int
	err = server.QueryRowContext(ctx,
		`SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?`, d.Name).Scan(&found)
	if err != nil {
		return false, d.Wrap("look for the database", err)
	}
	if found > 0 {
		return false, nil
	}
	create := "CREATE DATABASE IF NOT EXISTS " + QuoteName(d.Name) + " CHARACTER SET utf8mb4"
	_, err = server.ExecContext(ctx, create)
	n := Number(err)
	switch {
	case err == nil:
		return true, nil
	case n == errAccessDeniedDB, n == errAccessDenied, n == errSpecificDenied,
		n == ErrUnknown && strings.Contains(err.Error(), "denied"): // the embedded server
		return false, toll.Permanent("let an administrator run: "+create+"; GRANT ALL ON "+
			QuoteName(d.Name)+".* TO "+c.User,
			"the database %s does not exist, and this user may not create it: %w", d.Name, err)
	}
	return false, d.Wrap("create the database", err)
}
