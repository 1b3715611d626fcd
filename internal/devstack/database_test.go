package devstack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/testkit"
)

func needDatabase(t *testing.T, engine string) {
	t.Helper()
	testkit.NeedDatabase(t, engine, HasDatabase)
}

func needMariaDB(t *testing.T) {
	t.Helper()
	needDatabase(t, engineMariaDB)
}

// checkTransactions has writers that insert, compare and set, and commit or roll back, in parallel
// with readers that poll inside and outside of transactions, and counts.
func checkTransactions(t *testing.T, db *sql.DB) {
	const writers, rounds, rows = 4, 30, 20
	mustExec(t, db, "CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL)")
	// no key, as livetolldata
	mustExec(t, db, "CREATE TABLE entry (writer INT NOT NULL, n BIGINT NOT NULL)")
	for w := range writers {
		mustExec(t, db, "INSERT INTO counter VALUES (?, 0)", w)
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers, writing sync.WaitGroup
	for i := range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if i == 0 {
					var n int
					_ = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM entry").Scan(&n)
					continue
				}
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
				if err != nil {
					continue
				}
				var sum, n int64
				err = errors.Join(tx.QueryRowContext(ctx, "SELECT SUM(n) FROM counter").Scan(&sum),
					tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM entry").Scan(&n))
				if err == nil && sum != n {
					t.Errorf("in one transaction: counters say %d, %d rows", sum, n)
				}
				_ = tx.Commit()
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for round, done := 0, int64(0); round < rounds; round++ {
				commit := round%3 != 2
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					values := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("(%d,%d),", w, round), rows), ",")
					if _, err := tx.Exec("INSERT INTO entry VALUES " + values); err != nil {
						t.Error(err)
					}
				}
				res, err := tx.Exec("UPDATE counter SET n = ? WHERE id = ? AND n = ?", done+2*rows, w, done)
				if err != nil {
					t.Error(err)
					return
				}
				if n, _ := res.RowsAffected(); n != 1 {
					t.Errorf("writer %d, round %d: compare and set changed %d rows", w, round, n)
				}
				if commit {
					done += 2 * rows
					err = tx.Commit()
				} else {
					err = tx.Rollback()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	stop()
	readers.Wait()
	const want = writers * rounds / 3 * 2 * 2 * rows
	if n := queryInt(t, db, "SELECT COUNT(*) FROM entry"); n != want {
		t.Errorf("%d rows, want %d", n, want)
	}
	if n := queryInt(t, db, "SELECT SUM(n) FROM counter"); n != want {
		t.Errorf("counters say %d, want %d", n, want)
	}
}

// TestDatabaseUser checks on each engine that exactly the one user gets in.
func TestDatabaseUser(t *testing.T) {
	t.Parallel()
	for _, kind := range testEngines {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			needDatabase(t, kind)
			d := startTestDatabase(t, DatabaseConfig{Engine: kind, Name: "other_name", User: "someone",
				Password: `it's "a" \ secret`})
			if d.Engine() != kind {
				t.Errorf("engine %s", d.Engine())
			}
			if err := openSQL(t, d.DSN()).Ping(); err != nil {
				t.Error(err)
			}
			for what, change := range map[string]func(*mysql.Config){
				"wrong password": func(c *mysql.Config) { c.Passwd = "secret" },
				"no password":    func(c *mysql.Config) { c.Passwd = "" },
				"root":           func(c *mysql.Config) { c.User, c.Passwd = "root", "" },
				"nobody":         func(c *mysql.Config) { c.User, c.Passwd = "", "" },
				"other database": func(c *mysql.Config) { c.DBName = "mysql" },
				"like database":  func(c *mysql.Config) { c.DBName = "otherXname" },
			} {
				cfg, err := mysql.ParseDSN(d.DSN())
				if err != nil {
					t.Fatal(err)
				}
				change(cfg)
				// The embedded database lets anybody choose another database, and refuses to read it.
				_, err = openSQL(t, cfg.FormatDSN()).Query("SELECT * FROM mysql.user")
				var refused *mysql.MySQLError
				if !errors.As(err, &refused) {
					t.Errorf("%s: %v, want the server to refuse", what, err)
				}
			}
		})
	}
}

