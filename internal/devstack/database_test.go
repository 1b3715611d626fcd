package devstack

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	for _, e := range []string{"mariadb", "embedded"} {
		t.Run(e, func(t *testing.T) {
			d := startTestDatabase(t, DatabaseConfig{Engine: e})
			db := openSQL(t, d.DSN())
			mustExec(t, db, "CREATE TABLE t (a int)")
			mustExec(t, db, "INSERT INTO t VALUES (1),(2)")
			if n := queryInt(t, db, "SELECT COUNT(*) FROM t"); n != 2 {
				t.Error(n)
			}
		})
	}
}
