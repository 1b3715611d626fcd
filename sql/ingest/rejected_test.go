package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
)

// refusals are ways in which an operator's own livetolldata refuses some of the rows of a valid
// batch.
var refusals = []struct {
	name   string
	alter  []string // after the columns
	events []toll.Event
	bad    []int    // rows
	number []uint16 // on MySQL or MariaDB
}{
	{
		name: "partitions",
		alter: []string{`ALTER TABLE livetolldata PARTITION BY RANGE (TO_DAYS(timestamp))
			(PARTITION p VALUES LESS THAN (TO_DAYS('2022-03-01')))`},
		events: []toll.Event{testEvent(0, 1, "car"), testEvent(40, 2, "car"), testEvent(0, 3, "car"),
			testEvent(50, 3, "car")},
		bad: []int{1, 3}, number: []uint16{1526},
	},
	{
		name: "unique key",
		alter: []string{`ALTER TABLE livetolldata ADD UNIQUE KEY own (timestamp, vehicle_id,
			toll_plaza_id)`},
		events: []toll.Event{testEvent(0, 1, "car"), testEvent(0, 2, "car"), testEvent(0, 1, "car"),
			testEvent(0, 1, "van")},
		bad: []int{2, 3}, number: []uint16{1062},
	},
	{
		name:   "check",
		alter:  []string{`ALTER TABLE livetolldata ADD CONSTRAINT own CHECK (vehicle_type <> 'tank')`},
		events: []toll.Event{testEvent(0, 1, "tank"), testEvent(0, 2, "car")},
		bad:    []int{0}, number: []uint16{3819, 4025},
	},
	{
		name: "trigger",
		alter: []string{`CREATE TRIGGER own BEFORE INSERT ON livetolldata FOR EACH ROW
			IF NEW.vehicle_id = 13 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF`},
		events: []toll.Event{testEvent(0, 1, "car"), testEvent(0, 13, "car")},
		bad:    []int{1}, number: []uint16{1644},
	},
	{
		name: "foreign key",
		alter: []string{
			`CREATE TABLE own_plaza (id smallint PRIMARY KEY)`, `INSERT INTO own_plaza VALUES (4000)`,
			`ALTER TABLE livetolldata ADD CONSTRAINT own FOREIGN KEY (toll_plaza_id) REFERENCES
				own_plaza (id)`,
		},
		events: []toll.Event{testEvent(0, 1, "car"),
			{Time: testEvent(0, 0, "").Time, Vehicle: 2, Type: "car", Plaza: 4001}},
		bad: []int{1}, number: []uint16{1452},
	},
}

// testEvent is an event some days after 2022-02-10 10:23:02.
func testEvent(days, vehicle int, typ string) toll.Event {
	return toll.Event{Time: toll.WallTime(1644488582 + days*86400), Vehicle: int32(vehicle), Type: typ,
		Plaza: 4000}
}

func eventBatch(w *ingest.Writer, c toll.Cursor, events ...toll.Event) *toll.Batch {
	b := dbtest.Batch(w, c)
	for i := range events {
		b.Rows.Append(&events[i])
	}
	b.Next = b.First + int64(len(events))
	return b
}

func commitAfter(t *testing.T, w *ingest.Writer, partition int32, events ...toll.Event) error {
	t.Helper()
	c, _, err := w.Load(t.Context(), partition, 0)
	if err != nil {
		t.Fatal(err)
	}
	return w.Commit(t.Context(), eventBatch(w, c, events...), nil)
}

func openRefusal(t *testing.T, engine string, alter ...string) *dbtest.Store {
	t.Helper()
	s := dbtest.OpenEmpty(t, engine)
	dbtest.Exec(t, s, `DROP TABLE IF EXISTS own_plaza`)
	dbtest.Initialize(t, s)
	for _, statement := range alter {
		dbtest.Exec(t, s, statement)
	}
	return s
}

// TestRejectedRows checks that exactly the rows that the operator's table refuses are named, with
// what MySQL said, whether other rows of the batch are accepted or not.
func TestRejectedRows(t *testing.T) { dbtest.EachServer(t, testRejectedRows) }

