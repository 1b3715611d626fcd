// Package embedded is a MySQL-compatible server in memory: go-mysql-server v0.20.0 with its memory
// engine, for one database and one user. It forgets all at Close.
//
// It is a module of its own, because it needs a replaced dependency, with which go install refuses
// a module, and because its 74 MB belong neither into tollstream nor into the binaries of its
// tests. The command tollstream-embedded-mysql serves it; package devstack starts that.
//
// # Limits
//
// Transactions run one after the other, readers' as well: a connection holds a lock from BEGIN (or
// the first statement under autocommit = 0) to COMMIT, ROLLBACK or its end, and a statement outside
// of a transaction holds it for itself. Whoever waits longer than 15 s gets error 1205. So never
// wait for a second connection while the first has a transaction open.
//
// It does not know, each answered with error 1105 where no other number is given:
//   - LOAD DATA LOCAL: command denied, and @@local_infile is 0, so that one can ask before
//   - @@warning_count, SHOW COUNT(*) WARNINGS
//   - UPDATE and DELETE with WHERE EXISTS (subquery), UPDATE of a table without a key with IN
//     (subquery) or a join. INSERT … SELECT … WHERE EXISTS works, and UPDATE with a comparison to a
//     scalar subquery
//   - SAVEPOINT
//   - INSERT … SELECT … ON DUPLICATE KEY UPDATE c = VALUES(c); with INSERT … VALUES it works
//   - a window function over an aggregate of the same SELECT; over a derived table it works
//   - START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; either of the two works
//   - SET SESSION innodb_lock_wait_timeout, DO, EXPLAIN (its answer breaks go-sql-driver)
//
// It differs in these:
//   - every SQLSTATE is HY000, and what data violates (range, length, date, CHECK, syntax) is error
//     1105. Real numbers: 1048 NULL in a NOT NULL column, 1054 unknown column, 1062 duplicate key,
//     1146 unknown table
//   - SUM of DECIMAL adds exactly but answers as a rounded float: CAST(SUM(…) AS CHAR) gives all
//     digits
//   - CHAR keeps trailing blanks, and 'a ' = 'a' is false
//   - the default collation, utf8mb4_0900_bin, distinguishes case
//   - writing in a READ ONLY transaction loses the connection
//   - any name of a database can be given when connecting; reading it is refused
//
// Checked and as in MySQL: a failed statement leaves no rows, inside and outside of a transaction;
// ROLLBACK undoes; DDL commits; all bytes survive in VARBINARY and LONGBLOB, as literal and as
// parameter; CRC32(CONCAT_WS(_utf8mb4',' COLLATE …)) of columns of all types, _utf8mb4 0x…,
// DATETIME(6), REPLACE, SELECT … FOR UPDATE, information_schema.columns, rows affected of
// compare-and-set.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/mysql_db"
	"github.com/dolthub/go-mysql-server/sql/plan"
	vitess "github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/sirupsen/logrus"
)

// Config sets where the server listens and who may use it. Its JSON form is the command's input.
type Config struct {
	// Addr is the host:port to listen on; port 0 takes a free one.
	Addr string `json:"addr"`
	// Database is the only one. Its name and that of User are parts of SQL statements: letters,
	// digits, _ and -.
	Database string `json:"database"`
	// User is the only one, with all rights on Database and none beyond.
	User     string `json:"user"`
	Password string `json:"password"`
}

// Server serves one database until Close.
type Server struct {
	listener net.Listener
	server   *server.Server
	handler  *serialHandler
	served   chan struct{} // closed when the accept loop has ended
}

