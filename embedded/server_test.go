package embedded

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// start starts a server, which the test closes, and returns how to reach it.
func start(t *testing.T) (s *Server, dsn string) {
	t.Helper()
	s, err := Start(Config{Addr: "127.0.0.1:0", Database: "tolldata", User: "toll", Password: "toll"})
	if err != nil {
		t.Fatal(err)
	}
	return s, "toll:toll@tcp(" + s.Addr() + ")/tolldata"
}

func openSQL(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
}

// TestFeatures records what works and what doesn't, so that a new version of
// go-mysql-server shows where it differs. The package comment sums it up.
func TestFeatures(t *testing.T) {
	s, dsn := start(t)
	defer s.Close()
	db := openSQL(t, dsn)
	for _, c := range []struct {
		sql  string
		want string // an error's text, or the values of the first row
	}{
		// What works.
		{`SELECT @@local_infile, @@max_allowed_packet, @@autocommit, @@transaction_isolation`,
			"0 1073741824 1 REPEATABLE-READ"},
		{`SELECT DATABASE(), CURRENT_USER()`, "tolldata toll@%"},
		{`SET SESSION sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00'`, ""},
		{`SET NAMES utf8mb4`, ""},
		{`CREATE TABLE IF NOT EXISTS keyed (id INT PRIMARY KEY, plaza INT NOT NULL, ts DATETIME NOT NULL,
			ts6 DATETIME(6), typ CHAR(10), bin VARBINARY(300),
			blo LONGBLOB) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`, ""},
		{`CREATE TABLE IF NOT EXISTS keyed (id INT PRIMARY KEY)`, ""},
		{`CREATE TABLE keyless (timestamp DATETIME, vehicle_id INT, vehicle_type CHAR(15),
			toll_plaza_id SMALLINT)`, ""},
		{`INSERT INTO keyed (id, plaza, ts, ts6, typ) VALUES (1, 4856, '2021-08-19 21:54:38',
			'2021-08-19 21:54:38.123456', 'car'), (2, 4857, '2021-08-19 21:54:39', NULL, 'Car')`, ""},
		{`INSERT INTO keyed (id, plaza, ts) VALUES (3, 1, '2021-01-01'), (1, 1, '2021-01-01')`,
			"Error 1062 (HY000): duplicate primary key"},
		{`SELECT COUNT(*) FROM keyed`, "2"}, // a failed statement leaves nothing
		{`INSERT INTO keyed (id, plaza, ts) VALUES (2, 1, '2021-01-01') ON DUPLICATE KEY UPDATE plaza =
			VALUES(plaza) + 1`, ""},
		{`REPLACE INTO keyed (id, plaza, ts) VALUES (2, 7, '2021-01-01')`, ""},
		{`INSERT INTO keyless SELECT ts, id, typ, plaza FROM keyed`, ""},
		{`SELECT id, ts, ts6, CAST(ts6 AS CHAR) FROM keyed WHERE id = 1 FOR UPDATE`,
			"1 2021-08-19 21:54:38 2021-08-19 21:54:38.123456 2021-08-19 21:54:38.123456"},
		{`SELECT CRC32(CONCAT_WS(_utf8mb4',' COLLATE utf8mb4_bin, timestamp, vehicle_id, vehicle_type,
			toll_plaza_id)) FROM keyless WHERE vehicle_id = 1`,
			fmt.Sprint(crc32.ChecksumIEEE([]byte("2021-08-19 21:54:38,1,car,4856")))},
		{`SELECT _utf8mb4 0x636172, HEX(_utf8mb4 X'c3a4')`, "car C3A4"},
		{`UPDATE keyed SET bin = 0x00ff80c3, blo = X'00ff80c3' WHERE id = 2`, ""},
		{`SELECT HEX(bin), HEX(blo) FROM keyed WHERE id = 2`, "00FF80C3 00FF80C3"},
		{`SELECT data_type, column_type, character_maximum_length, is_nullable, column_key
			FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'keyed'
			AND column_name = 'typ'`, "char char(10) 10 YES "},
		{`INSERT INTO keyless SELECT timestamp, 9, vehicle_type, 9 FROM keyless WHERE EXISTS (SELECT 1
			FROM keyed WHERE id = 2) LIMIT 1`, ""},
		{`SELECT toll_plaza_id, RANK() OVER (ORDER BY n DESC) FROM (SELECT toll_plaza_id, COUNT(*) n
			FROM keyless GROUP BY toll_plaza_id) t ORDER BY 1 LIMIT 1`, "7 1"},
		{`START TRANSACTION WITH CONSISTENT SNAPSHOT`, ""},
		{`COMMIT`, ""},
		// What works otherwise than in MySQL.
		{`INSERT INTO keyed (id, plaza, ts) VALUES (5, 99999999999, '2021-01-01')`,
			"Error 1105 (HY000): 99999999999 out of range for int"},
		{`INSERT INTO keyed (id, plaza, ts) VALUES (5, 1, '2021-02-30')`,
			"Error 1105 (HY000): Incorrect datetime value"},
		{`INSERT INTO keyed (id, plaza, ts, typ) VALUES (5, 1, '2021-02-03', 'more than ten')`,
			"Error 1105 (HY000): string 'more than ten' is too large"},
		{`INSERT INTO missing VALUES (1)`, "Error 1146 (HY000)"},
		{`SELECT 'a ' = 'a'`, "0"},
		{`INSERT INTO keyed (id, plaza, ts, typ) VALUES (6, 1, '2021-02-03', 'ab ')`, ""},
		{`SELECT HEX(typ) FROM keyed WHERE id = 6`, "616220"}, // CHAR keeps trailing blanks
		{`SELECT CAST(SUM(CAST(n AS DECIMAL(30,0))) AS CHAR), SUM(CAST(n AS DECIMAL(30,0)))
			FROM (SELECT 9007199254740993 n UNION ALL SELECT 2) t`,
			"9007199254740995 9.007199254740996e+15"},
		{`SELECT LOAD_FILE('/etc/passwd')`, "Error 1105"},
		{`SELECT 'x' INTO OUTFILE '/tmp/devstack-outfile'`, "Error 1105"},
		// What doesn't work.
		{`LOAD DATA LOCAL INFILE 'Reader::x' INTO TABLE keyless`,
			"Error 1105 (HY000): command denied to user"},
		{`SELECT @@warning_count`, "Error 1105 (HY000): Unknown system variable"},
		{`SAVEPOINT a`, "Error 1105 (HY000): savepoints are not supported"},
		{`UPDATE keyed SET plaza = 5 WHERE id = 1 AND EXISTS (SELECT 1 FROM keyless
			WHERE toll_plaza_id = 7)`, "Error 1105 (HY000): attempted to evaluate uninitialized subquery"},
		{`DELETE FROM keyed WHERE EXISTS (SELECT 1 FROM keyless)`,
			"Error 1105 (HY000): attempted to evaluate uninitialized subquery"},
		{`UPDATE keyless SET toll_plaza_id = 9 WHERE toll_plaza_id IN (SELECT 2)`,
			"Error 1105 (HY000): unsupported feature"},
		{`SELECT plaza, RANK() OVER (ORDER BY COUNT(*) DESC) FROM keyed GROUP BY plaza`, "Error 1105"},
		{`INSERT INTO keyed (id, plaza, ts) SELECT id, plaza, ts FROM keyed
			ON DUPLICATE KEY UPDATE plaza = VALUES(plaza)`, "Error 1105 (HY000): expected ON DUPLICATE KEY"},
		{`SET SESSION innodb_lock_wait_timeout = 5`,
			"Error 1105 (HY000): Variable 'innodb_lock_wait_timeout' is a GLOBAL"},
		{`START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY`, "Error 1105 (HY000): syntax error"},
	} {
		got := firstRow(db, c.sql)
		if got != c.want &&
			(c.want == "" || !strings.HasPrefix(c.want, "Error") || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}

	// All bytes survive, as text and as parameter.
	raw := make([]byte, 256)
	for i := range raw {
		raw[i] = byte(i)
	}
	for _, params := range []bool{true, false} {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.InterpolateParams = !params
		db := openSQL(t, cfg.FormatDSN())
		mustExec(t, db, "UPDATE keyed SET bin = ?, blo = ? WHERE id = ?", raw, raw, 1)
		var bin, blo []byte
		if err := db.QueryRow("SELECT bin, blo FROM keyed WHERE id = ? AND bin = ?", 1, raw).Scan(&bin,
			&blo); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(bin, raw) || !bytes.Equal(blo, raw) {
			t.Errorf("binary read back as %x and %x", bin, blo)
		}
	}

	// autocommit = 0 opens transactions as well, and DDL ends them.
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, s := range []string{
		"CREATE TABLE s (a INT PRIMARY KEY)", "SET autocommit = 0",
		"INSERT INTO s VALUES (1)", "ROLLBACK", "INSERT INTO s VALUES (2)", "COMMIT",
		"INSERT INTO s VALUES (3)", "CREATE TABLE z (a INT)", "ROLLBACK", "SET autocommit = 1",
	} {
		mustExec(t, c, s)
	}
	if got := firstRow(db, "SELECT GROUP_CONCAT(a) FROM s"); got != "2,3" {
		t.Errorf("table holds %s, want 2,3", got)
	}
}

// firstRow runs one statement and returns its first row as text, or its error.
func firstRow(db *sql.DB, query string) string {
	rows, err := db.Query(query)
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err.Error()
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	var text []string
	if rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return err.Error()
		}
		for _, v := range values {
			switch v := (*v.(*any)).(type) {
			case []byte:
				text = append(text, string(v))
			default:
				text = append(text, fmt.Sprint(v))
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err.Error()
	}
	return strings.Join(text, " ")
}

// TestLock covers who waits for whom.
func TestLock(t *testing.T) {
	s, dsn := start(t)
	db := openSQL(t, dsn)
	mustExec(t, db, "CREATE TABLE t (a INT PRIMARY KEY)")

	begin := func() *sql.Conn {
		t.Helper()
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, c, "BEGIN")
		return c
	}
	insertSoon := func(value int) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := db.Exec("INSERT INTO t VALUES (?)", value)
			done <- err
		}()
		return done
	}
	free := func(done <-chan error) {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * lockWait): // a lock that is still held makes it fail sooner
			t.Error("still waiting")
		}
	}

	t.Run("dead client", func(t *testing.T) {
		c := begin()
		mustExec(t, c, "INSERT INTO t VALUES (1)")
		done := insertSoon(2)
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		// The connection goes without a word, as a killed client's does.
		if err := c.Raw(func(any) error {
			return driver.ErrBadConn
		}); !errors.Is(err, driver.ErrBadConn) {
			t.Fatal(err)
		}
		free(done)
		if got := firstRow(db, "SELECT GROUP_CONCAT(a) FROM t"); got != "2" {
			t.Errorf("table holds %s, want 2", got)
		}
	})

	t.Run("failed statement", func(t *testing.T) {
		// Outside of a transaction it must leave neither the lock nor old copies of the tables.
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, s := range []string{"INSERT INTO t VALUES (3), (2)", "SELECT nothing FROM t", "SELEC",
			"INSERT INTO t VALUES (NULL)"} {
			if _, err := c.ExecContext(t.Context(), s); err == nil {
				t.Errorf("%s succeeded", s)
			}
		}
		free(insertSoon(4))
		mustExec(t, c, "INSERT INTO t VALUES (5)")
		if got := firstRow(db, "SELECT GROUP_CONCAT(a) FROM t"); got != "2,4,5" {
			t.Errorf("table holds %s, want 2,4,5", got)
		}
	})

	t.Run("write in a read-only transaction", func(t *testing.T) {
		// go-mysql-server breaks such a connection instead of answering.
		tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO t VALUES (6)"); err == nil {
			t.Error("wrote in a read-only transaction")
		}
		_ = tx.Rollback()
		free(insertSoon(7))
	})

	t.Run("waits for itself", func(t *testing.T) {
		wait := 300 * time.Millisecond
		s.handler.wait = wait
		c := begin()
		defer c.Close()
		began := time.Now()
		var refused *mysql.MySQLError
		if _, err := db.Exec("INSERT INTO t VALUES (8)"); !errors.As(err, &refused) ||
			refused.Number != 1205 {
			t.Errorf("%v, want error 1205", err)
		}
		if d := time.Since(began); d < wait || d > lockWait {
			t.Errorf("waited %v, want %v", d, wait)
		}
		mustExec(t, c, "ROLLBACK")
		free(insertSoon(9))
	})

	t.Run("close", func(t *testing.T) {
		begin()
		done := insertSoon(10)
		time.Sleep(50 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("inserted into a closed server")
		}
	})
}
