package devstack

import (
	"context"
	"database/sql"
	"testing"
	"time"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startTestDatabase(t *testing.T, cfg DatabaseConfig) *Database {
	t.Helper()
	began := time.Now()
	d, err := StartDatabase(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s ready in %v", d.Engine(), time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		began := time.Now()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("%s closed in %v", d.Engine(), time.Since(began).Round(time.Millisecond))
	})
	return d
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

func queryInt(t *testing.T, db *sql.DB, query string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