// Start returns a server that takes connections.
func Start(cfg Config) (*Server, error) {
	// go-mysql-server logs through logrus' global logger.
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)

	// LOAD_FILE and INTO OUTFILE ask for no privilege here, and would reach every file that we can.
	// Nothing can be below the null device.
	if err := gmssql.SystemVariables.AssignValues(
		map[string]any{"secure_file_priv": filepath.Join(os.DevNull, "none")}); err != nil {
		return nil, err
	}
	db := memory.NewDatabase(cfg.Database)
	db.EnablePrimaryKeyIndexes()
	provider := memory.NewDBProvider(db)
	e := sqle.NewDefault(provider)
	if err := createUser(e, provider, cfg); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, served: make(chan struct{})}
	sessions := &sessionMap{build: memory.NewSessionBuilder(provider),
		byConn: map[uint32]*memory.Session{}}
	s.server, err = server.NewServerWithHandler(
		server.Config{Listener: l, Address: l.Addr().String(), Version: "8.0.33-go-mysql-server"},
		e, gmssql.NewContext, sessions.open, nil,
		func(h vitess.Handler) (vitess.Handler, error) {
			s.handler = newSerialHandler(h, sessions)
			return s.handler, nil
		})
	if err != nil {
		l.Close()
		return nil, err
	}
	go func() {
		defer close(s.served)
		_ = s.server.Start()
	}()
	return s, nil
}

// createUser adds cfg's user, who is the only one, as MySQL's root would.
func createUser(e *sqle.Engine, provider *memory.DbProvider, cfg Config) error {
	privileges := e.Analyzer.Catalog.MySQLDb
	privileges.SetPersister(&mysql_db.NoopPersister{})
	privileges.AddRootAccount()
	session := memory.NewSession(gmssql.NewBaseSessionWithClientServer("",
		gmssql.Client{User: "root", Address: "localhost"}, 1), provider)
	ctx := gmssql.NewContext(context.Background(), gmssql.WithSession(session))
	quote := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace
	for _, step := range []struct{ what, query string }{
		{"create user", "CREATE USER '" + cfg.User + "'@'%' IDENTIFIED BY '" + quote(cfg.Password) + "'"},
		{"grant", "GRANT ALL ON `" + cfg.Database + "`.* TO '" + cfg.User + "'@'%'"},
		{"drop root", "DROP USER 'root'@'localhost'"},
	} {
		_, rows, _, err := e.Query(ctx, step.query)
		if err == nil {
			_, err = gmssql.RowIterToRows(ctx, rows)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// Addr returns the host:port that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends all connections and waits for what they run.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.served
	s.handler.close()
	// its background threads end by a canceled context
	if e := s.server.Engine.Close(); !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return err
}

// lockWait is how long a statement waits for another connection's transaction before it fails with
// MySQL's error 1205. Longer than any transaction of ours takes, shorter than a test's patience
// with one that waits for itself.
const lockWait = 15 * time.Second

// sessionMap builds sessions and finds them by connection.
type sessionMap struct {
	build  server.SessionBuilder
	mu     sync.Mutex
	byConn map[uint32]*memory.Session
}

func (b *sessionMap) open(ctx context.Context, c *vitess.Conn, addr string) (gmssql.Session,
	error) {
	s, err := b.build(ctx, c, addr)
	if err == nil {
		b.mu.Lock()
		b.byConn[c.ConnectionID] = s.(*memory.Session)
		b.mu.Unlock()
	}
	return s, err
}

func (b *sessionMap) of(c *vitess.Conn) *memory.Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byConn[c.ConnectionID]
}

func (b *sessionMap) close(c *vitess.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byConn, c.ConnectionID)
}

// serialHandler lets one transaction run at a time.
//
// The memory engine's transaction is a private copy of each table that it touched, reads included,
// and its commit puts the copies back whole. So whatever another connection committed between a
// transaction's first use of a table and its commit is gone, without an error:
//
//	A: BEGIN; SELECT count(*) FROM t    copies t (0 rows)
//	B: INSERT INTO t …                  commits t (1 row)
//	A: COMMIT                           puts back its copy (0 rows)
//
// Hence the lock: from the statement that begins a transaction, through to the one that ends it or
// the connection's end. The embedded interface leaves out the optional ExtendedHandler, so these
// methods see all statements.
type serialHandler struct {
	vitess.Handler
	sessions *sessionMap
	wait     time.Duration // lockWait, less in tests
	lock     chan struct{} // holds one token while a connection has the lock
	closed   chan struct{} // closed when the server stops

	mu    sync.Mutex
	owner uint32 // connection that keeps the lock between its statements, 0 for none
	conns map[uint32]*vitess.Conn
	live  sync.WaitGroup // one for each of conns
}

func newSerialHandler(h vitess.Handler, sessions *sessionMap) *serialHandler {
	return &serialHandler{
		Handler:  h,
		sessions: sessions,
		wait:     lockWait,
		lock:     make(chan struct{}, 1),
		closed:   make(chan struct{}),
		conns:    map[uint32]*vitess.Conn{},
	}
}

