package sql

import (
	"context"
	"strings"
	"testing"
)

// TestBind lets a store that is bound to a database connect to that one only, whatever it does.
func TestBind(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		initialize(t, s)
		meta, err := s.Meta(ctx)
		if err != nil {
			t.Fatal(err)
		}
		bound := openStore(t, s.cfg.DSN)
		bound.db.SetMaxIdleConns(-1) // each call makes a connection
		bound.Bind(meta)
		if _, err := bound.Meta(ctx); err != nil {
			t.Fatalf("the database that it is bound to: %v", err)
		}
		for _, change := range []string{`UPDATE toll_meta SET database_id = 'another'`, `DELETE FROM toll_meta`, `DROP TABLE toll_meta`} {
			run(t, s, change)
			w := bound.Writer("topic")
			_, err = w.Cursor(ctx, 0)
			wantPermanent(t, err, "another database answers at "+s.address, meta.DatabaseID)
			_, _, err = w.Load(ctx, 0, 7)
			wantPermanent(t, err, "another database answers at")
			if n := number64(t, s, `SELECT COUNT(*) FROM toll_cursor`); n != 0 {
				t.Fatalf("%s: %d cursors were made in another database", change, n)
			}
		}
	})
}

// TestDeadHostTimeouts checks that MariaDB, which leaves out comments that begin with M!, was asked to end the transactions of hosts
// that are dead.
func TestDeadHostTimeouts(t *testing.T) {
	s := openEmpty(t, "mariadb")
	initialize(t, s)
	var wait, idle, read int
	if err := s.db.QueryRow(`SELECT @@wait_timeout, @@idle_transaction_timeout, @@net_read_timeout`).Scan(&wait, &idle, &read); err != nil {
		if strings.Contains(err.Error(), "idle_transaction_timeout") {
			t.Skip("this server is not MariaDB")
		}
		t.Fatal(err)
	}
	if wait != 20 || idle != 10 || read != 5 {
		t.Errorf("wait_timeout %d, idle_transaction_timeout %d, net_read_timeout %d", wait, idle, read)
	}
}
