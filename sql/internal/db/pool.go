// Package db connects to MySQL and MariaDB: the pool with its session settings, snapshots, the
// numbers of errors and what they mean, and helpers for statements.
package db

import (
	"cmp"
	"context"
	"crypto/tls"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
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

// connector makes connections, once bound to the one database only that it was bound to.
//
// The server behind an address may change: a proxy fails over, a name leads elsewhere, a container
// starts with an empty volume. What such a server holds is another story, even where its tables
// look right, and nothing must be written into it.
type connector struct {
	driver.Connector
	address string
	bound   *atomic.Pointer[string] // the database's id, nil for any
}

// Bind lets the pool connect to the database of this id only from now on.
func (d *DB) Bind(databaseID string) { d.bound.Store(&databaseID) }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := pinSession(ctx, conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	want := c.bound.Load()
	if want == nil {
		return conn, nil
	}
	got, err := databaseID(ctx, conn)
	if Number(err) == errNoTable || errors.Is(err, io.EOF) {
		got, err = "none", nil
	}
	if err == nil && got != *want {
		err = toll.Permanent(
			"let the address lead to the database of before; to work with this one instead, stop all "+
				"processes and start them again",
			"another database answers at %s: its id is %s, and was %s", c.address, got, *want)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// databaseID asks a connection which database it leads to.
func databaseID(ctx context.Context, conn driver.Conn) (string, error) {
	return askConn(ctx, conn, `SELECT database_id FROM toll_meta WHERE id = 1`)
}

// askConn returns the text that a query answers.
func askConn(ctx context.Context, conn driver.Conn, query string) (string, error) {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return "", fmt.Errorf("the driver %T can't be asked", conn)
	}
	rows, err := q.QueryContext(ctx, query, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil {
		return "", err
	}
	switch text := row[0].(type) {
	case []byte:
		return string(text), nil
	case string:
		return text, nil
	}
	return "", fmt.Errorf("%s: %T", query, row[0])
}

// sessionSettings are pinned on each connection, whatever the server's globals and the DSN set:
// with another value the store's statements would mean something else, read less, or fail. MySQL
// takes what MariaDB reads in comments that begin with M! for a comment, and MariaDB what MySQL
// reads in those that begin with !80000.
//
// All of them can be set without a right. sql_log_bin is not among them: what is replicated is the
// operator's decision. Nor are sql_require_primary_key and sql_generate_invisible_primary_key,
// which take a right; the tables allow for both.
const sessionSettings = `SET autocommit = 1, completion_type = 'NO_CHAIN',
	sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,` +
	`NO_ENGINE_SUBSTITUTION',
	time_zone = '+00:00', default_storage_engine = InnoDB,
	sql_safe_updates = 0, sql_select_limit = 9223372036854775807, sql_big_selects = 1,
	sql_auto_is_null = 0, sql_buffer_result = 0, unique_checks = 1, max_sort_length = 1024,
	wait_timeout = 20, net_read_timeout = 5, net_write_timeout = 60` + lockWaitTimeout + `
	/*!80000 , transaction_isolation = 'REPEATABLE-READ', transaction_read_only = 0,
	max_execution_time = 0 */
	/*M!100309 , tx_isolation = 'REPEATABLE-READ', tx_read_only = 0, max_statement_time = 0,
	idle_transaction_timeout = 10, idle_readonly_transaction_timeout = 0,
	idle_write_transaction_timeout = 0 */
	/*T! , tidb_txn_mode = 'pessimistic', tidb_guarantee_linearizability = 1, tidb_snapshot = '',
	tidb_read_staleness = 0, tidb_enable_external_ts_read = 0, tidb_low_resolution_tso = 0,
	tidb_read_consistency = 'strict', tidb_batch_insert = 0, tidb_batch_delete = 0,
	tidb_batch_commit = 0, tidb_dml_batch_size = 0, tidb_constraint_check_in_place_pessimistic = 1,
	tidb_skip_utf8_check = 0, tidb_skip_ascii_check = 0, tidb_idle_transaction_timeout = 10 */`

// On TiDB, which alone reads what is in comments that begin with T!: a compare-and-set must find
// the row as it is when it is locked, which takes a pessimistic transaction; all reads must be of
// now, and a snapshot must hold whatever was committed before it began; a transaction must be one,
// and a duplicate must fail where it is inserted, not at COMMIT.

// lockWaitTimeout is less than callers wait for an answer, so that they hear that it was a lock.
// The embedded server has no such setting of a session.
const lockWaitTimeout = `, innodb_lock_wait_timeout = 5`

// On the timeouts: the server ends the transaction of a host that died without a word, or that is
// paused, and with it the lock on the cursor that the partition's next owner waits for. Only
// MariaDB distinguishes such a transaction from a connection that is idle; MySQL ends both after
// wait_timeout. None of our transactions waits for seconds between two statements, or in the middle
// of the rows that it loads, for which the server waits twice as long as net_read_timeout sets.

// pinSession applies sessionSettings to a connection.
func pinSession(ctx context.Context, conn driver.Conn) error {
	e, ok := conn.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("the driver %T can't set the session's settings", conn)
	}
	_, err := e.ExecContext(ctx, sessionSettings, nil)
	if Number(err) == ErrUnknown { // the embedded server
		_, err = e.ExecContext(ctx, strings.Replace(sessionSettings, lockWaitTimeout, "", 1), nil)
	}
	if Number(err) == ErrUnknownVariable {
		if version, asked := askConn(ctx, conn, `SELECT VERSION()`); asked == nil {
			err = cmp.Or(refuseOldTiDB(version), err)
		}
	}
	if err != nil {
		return fmt.Errorf("set the session's settings: %w", err)
	}
	return nil
}

// engineKind is what server the store talks to, as far as that matters.
type engineKind int32

const (
	engineUnknown  engineKind = iota
	engineServer              // MySQL, MariaDB and what stems from them
	engineTiDB                // see tidb.go
	engineEmbedded            // go-mysql-server
)

// kind returns what the server is, engineUnknown where it does not answer. go-mysql-server shows
// itself by not knowing @@warning_count.
func (d *DB) kind(ctx context.Context) engineKind {
	if k := engineKind(d.engine.Load()); k != engineUnknown {
		return k
	}
	var version string
	var warnings int
	err := d.QueryRowContext(ctx, `SELECT VERSION(), @@warning_count`).Scan(&version, &warnings)
	k := engineUnknown
	switch _, isTiDB := tidbVersion(version); {
	case err == nil && isTiDB:
		k = engineTiDB
	case err == nil:
		k = engineServer
	case Number(err) == ErrUnknownVariable || Number(err) == ErrUnknown:
		k = engineEmbedded
	}
	d.engine.Store(int32(k))
	return k
}

// Embedded reports whether the server is go-mysql-server.
func (d *DB) Embedded(ctx context.Context) bool { return d.kind(ctx) == engineEmbedded }

// KnownEmbedded is embedded for where nothing can be asked: within a transaction that server would
// not answer. The caller has asked embedded before.
func (d *DB) KnownEmbedded() bool { return engineKind(d.engine.Load()) == engineEmbedded }

// Many returns a condition on many rows in a form that the server finds them by. The embedded one
// reads the whole table in any case, and by way of an index compares every row with every range; so
// there the columns are hidden from it.
// See KnownEmbedded.
func (d *DB) Many(condition string) string {
	if d.KnownEmbedded() {
		return "IF(" + condition + ", 1, 0) = 1"
	}
	return "(" + condition + ")"
}

// ForceIndex returns the hint to use an index, where there is one: see KnownEmbedded.
func (d *DB) ForceIndex(name string) string {
	if d.KnownEmbedded() {
		return ""
	}
	return "FORCE INDEX (" + name + ") "
}

// BigResult returns the hint to sort the rows that are grouped, for where there may be nearly as
// many groups: see KnownEmbedded. With a temporary table of the groups MySQL takes twice as long,
// MariaDB half as long again.
func (d *DB) BigResult() string {
	if d.KnownEmbedded() {
		return ""
	}
	return "SQL_BIG_RESULT "
}
