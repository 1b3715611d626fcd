package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sendEvent sends one event, as a row that is expected or as one that is to be refused.
func (s *sender) sendEvent(at string, vehicle int, typ string, plaza int, refused bool) {
	s.t.Helper()
	row := fmt.Sprintf("%s,%d,%s,%d", at, vehicle, typ, plaza)
	if err := s.client.ProduceSync(context.Background(),
		&kgo.Record{Value: []byte(row)}).FirstErr(); err != nil {
		s.t.Fatalf("produce: %v", err)
	}
	if !refused {
		s.truth.sent(row)
		return
	}
	s.truth.mu.Lock()
	defer s.truth.mu.Unlock()
	s.truth.rejects++
}

// onServers runs a test on the run's server, with its name.
func onServers(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run(engine, func(t *testing.T) { test(t, newWorld(t)) })
}

// exec runs a statement as the operator.
func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.sql.Exec(statement); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

// ends waits until a process ended by itself with a failure, and checks what it printed.
func (p *process) ends(texts ...string) {
	p.w.t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.w.t.Fatalf("process goes on:\n%s", p.log)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		p.w.t.Fatalf("exit status %d, want 1:\n%s", code, p.log)
	}
	for _, text := range texts {
		if !strings.Contains(p.log.String(), text) {
			p.w.t.Fatalf("the output lacks %q:\n%s", text, p.log)
		}
	}
}

// TestRefusedByTable has an operator whose own livetolldata has partitions, a unique key, a
// constraint and a trigger. The rows that it refuses are dead letters with MySQL's number, one by
// one and between others, and stop nothing.
func TestRefusedByTable(t *testing.T) {
	inParallel(t)
	onServers(t, testRefusedByTable)
}

func testRefusedByTable(t *testing.T, w *world) {
	w.must("init", "--partitions", "1")
	w.exec(
		`ALTER TABLE livetolldata ADD UNIQUE KEY own (timestamp, vehicle_id, toll_plaza_id),
			ADD CHECK (vehicle_type <> 'tank')`)
	w.exec(
		`ALTER TABLE livetolldata PARTITION BY RANGE (TO_DAYS(timestamp)) (PARTITION p
			VALUES LESS THAN (TO_DAYS('2022-03-01')))`)
	w.exec(`CREATE TRIGGER own BEFORE INSERT ON livetolldata FOR EACH ROW
		IF NEW.vehicle_id = 13 THEN SIGNAL SQLSTATE '45000'
		SET MESSAGE_TEXT = 'vehicle 13 is ours'; END IF`)
	truth := newTruth()
	s := w.sender(truth)
	p := w.start("process")
	bad := func() {
		s.sendEvent("2022-02-10 10:23:02", 2, "tank", 4000, true)
		s.sendEvent("2022-03-01 00:00:00", 1, "car", 4000, true)
		s.sendEvent("2022-02-10 10:23:02", 13, "car", 4000, true)
	}
	bad() // into an empty table, alone
	w.eventually("dead letters of an empty table", time.Minute, func() bool {
		return w.count(`SELECT COUNT(*) FROM toll_dead_letter`) == 3
	})
	s.sendEvent("2022-02-10 10:23:02", 3, "car", 4000, false)
	s.sendEvent("2022-02-10 10:23:02", 3, "car", 4000, true) // two equal events, one row
	s.send(2000)
	bad()
	s.send(2000)
	p.kill()
	if log := p.log.String(); !strings.Contains(log, "MySQL refuses rows; they become dead letters") ||
		!strings.Contains(log, "error=") {
		t.Errorf("the log does not say that rows are refused:\n%s", log)
	}
	bad()
	s.sendEvent("2022-02-10 10:23:02", 4, "van", 4000, false)
	s.sendEvent("2022-02-10 10:23:02", 4, "van", 4000, true)
	s.send(2000)
	w.must("process", "--until-end", "--load", "insert")
	w.exact(truth)

	type letter struct {
		Kind     string `json:"kind"`
		Number   int    `json:"error_number"`
		SQLState string `json:"sql_state"`
		Reason   string `json:"reason"`
	}
	var list struct {
		DeadLetters []letter `json:"dead_letters"`
	}
	if err := json.Unmarshal([]byte(w.must("dead-letters", "list", "--kind", "refused", "--limit", "0",
		"--json")), &list); err != nil {
		t.Fatal(err)
	}
	check := 4025 // MySQL: 3819
	if strings.HasPrefix(w.version(), "8.") {
		check = 3819
	}
	numbers := map[int]int{}
	for _, l := range list.DeadLetters {
		numbers[l.Number]++
		if l.Kind != "refused" || len(l.SQLState) != 5 || l.Reason == "" {
			t.Errorf("dead letter %+v", l)
		}
	}
	if want := fmt.Sprint(map[int]int{1526: 3, check: 3, 1644: 3,
		1062: 2}); fmt.Sprint(numbers) != want {
		t.Errorf("dead letters by error %v, want %s", numbers, want)
	}
	if !slices.Contains(list.DeadLetters, letter{"refused", 1644, "45000", "vehicle 13 is ours"}) {
		t.Error("the trigger's text is not a reason")
	}
}