func TestExternalServers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{engineMariaDB, engineMySQL} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testExternalServer(t, kind)
		})
	}
}

func testExternalServer(t *testing.T, kind string) {
	needDatabase(t, kind)
	// A folder whose socket would be too long to have an address.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	d, err := StartDatabase(testContext(t), DatabaseConfig{Engine: kind, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Persistent() || d.Pid() == 0 {
		t.Errorf("persistent %v, pid %d", d.Persistent(), d.Pid())
	}
	db := openSQL(t, d.DSN())
	checkTransactions(t, db)
	var version string
	if err := db.QueryRow("SELECT @@version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if is := strings.Contains(version, "MariaDB"); is == (kind == engineMySQL) {
		t.Errorf("%s is version %s", kind, version)
	}

	// What the project relies on.
	if got := queryInt(t, db, "SELECT @@local_infile"); got != 1 {
		t.Error("local_infile is off")
	}
	if got := queryInt(t, db, "SELECT @@innodb_flush_log_at_trx_commit"); got != 1 {
		t.Error("commits are not durable")
	}
	mysql.RegisterReaderHandler(kind, func() io.Reader { return strings.NewReader("1\t2\n3\t4\n") })
	defer mysql.DeregisterReaderHandler(kind)
	mustExec(t, db, "CREATE TABLE loaded (a INT, b INT)")
	mustExec(t, db, "LOAD DATA LOCAL INFILE 'Reader::"+kind+"' INTO TABLE loaded")
	if n := queryInt(t, db, "SELECT SUM(a * b) FROM loaded"); n != 14 {
		t.Errorf("loaded rows sum up to %d, want 14", n)
	}

	pid, addr := d.Pid(), d.Addr()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO loaded VALUES (5, 6)"); err != nil {
		t.Fatal(err)
	}
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("process is still there after Kill")
	}
	began := time.Now()
	if err := d.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again in %v after a kill", time.Since(began).Round(time.Millisecond))
	if d.Addr() != addr || d.Pid() == pid {
		t.Errorf("restarted as %d on %s, was %d on %s", d.Pid(), d.Addr(), pid, addr)
	}
	if n := queryInt(t, openSQL(t, d.DSN()), "SELECT COUNT(*) FROM loaded"); n != 2 {
		t.Errorf("%d rows after the kill, want 2", n)
	}
	if err := d.Restart(testContext(t)); err != nil { // of a running server
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(d.Pid()) {
		t.Error("process is still there after Close")
	}
	if err := d.Restart(testContext(t)); !errors.Is(err, errClosed) {
		t.Errorf("restart after Close: %v", err)
	}
	again := startTestDatabase(t,
		DatabaseConfig{Engine: kind, DataDir: dir, Addr: addr, Password: "changed"})
	if n := queryInt(t, openSQL(t, again.DSN()), "SELECT COUNT(*) FROM loaded"); n != 2 {
		t.Errorf("%d rows in the next run, want 2", n)
	}
}