func testRejectedRows(t *testing.T, engine string) {
	for _, test := range refusals {
		for _, mode := range []ingest.LoadMode{ingest.LoadLocal, ingest.LoadInsert} {
			t.Run(test.name+"/"+mode.String(), func(t *testing.T) {
				if slices.Contains([]string{"trigger", "check", "foreign key"}, test.name) {
					dbtest.NotOnTiDB(t, test.name+" that LOAD DATA minds")
				}
				s := openRefusal(t, engine, test.alter...)
				w := s.Writer(dbtest.Identity.TopicID)
				w.SetLoadMode(mode)
				check := func(err error, want []int) {
					t.Helper()
					var rejected *toll.RejectedError
					if !errors.As(err, &rejected) {
						t.Fatalf("got %v, want rows to be rejected", err)
					}
					var got []int
					for _, r := range rejected.Rows {
						got = append(got, r.Row)
						if !slices.Contains(test.number, r.Number) || len(r.SQLState) != 5 || r.Reason == "" ||
							r.Kind != toll.RejectRefused {
							t.Errorf("row %d: %+v, want one of the errors %v", r.Row, r, test.number)
						}
					}
					if !slices.Equal(got, want) {
						t.Errorf("rows %v are rejected, want %v", got, want)
					}
				}
				check(commitAfter(t, w, 0, test.events...), test.bad)
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`) + dbtest.Int(t, s,
					`SELECT COUNT(*) FROM toll_batch`); n != 0 {
					t.Fatalf("%d rows are left of a rejected batch", n)
				}
				var good []toll.Event
				for i, e := range test.events {
					if !slices.Contains(test.bad, i) {
						good = append(good, e)
					}
				}
				if err := commitAfter(t, w, 0, good...); err != nil {
					t.Fatal(err)
				}
				// Alone, in a process that has stored rows, and in one that has not.
				check(commitAfter(t, w, 0, test.events[test.bad[0]]), []int{0})
				w = s.Writer(dbtest.Identity.TopicID)
				w.SetLoadMode(mode)
				check(commitAfter(t, w, 0, test.events[test.bad[0]]), []int{0})
				if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != int64(len(good)) {
					t.Errorf("%d rows, want %d", n, len(good))
				}
			})
		}
	}
}

// TestEveryRowRejected checks that a table that takes nothing at all ends the process instead of
// emptying the topic into dead letters.
func TestEveryRowRejected(t *testing.T) { dbtest.EachServer(t, testEveryRowRejected) }

func testEveryRowRejected(t *testing.T, engine string) {
	dbtest.NotOnTiDB(t, "trigger")
	s := openRefusal(t, engine)
	w := s.Writer(dbtest.Identity.TopicID)
	if err := commitAfter(t, w, 0, testEvent(0, 1, "car")); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, s,
		`CREATE TRIGGER own BEFORE INSERT ON livetolldata FOR EACH ROW SIGNAL SQLSTATE '45000'
			SET MESSAGE_TEXT = 'closed'`)
	dbtest.WantPermanent(t, commitAfter(t, w, 0, testEvent(0, 2, "car"), testEvent(0, 3, "van")),
		"refuses every row", "1644", "closed", "trigger")
	dbtest.Exec(t, s, `DROP TRIGGER own`)
	if err := commitAfter(t, w, 0, testEvent(0, 2, "car"), testEvent(0, 3, "van")); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata`); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

// TestRejectedStatements has more rows than fit a statement, of which some in each are refused by a
// unique key: what a statement before stored must not count as a duplicate.
func TestRejectedStatements(t *testing.T) { dbtest.EachServer(t, testRejectedStatements) }

func testRejectedStatements(t *testing.T, engine string) {
	s := openRefusal(t, engine, `ALTER TABLE livetolldata ADD UNIQUE KEY own (vehicle_id)`)
	w := s.Writer(dbtest.Identity.TopicID)
	var events []toll.Event
	var want []int
	for i := range 2*ingest.InsertRows + 100 {
		vehicle := i
		if i%1000 == 999 {
			vehicle, want = i-500, append(want, i)
		}
		events = append(events, testEvent(0, vehicle, "car"))
	}
	var rejected *toll.RejectedError
	if err := commitAfter(t, w, 0, events...); !errors.As(err, &rejected) {
		t.Fatal(err)
	}
	var got []int
	for _, r := range rejected.Rows {
		got = append(got, r.Row)
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %v are rejected, want %v", got, want)
	}
}

// TestAlteredTable checks that a table that was altered after the start refuses no row: the error
// is the one of a start.
func TestAlteredTable(t *testing.T) { dbtest.EachServer(t, testAlteredTable) }

func testAlteredTable(t *testing.T, engine string) {
	for alter, text := range map[string]string{
		`ALTER TABLE livetolldata MODIFY vehicle_type char(4)`:                        "column vehicle_type: expected char(15), got char(4)",
		`ALTER TABLE livetolldata MODIFY vehicle_id smallint`:                         "column vehicle_id: expected int, got smallint",
		`ALTER TABLE livetolldata DROP COLUMN toll_plaza_id`:                          "column toll_plaza_id: expected smallint, got none",
		`ALTER TABLE livetolldata ADD COLUMN lane int NOT NULL, ADD CHECK (lane > 0)`: "column lane: expected none, got int",
		`ALTER TABLE toll_batch MODIFY deltas varbinary(2)`: "column deltas: " +
			"expected longblob, got varbinary(2)",
		`ALTER TABLE livetolldata ENGINE=MyISAM, ADD CHECK (vehicle_type <> 'truck')`: "livetolldata is MyISAM",
		`DROP TABLE livetolldata`: "lacks livetolldata",
	} {
		for _, mode := range []ingest.LoadMode{ingest.LoadLocal, ingest.LoadInsert} {
			t.Run(alter+"/"+mode.String(), func(t *testing.T) {
				if strings.Contains(alter, "ENGINE=") {
					dbtest.NotOnTiDB(t, "other storage engine")
				}
				s := openRefusal(t, engine, alter)
				w := s.Writer(dbtest.Identity.TopicID)
				w.SetLoadMode(mode)
				dbtest.WantPermanent(t,
					commitAfter(t, w, 0, testEvent(0, 1, "car"), testEvent(0, 70_000, "truck")),
					text)
			})
		}
	}
}

// TestErrorsNeverAboutRows checks that what is about the server is never taken for a fault of a
// row.
func TestErrorsNeverAboutRows(t *testing.T) {
	never := map[uint16]string{1213: "40001", 1205: "HY000", 1290: "HY000", 1792: "25006",
		1836: "HY000", 1021: "HY000", 1114: "HY000",
		1037: "HY001", 1040: "08004", 1053: "08S01", 1317: "70100", 3024: "HY000", 1969: "70100",
		1105: "HY000", 1030: "HY000", 1927: "70100", 1153: "08S01",
		1180: "HY000", 1047: "08S01", 3101: "40000", // Galera, group replication
		8002: "HY000", 8022: "HY000", 8028: "HY000", 8175: "HY000", 9005: "HY000", 9007: "HY000"} // TiDB
	for n, state := range never {
		my := &mysql.MySQLError{Number: n}
		copy(my.SQLState[:], state)
		if !ingest.NeverAboutRows(my) {
			t.Errorf("error %d (%s) is taken for a row's", n, state)
		}
	}
	for n, state := range map[uint16]string{1062: "23000", 1526: "HY000", 3819: "HY000", 4025: "23000",
		1644: "45000", 1452: "23000",
		1048: "23000", 1264: "22003", 1265: "01000", 1292: "22007", 1366: "HY000", 1406: "22001",
		1364: "HY000", 1022: "23000"} {
		my := &mysql.MySQLError{Number: n}
		copy(my.SQLState[:], state)
		if ingest.NeverAboutRows(my) {
			t.Errorf("error %d (%s) is never taken for a row's", n, state)
		}
	}
}

// TestLockedRow has a row that waits for another transaction's lock in vain: an outage, and no
// fault of the row.
func TestLockedRow(t *testing.T) { dbtest.EachServer(t, testLockedRow) }

func testLockedRow(t *testing.T, engine string) {
	s := openRefusal(t, engine, `ALTER TABLE livetolldata ADD UNIQUE KEY own (vehicle_id)`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 7, 'car', 1)`); err != nil {
		t.Fatal(err)
	}
	w := s.Writer(dbtest.Identity.TopicID)
	err = commitAfter(t, w, 0, testEvent(0, 1, "car"), testEvent(0, 7, "car"))
	var rejected *toll.RejectedError
	if err == nil || errors.As(err, &rejected) || toll.IsPermanent(err) || db.Number(err) != 1205 {
		t.Fatalf("got %v, want a lock that was not had", err)
	}
	tx.Rollback()
	if err := commitAfter(t, w, 0, testEvent(0, 1, "car"), testEvent(0, 7, "car")); err != nil {
		t.Fatal(err)
	}
}

// TestRetriedTwice checks that all second retries of a batch are named at once.
func TestRetriedTwice(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		w := s.Writer(dbtest.Identity.TopicID)
		c, _, err := w.Load(t.Context(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := eventBatch(w, c, testEvent(0, 1, "car"), testEvent(0, 2, "car"), testEvent(0, 3, "car"),
			testEvent(0, 4, "car"))
		for i, of := range []int64{7, 8, 7, 8} {
			b.Retries = append(b.Retries,
				toll.Retry{Row: i, Offset: int64(i), Of: toll.Origin{Partition: 5, Offset: of}})
		}
		var rejected *toll.RejectedError
		if err := w.Commit(t.Context(), b, nil); !errors.As(err, &rejected) {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rejected.Rows {
			got = append(got, fmt.Sprint(r.Row, " ", r.Kind, " ", r.Reason))
		}
		want :=
			"2 retried the dead letter 5:7 was already retried; 3 retried the dead letter 5:8 was " +
				"already retried"
		if strings.Join(got, "; ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
