package db

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/toll"
)

// TestTiDBVersions refuses those of which LOAD DATA commits, and no other server.
func TestTiDBVersions(t *testing.T) {
	for version, refused := range map[string]bool{
		"8.0.11-TiDB-v7.5.7":                       true,
		"5.7.25-TiDB-v6.5.12":                      true,
		"8.0.11-TiDB-v7.6.0":                       false,
		"8.0.11-TiDB-v8.5.0-20251126-e4e814fdc0af": false,
		"8.0.11-TiDB-v10.0.1":                      false,
		"8.0.11-TiDB-CLOUD.202506.1":               false,
		"8.0.31":                                   false,
		"5.5.5-10.11.6-MariaDB-0+deb12u1":          false,
		"10.11.6-MariaDB-1:10.11.6+maria~deb12 · like v7.5 TiDB": false,
	} {
		err := refuseOldTiDB(version)
		if toll.IsPermanent(err) != refused || (err != nil) != refused {
			t.Errorf("%s: %v, want refused %v", version, err, refused)
		}
	}
}

// TestConflict tells what rolled back for another transaction from what failed.
func TestConflict(t *testing.T) {
	for _, c := range []struct {
		number   uint16
		message  string
		conflict bool
	}{
		{1213, "Deadlock found when trying to get lock; try restarting transaction", true},
		{1205, "Lock wait timeout exceeded; try restarting transaction", true},
		{1180, "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT", true},
		{1180, `Got error 28 "No space left on device" during COMMIT`, false},
		{3101, "Plugin instructed the server to rollback the current transaction.", true},
		{9007, "Write conflict, txnStartTS=1, conflictStartTS=2 [try again later]", true},
		{8028, "Information schema is changed during the execution of the statement", true},
		{1047, "WSREP has not yet prepared node for application use", false},
		{1062, "Duplicate entry", false},
	} {
		err := fmt.Errorf("store: %w", &mysql.MySQLError{Number: c.number, Message: c.message})
		if Conflict(err) != c.conflict {
			t.Errorf("error %d, %s: want %v", c.number, c.message, c.conflict)
		}
	}
}

// TestNotSupported ends what no server of this kind will ever do, with a hint, where a retry would
// never end.
func TestNotSupported(t *testing.T) {
	d := &DB{Address: "127.0.0.1:4000/tolldata"}
	for number, c := range map[uint16]struct{ state, hint string }{
		1235: {"42000", "docs/operations.md"}, // of START TRANSACTION READ ONLY
		8108: {"HY000", "docs/operations.md"},
		8200: {"HY000", "docs/operations.md"},
		1289: {"0A000", "docs/operations.md"},
		8004: {"HY000", "--batch-rows"},
		3098: {"HY000", "sql_require_primary_key"},
	} {
		my := &mysql.MySQLError{Number: number, Message: "no"}
		copy(my.SQLState[:], c.state)
		err := d.Wrap("store", my)
		var p *toll.PermanentError
		if !errors.As(err, &p) || !strings.Contains(p.Hint, c.hint) {
			t.Errorf("error %d: %v, want a permanent one that hints at %s", number, err, c.hint)
		}
	}
}