func TestDatabaseRefusals(t *testing.T) {
	t.Parallel()
	needMariaDB(t)
	dir, broken := t.TempDir(), t.TempDir()
	d := startTestDatabase(t, DatabaseConfig{Engine: "mariadb", DataDir: dir})
	if err := os.MkdirAll(filepath.Join(broken, "data", "mysql"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "data", "ibdata1"), []byte("no tablespace"),
		0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  DatabaseConfig
		want string
	}{
		{DatabaseConfig{Engine: "mariadb", DataDir: dir}, "in use by another running database"},
		{DatabaseConfig{Engine: "mariadb", Addr: d.Addr()}, d.Addr() + " is taken by another program"},
		// as its log says
		{DatabaseConfig{Engine: "mariadb", DataDir: broken}, "ib_logfile0 was not found"},
		{DatabaseConfig{Engine: "oracle"}, `engine "oracle"`},
		{DatabaseConfig{Name: "a`b"}, "database name"},
	} {
		second, err := StartDatabase(testContext(t), c.cfg)
		if err == nil {
			second.Close()
			t.Errorf("%+v: started, want error with %q", c.cfg, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		} else {
			t.Log(err)
		}
	}
}

// TestDatabaseStartCancelled wants neither process nor temporary folder left.
func TestDatabaseStartCancelled(t *testing.T) {
	needMariaDB(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond,
		350 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		d, err := StartDatabase(ctx, DatabaseConfig{Engine: "mariadb"})
		cancel()
		if err == nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", after, err)
		}
		left, err := os.ReadDir(tmp)
		if err != nil || len(left) > 0 {
			t.Errorf("after %v: left %v %v", after, left, err)
		}
	}
}

func TestDatabasePicksWhatThereIs(t *testing.T) {
	t.Parallel()
	want := engineMariaDB
	if !HasDatabase(engineMariaDB) {
		want = engineEmbedded
		needDatabase(t, want)
	}
	d := startTestDatabase(t, DatabaseConfig{})
	if d.Engine() != want {
		t.Errorf("engine %s, want %s", d.Engine(), want)
	}
	host, _, err := net.SplitHostPort(d.Addr())
	if err != nil || host != "127.0.0.1" {
		t.Errorf("listens on %s, want loopback", d.Addr())
	}
}

var testEngines = []string{engineMariaDB, engineMySQL, engineEmbedded}

// TestEmbeddedTransactions fails without the embedded server's lock: most of the rows go missing.
func TestEmbeddedTransactions(t *testing.T) {
	t.Parallel()
	needDatabase(t, engineEmbedded)
	d := startTestDatabase(t, DatabaseConfig{Engine: engineEmbedded})
	checkTransactions(t, openSQL(t, d.DSN()))
}

func TestEmbeddedProcess(t *testing.T) {
	t.Parallel()
	needDatabase(t, engineEmbedded)
	d := startTestDatabase(t, DatabaseConfig{Engine: engineEmbedded})
	if second, err := StartDatabase(t.Context(),
		DatabaseConfig{Engine: engineEmbedded, Addr: d.Addr()}); err == nil {
		second.Close()
		t.Error("started on a taken port")
	} else if !strings.Contains(err.Error(), "is taken by another program") {
		t.Error(err)
	}
	if !alive(d.Pid()) || d.Persistent() {
		t.Errorf("runs %v, persistent %v", alive(d.Pid()), d.Persistent())
	}
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if alive(d.Pid()) {
		t.Error("process is still there after Close")
	}
	if took := time.Since(began); took > embeddedStop/2 {
		t.Errorf("closing took %v", took)
	}
}

// TestEmbeddedMissing wants errors that say what to do where the command does not exist or fails.
func TestEmbeddedMissing(t *testing.T) {
	script := filepath.Join(t.TempDir(), EmbeddedCommand)
	t.Setenv("TOLLSTREAM_EMBEDDED", script)
	start := func() error {
		d, err := StartDatabase(t.Context(), DatabaseConfig{Engine: engineEmbedded})
		if err == nil {
			d.Close()
		}
		return err
	}
	if HasDatabase(engineEmbedded) {
		t.Error("has an embedded database")
	}
	if err := start(); !errors.Is(err, errNoEmbedded) {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"echo no memory >&2; exit 1": "ended: no memory",
		"exit 0":                     "ended: its log is empty",
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\nread settings\n"+text+"\n"),
			0o700); err != nil {
			t.Fatal(err)
		}
		if err := start(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
