//go:build !noembedded

package devstack

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

// lockWait is how long a statement waits for another connection's transaction before it fails with
// MySQL's error 1205. Longer than any transaction of ours takes, shorter than a test's patience
// with one that waits for itself.
const lockWait = 15 * time.Second

// embedded is a go-mysql-server over its memory engine, inside this process.
type embedded struct {
	listener net.Listener
	server   *server.Server
	handler  *serialHandler
	served   chan struct{} // closed when the accept loop has ended
}

func startEmbedded(_ context.Context, cfg DatabaseConfig) (engine, error) {
	host, port, err := splitAddr(cfg.Addr)
	if err != nil {
		return nil, err
	}
	// go-mysql-server logs through logrus' global logger, which nothing else in a program that embeds
	// it should need.
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)

	// LOAD_FILE and INTO OUTFILE ask for no privilege here, and would reach every file that we can.
	// Nothing can be below the null device. MySQL fixes this variable at its start, so setting it for
	// the process takes nothing from anybody.
	if err := gmssql.SystemVariables.AssignValues(
		map[string]any{"secure_file_priv": filepath.Join(os.DevNull, "none")}); err != nil {
		return nil, err
	}
	db := memory.NewDatabase(cfg.Name)
	db.EnablePrimaryKeyIndexes()
	provider := memory.NewDBProvider(db)
	e := sqle.NewDefault(provider)
	if err := createUser(e, provider, cfg); err != nil {
		return nil, err
	}
	l, err := listen(host, port)
	if err != nil {
		return nil, err
	}
	m := &embedded{listener: l, served: make(chan struct{})}
	sessions := &sessionBook{build: memory.NewSessionBuilder(provider),
		byConn: map[uint32]*memory.Session{}}
	m.server, err = server.NewServerWithHandler(
		server.Config{Listener: l, Address: l.Addr().String(), Version: "8.0.33-go-mysql-server"},
		e, gmssql.NewContext, sessions.open, nil,
		func(h vitess.Handler) (vitess.Handler, error) {
			m.handler = newSerialHandler(h, sessions)
			return m.handler, nil
		})
	if err != nil {
		l.Close()
		return nil, err
	}
	go func() {
		defer close(m.served)
		_ = m.server.Start()
	}()
	return m, nil
}

// createUser adds cfg's user, who is the only one, as MySQL's root would.
func createUser(e *sqle.Engine, provider *memory.DbProvider, cfg DatabaseConfig) error {
	privileges := e.Analyzer.Catalog.MySQLDb
	privileges.SetPersister(&mysql_db.NoopPersister{})
	privileges.AddRootAccount()
	session := memory.NewSession(gmssql.NewBaseSessionWithClientServer("",
		gmssql.Client{User: "root", Address: "localhost"}, 1), provider)
	ctx := gmssql.NewContext(context.Background(), gmssql.WithSession(session))
	quote := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace
	for _, step := range []struct{ what, query string }{
		{"create user", "CREATE USER '" + cfg.User + "'@'%' IDENTIFIED BY '" + quote(cfg.Password) + "'"},
		{"grant", "GRANT ALL ON `" + cfg.Name + "`.* TO '" + cfg.User + "'@'%'"},
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

func (m *embedded) addr() string { return m.listener.Addr().String() }

func (m *embedded) close() error {
	err := m.server.Close()
	<-m.served
	m.handler.close()
	// which is how its background threads end
	if e := m.server.Engine.Close(); !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return err
}

// sessionBook builds sessions and finds them again by connection.
type sessionBook struct {
	build  server.SessionBuilder
	mu     sync.Mutex
	byConn map[uint32]*memory.Session
}

func (b *sessionBook) open(ctx context.Context, c *vitess.Conn, addr string) (gmssql.Session,
	error) {
	s, err := b.build(ctx, c, addr)
	if err == nil {
		b.mu.Lock()
		b.byConn[c.ConnectionID] = s.(*memory.Session)
		b.mu.Unlock()
	}
	return s, err
}

func (b *sessionBook) of(c *vitess.Conn) *memory.Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byConn[c.ConnectionID]
}

func (b *sessionBook) close(c *vitess.Conn) {
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
	sessions *sessionBook
	wait     time.Duration // lockWait, less in tests
	lock     chan struct{} // holds one token while a connection has the lock
	closed   chan struct{} // closed when the server stops

	mu    sync.Mutex
	owner uint32 // connection that keeps the lock between its statements, 0 for none
	conns map[uint32]*vitess.Conn
	live  sync.WaitGroup // one for each of conns
}

func newSerialHandler(h vitess.Handler, sessions *sessionBook) *serialHandler {
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
				"Lock wait timeout exceeded; another connection has a transaction open, and the embedded database runs one at a time")
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