// run executes one statement of c under the lock and keeps the lock for c if a transaction is open
// afterwards.
func (h *serialHandler) run(c *vitess.Conn, statement func() error) error {
	if !h.owns(c) {
		timer := time.NewTimer(h.wait)
		defer timer.Stop()
		select {
		case h.lock <- struct{}{}:
			h.setOwner(c.ConnectionID)
		case <-timer.C:
			return vitess.NewSQLError(1205, "HY000",
				"Lock wait timeout exceeded; another connection has a transaction open, and the embedded "+
					"database runs one at a time")
		case <-h.closed:
			return vitess.NewSQLError(1053, "08S01", "Server shutdown in progress")
		}
	}
	err := statement()
	if !h.inTransaction(c) {
		h.release(c)
	}
	return err
}

// inTransaction reports whether c's session has a transaction open. One that a failed statement
// outside of a transaction left behind is dropped first: the engine would go on with its old
// copies.
func (h *serialHandler) inTransaction(c *vitess.Conn) bool {
	s := h.sessions.of(c)
	if s == nil || s.GetTransaction() == nil {
		return false
	}
	if !s.GetIgnoreAutoCommit() {
		autocommit, err := plan.IsSessionAutocommit(gmssql.NewContext(context.Background(),
			gmssql.WithSession(s)))
		if err != nil || autocommit {
			s.SetTransaction(nil)
			return false
		}
	}
	return true
}

func (h *serialHandler) owns(c *vitess.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owner == c.ConnectionID
}

func (h *serialHandler) setOwner(id uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owner = id
}

// release gives the lock up if c has it.
func (h *serialHandler) release(c *vitess.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner == c.ConnectionID {
		h.owner = 0
		<-h.lock
	}
}

func (h *serialHandler) NewConnection(c *vitess.Conn) {
	h.Handler.NewConnection(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed: // accepted just before the listener closed
		c.Close()
	default:
		h.conns[c.ConnectionID] = c
		h.live.Add(1)
	}
}

// ConnectionClosed drops what c left uncommitted, and the lock: a client that dies in a transaction
// stops nobody.
func (h *serialHandler) ConnectionClosed(c *vitess.Conn) {
	defer func() {
		h.sessions.close(c)
		h.release(c)
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.conns[c.ConnectionID]; ok {
			delete(h.conns, c.ConnectionID)
			h.live.Done()
		}
	}()
	h.Handler.ConnectionClosed(c)
}

// ComResetConnection gives c a new session, without the old one's transaction.
func (h *serialHandler) ComResetConnection(c *vitess.Conn) error {
	return h.run(c, func() error { return h.Handler.ComResetConnection(c) })
}

func (h *serialHandler) ComQuery(ctx context.Context, c *vitess.Conn, query string,
	callback vitess.ResultSpoolFn) error {
	return h.run(c, func() error { return h.Handler.ComQuery(ctx, c, query, callback) })
}

func (h *serialHandler) ComMultiQuery(ctx context.Context, c *vitess.Conn, query string,
	callback vitess.ResultSpoolFn) (rest string, err error) {
	err = h.run(c, func() error {
		rest, err = h.Handler.ComMultiQuery(ctx, c, query, callback)
		return err
	})
	return rest, err
}

func (h *serialHandler) ComPrepare(ctx context.Context, c *vitess.Conn, query string,
	prepare *vitess.PrepareData) (fields []*querypb.Field, err error) {
	err = h.run(c, func() error {
		fields, err = h.Handler.ComPrepare(ctx, c, query, prepare)
		return err
	})
	return fields, err
}

func (h *serialHandler) ComStmtExecute(ctx context.Context, c *vitess.Conn,
	prepare *vitess.PrepareData, callback func(*sqltypes.Result) error) error {
	return h.run(c, func() error { return h.Handler.ComStmtExecute(ctx, c, prepare, callback) })
}

// close ends all clients' connections and waits for what they run: the server's own Close ends its
// listener only.
func (h *serialHandler) close() {
	h.mu.Lock()
	close(h.closed)
	for _, c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.live.Wait()
}