// TestRefusedAreRetried corrects a table that lacked a partition, and sends what it refused again:
// each is stored once.
func TestRefusedAreRetried(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	w.exec(
		`ALTER TABLE livetolldata PARTITION BY RANGE (TO_DAYS(timestamp)) (PARTITION p
			VALUES LESS THAN (TO_DAYS('2022-03-01')))`)
	truth := newTruth()
	s := w.sender(truth)
	s.send(1000)
	s.clock = time.Date(2022, 3, 1, 0, 0, 0, 0, time.UTC)
	s.send(200) // which are refused for now
	s.clock = time.Date(2022, 2, 11, 0, 0, 0, 0, time.UTC)
	s.send(1000)
	w.must("process", "--until-end")
	if n := w.count(
		`SELECT COUNT(*) FROM toll_dead_letter WHERE kind = 'refused' AND error_number = 1526`); n !=
		200 {
		t.Fatalf("%d dead letters, want 200", n)
	}
	if out := w.must("dead-letters", "retry", "--all"); !strings.Contains(
		out, "200 were refused by the database: --refused sends them too") {
		t.Errorf("retry --all prints %q", out)
	}
	// too early: they are refused again, as retries
	w.must("dead-letters", "retry", "--all", "--refused")
	w.must("process", "--until-end")
	var of, again string
	if err := w.sql.QueryRow(`SELECT CONCAT(retry_partition, ':', retry_offset), CONCAT(partition_id,
		':', record_offset)
		FROM toll_dead_letter WHERE retry_partition IS NOT NULL LIMIT 1`).Scan(&of, &again); err != nil {
		t.Fatal(err)
	}
	// both would be two rows
	w.refuses([]string{"dead-letters", "retry", again}, again+" is itself a retry, of "+of)
	w.exec(`ALTER TABLE livetolldata ADD PARTITION (PARTITION q VALUES LESS THAN MAXVALUE)`)
	w.must("dead-letters", "retry", "--all", "--refused")
	w.must("process", "--until-end")
	truth.rejects = int(w.count(`SELECT COUNT(*) FROM toll_dead_letter`))
	w.exact(truth)
}

// version returns the server's version.
func (w *world) version() (v string) {
	w.t.Helper()
	if err := w.sql.QueryRow(`SELECT VERSION()`).Scan(&v); err != nil {
		w.t.Fatal(err)
	}
	return v
}

// TestTableRefusesAll has a table that takes no row at all: process ends with one clear line and
// rejects nothing.
func TestTableRefusesAll(t *testing.T) {
	inParallel(t)
	onServers(t, testTableRefusesAll)
}

func testTableRefusesAll(t *testing.T, w *world) {
	w.must("init", "--partitions", "2")
	truth := newTruth()
	s := w.sender(truth)
	s.send(1000)
	p := w.start("process")
	w.eventually("the first events", time.Minute, func() bool {
		return w.count(`SELECT COUNT(*) FROM
		livetolldata`) == 1000
	})
	w.exec(`CREATE TRIGGER own BEFORE INSERT ON livetolldata FOR EACH ROW SIGNAL SQLSTATE '45000'
		SET MESSAGE_TEXT = 'closed for today'`)
	s.send(1000)
	p.ends("refuses every row", "1644", "closed for today", "see what was changed at livetolldata")
	w.refuses([]string{"process", "--until-end"}, "refuses every row", "closed for today")
	w.exec(`DROP TRIGGER own`)
	w.must("process", "--until-end")
	w.exact(truth)
}

// TestTableAltered alters livetolldata under a running process. Good events are no dead letters:
// process ends with the error that a start gives, whether LOAD DATA clips values or INSERT refuses
// them.
func TestTableAltered(t *testing.T) {
	inParallel(t)
	for _, load := range []string{"auto", "insert"} {
		onServers(t, func(t *testing.T, w *world) {
			w.must("init", "--partitions", "2")
			truth := newTruth()
			s := w.sender(truth)
			s.send(1000)
			p := w.start("process", "--load", load)
			w.eventually("the first events", time.Minute, func() bool {
				return w.count(`SELECT COUNT(*) FROM
				livetolldata`) == 1000
			})

			// A wider column holds what ours holds. A start refuses it, as it does any other column.
			w.exec(`ALTER TABLE livetolldata MODIFY vehicle_type char(20)`)
			s.send(1000)
			w.eventually("events in a wider column", time.Minute,
				func() bool { return w.count(`SELECT COUNT(*) FROM livetolldata`) == 2000 })

			w.exec(`ALTER TABLE livetolldata MODIFY vehicle_type char(5)`)
			s.send(500) // which fit
			for i := range 300 {
				s.sendEvent("2022-02-10 10:24:00", 100+i, "motorcycle", 4000, false)
			}
			s.send(500)
			const altered = "column vehicle_type: expected char(15), got char(5)"
			p.ends("the table livetolldata", altered)
			w.refuses([]string{"process", "--until-end"}, altered)
			if n := w.count(`SELECT COUNT(*) FROM toll_dead_letter`); n != 0 {
				t.Errorf("%d good events are dead letters", n)
			}
			w.exec(`ALTER TABLE livetolldata MODIFY vehicle_type char(15)`)
			w.must("process", "--until-end", "--load", load)
			w.exact(truth)
		})
	}
}
