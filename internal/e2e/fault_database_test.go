package e2e

import (
	dbsql "database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// proxied is a world whose processes reach the database by a proxy. Commands such as verify go
// straight there.
type proxied struct {
	*world
	proxy *proxy
	dsn   string
}

func newProxied(t *testing.T) *proxied {
	w := newWorld(t)
	p := &proxied{world: w, proxy: startProxy(t, w.db.Addr(), mysqlFrames)}
	cfg, err := mysql.ParseDSN(w.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = p.proxy.addr()
	p.dsn = cfg.FormatDSN()
	w.must("init")
	return p
}

func (p *proxied) member(args ...string) *process {
	return p.world.member("one", append([]string{"--mysql", p.dsn}, args...)...)
}

func (p *proxied) underLoad() (*load, *process) { return p.world.underLoad("--mysql", p.dsn) }

// root connects as the database's administrator.
func (w *world) root() *dbsql.DB {
	w.t.Helper()
	db, err := dbsql.Open("mysql", w.db.AdminDSN()+"tolldata")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

// exec runs statements that must work.
func (f *injection) exec(db interface {
	Exec(string, ...any) (dbsql.Result, error)
}, statements ...string) {
	f.Helper()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			f.Fatalf("%s: %v", s, err)
		}
	}
}

// says waits until a process has logged each of the texts, since the last time that this was waited
// for.
func (f *injection) says(p *process, texts ...string) {
	f.Helper()
	f.hear(p, texts, len(texts))
}

// saysOne waits until a process has logged one of the texts, since the last time that this was
// waited for.
func (f *injection) saysOne(p *process, texts ...string) {
	f.Helper()
	f.hear(p, texts, 1)
}

// hear waits until a process has logged at least some of the texts.
func (f *injection) hear(p *process, texts []string, least int) {
	f.Helper()
	for deadline := time.Now().Add(caughtUpWithin); ; time.Sleep(pollEvery) {
		log := p.log.String()
		missing := slices.DeleteFunc(slices.Clone(texts), func(text string) bool {
			return strings.Contains(log[p.heard:], text)
		})
		if len(texts)-len(missing) >= least {
			p.heard = len(log)
			return
		}
		if time.Now().After(deadline) || !p.running() {
			f.Fatalf("the log of a process lacks %q:\n%s", missing, p.log)
		}
	}
}

// killDatabase kills the database server at a random moment, and starts it again after a random
// time.
func killDatabase(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	l, p := w.underLoad()
	for range f.rounds {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		if err := w.db.Kill(); err != nil {
			f.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
		if err := w.db.Restart(f.Context()); err != nil {
			f.Fatal(err)
		}
		l.caughtUp("after the database was killed", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// killDatabaseInCommit kills the database server when a batch's COMMIT is on its way to it, or has
// just reached it.
func killDatabaseInCommit(f *injection) {
	w := newProxied(f.T)
	l, p := w.underLoad()
	for range f.rounds {
		met := make(chan struct{})
		meet := sync.OnceFunc(func() { close(met) })
		w.proxy.setJudge(commitJudge(func() verdict { meet(); return passOn }))
		<-met
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		if err := w.db.Kill(); err != nil {
			f.Fatal(err)
		}
		w.proxy.setJudge(nil)
		if err := w.db.Restart(f.Context()); err != nil {
			f.Fatal(err)
		}
		l.caughtUp("after the database was killed in a commit", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// cutAtEveryStep cuts the connection at step 1, 2, 3 … of a batch's transaction, before the server
// sees the packet and after it, until no transaction has such a step.
func cutAtEveryStep(f *injection) {
	w := newProxied(f.T)
	l, p := w.underLoad()
	var c batchCutter
	w.proxy.setJudge(c.judge)
	cutAt := func(step int, fate verdict) (what string) {
		c.arm(step, fate)
		w.eventually(fmt.Sprintf("step %d, or three transactions without it", step), caughtUpWithin,
			func() bool {
				var beyond int
				what, beyond = c.cut()
				return what != "" || beyond >= 3
			})
		if what != "" {
			l.caughtUp("after a cut at "+what, caughtUpWithin, p)
			f.done()
		}
		return what
	}
	for range f.rounds {
		for name, fate := range map[string]verdict{"before": cutBefore, "after": cutAfter} {
			var steps []string
			for what := cutAt(1, fate); what != ""; what = cutAt(len(steps)+1, fate) {
				steps = append(steps, what)
			}
			// Some transactions are longer than others, so none of these need be a commit.
			steps = append(steps, cutAt(atCommit, fate))
			all := strings.Join(steps, "; ")
			f.Logf("cut %s: %s", name, all)
			if !strings.Contains(all, "COMMIT") || !strings.Contains(all, "bytes of rows") ||
				len(steps) < 5 {
				f.Errorf("the cuts %s do not cover a transaction: %s", name, all)
			}
		}
	}
	w.proxy.setJudge(nil)
	f.finish(l, p)
}

// loseCommitAnswers cuts the connection at a commit: when the server got it, so that the batch is
// stored and nobody says so, and before it did.
func loseCommitAnswers(f *injection) {
	w := newProxied(f.T)
	l, p := w.underLoad()
	for round := range 2 * f.rounds {
		fate := []verdict{cutBefore, cutAfter}[round%2]
		met := make(chan struct{})
		meet := sync.OnceFunc(func() { close(met) })
		first := true
		w.proxy.setJudge(commitJudge(func() verdict {
			meet()
			if first {
				first = false
				return fate
			}
			return passOn
		}))
		<-met
		l.caughtUp("after the answer to a commit was lost", caughtUpWithin, p)
		f.done()
	}
	w.proxy.setJudge(nil)
	f.finish(l, p)
}

// certified are the answers to a COMMIT by which a cluster says that another node's transaction was
// certified first: Galera, an older Galera, and group replication.
var certified = []struct {
	number         uint16
	state, message string
}{
	{1213, "40001", "Deadlock found when trying to get lock; try restarting transaction"},
	{1180, "HY000", "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT"},
	{3101, "40000", "Plugin instructed the server to rollback the current transaction."},
}

// refuseCommits rolls batches back at their COMMIT, as a cluster does that certifies transactions
// there.
func refuseCommits(f *injection) {
	w := newProxied(f.T)
	l, p := w.underLoad()
	for range f.rounds {
		for _, c := range certified {
			w.proxy.setRefusal(mysqlPacket(1, "\xff"+string([]byte{byte(c.number), byte(c.number >> 8)})+
				"#"+c.state+c.message))
			met := make(chan struct{})
			meet := sync.OnceFunc(func() { close(met) })
			left := 2 // the second time statement by statement
			w.proxy.setJudge(commitJudge(func() verdict {
				if left--; left < 0 {
					return passOn
				}
				if left == 0 {
					meet()
				}
				return refuseCommit
			}))
			<-met
			l.caughtUp(fmt.Sprintf("after error %d at COMMIT", c.number), caughtUpWithin, p)
			f.done()
		}
	}
	w.proxy.setJudge(nil)
	f.finish(l, p)
}

// pauseDatabase suspends the database server with its connections open.
func pauseDatabase(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	l, p := w.underLoad()
	for round := range f.rounds {
		if err := w.db.Pause(); err != nil {
			f.Fatal(err)
		}
		if round == 0 {
			f.says(p, "MySQL failed", "no answer for")
		} else {
			time.Sleep(4 * time.Second) // longer than the group's session timeout
		}
		if err := w.db.Resume(); err != nil {
			f.Fatal(err)
		}
		if round == 0 {
			f.says(p, "MySQL recovered")
		}
		l.caughtUp("after the database stalled", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// lockDatabase makes batches wait for locks until the server gives up on them, and then makes them
// the victims of deadlocks.
func lockDatabase(f *injection) {
	w := newWorld(f.T)
	admin := w.root()
	f.exec(admin, `CREATE TABLE ballast (x INT)`)
	w.must("init")
	l, p := w.underLoad()
	deadlocks := func() (n int64) {
		err := admin.QueryRow(
			"SELECT `count` FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'").Scan(&n)
		if err != nil {
			f.Fatalf("count deadlocks: %v", err)
		}
		return n
	}
	for range f.rounds {
		tx, err := w.sql.Begin()
		if err != nil {
			f.Fatal(err)
		}
		var rows int
		if err := tx.QueryRow(
			`SELECT COUNT(*) FROM (SELECT * FROM toll_cursor FOR UPDATE) AS locked`).Scan(
			&rows); err != nil || rows == 0 {
			f.Fatalf("lock the cursors: %d, %v", rows, err)
		}
		f.says(p, "Lock wait timeout") // which a session waits for 5 s
		time.Sleep(2 * time.Second)
		if err := tx.Rollback(); err != nil {
			f.Fatal(err)
		}
		l.caughtUp("after lock waits", caughtUpWithin, p)

		before := deadlocks()
		for deadline := time.Now().Add(caughtUpWithin); deadlocks() == before; {
			if time.Now().After(deadline) {
				f.Fatal("no deadlock came about")
			}
			f.deadlock(w)
		}
		l.caughtUp("after a deadlock", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// deadlock locks toll_batch in a large transaction, and then the cursors, which the
// batches that wait for it have locked by then. Batches change less than it does, so that the
// server picks them as the victims.
func (f *injection) deadlock(w *world) {
	f.Helper()
	tx, err := w.sql.Begin()
	if err != nil {
		f.Fatal(err)
	}
	defer tx.Rollback()
	f.exec(tx, `INSERT INTO ballast VALUES (0)`+strings.Repeat(`,(0)`, 19_999))
	// until batches wait
	for _, statement := range []string{`SELECT COUNT(*) FROM (SELECT *
		FROM toll_batch FOR UPDATE) AS locked`, `SELECT SLEEP(0.3)`,
		`SELECT COUNT(*) FROM (SELECT * FROM toll_cursor FOR UPDATE) AS locked`} {
		var unused int
		if err := tx.QueryRow(statement).Scan(&unused); err != nil {
			return // this one was the victim, or too late
		}
	}
}

// forbidWrites makes the server read-only for a while.
func forbidWrites(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	admin := w.root()
	l, p := w.underLoad()
	for range f.rounds {
		f.exec(admin, `SET GLOBAL read_only = 1`)
		f.says(p, "read-only")
		time.Sleep(2 * time.Second)
		if !p.running() {
			f.Fatalf("process ended as the database was read-only:\n%s", p.log)
		}
		f.exec(admin, `SET GLOBAL read_only = 0`)
		l.caughtUp("after the database was read-only", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// fillDatabase lets the database run out of space: a data file that may not grow stands for a full
// disk.
func fillDatabase(f *injection) {
	w := newWorld(f.T)
	w.db.SetOptions("--innodb-file-per-table=0",
		"--innodb-data-file-path=ibdata1:12M:autoextend:max:64M")
	if err := w.db.Restart(f.Context()); err != nil {
		f.Fatal(err)
	}
	w.must("init")
	admin := w.root()
	l, p := w.underLoad()
	for range f.rounds {
		f.exec(admin, `CREATE TABLE ballast (x CHAR(250)) CHARACTER SET latin1`)
		for _, rows := range []int{20_000, 1000, 10} { // until not even a few more find room
			for {
				if _, err := admin.Exec(`INSERT INTO ballast VALUES ('x')` + strings.Repeat(`,('x')`,
					rows-1)); err != nil {
					if !strings.Contains(err.Error(), "is full") {
						f.Fatalf("fill the database: %v", err)
					}
					break
				}
			}
		}
		f.says(p, "is full")
		time.Sleep(time.Second)
		if !p.running() {
			f.Fatalf("process ended as the database was full:\n%s", p.log)
		}
		f.exec(admin, `DROP TABLE ballast`)
		l.caughtUp("after the database was full", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}

// forbidLoadData turns LOAD DATA LOCAL off while it is used.
func forbidLoadData(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	admin := w.root()
	l, p := w.underLoad()
	f.exec(admin, `SET GLOBAL local_infile = 0`)
	f.says(p, "loading rows by INSERT from now on: the server refuses LOAD DATA LOCAL")
	l.caughtUp("without LOAD DATA", caughtUpWithin, p)
	f.exec(admin, `SET GLOBAL local_infile = 1`)
	l.caughtUp("with LOAD DATA allowed again", caughtUpWithin, p)
	f.done()
	f.finish(l, p)
}

// swapDatabase lets the address of the database lead to another one, which is set up for the same
// group and topic.
func swapDatabase(f *injection) {
	w := newProxied(f.T)
	other := newWorld(f.T)
	other.must("init", "--topic", w.topic, "--group", w.group)
	l, p := w.underLoad()
	for range f.rounds {
		w.proxy.setUpstream(other.db.Addr())
		w.eventually("the end of process", caughtUpWithin, func() bool { return !p.running() })
		said(f, p, "another database answers at "+w.proxy.addr(), "hint: ")
		for _, table := range []string{"livetolldata", "toll_batch", "toll_cursor", "toll_window"} {
			if n := other.count(`SELECT COUNT(*) FROM ` + table); n != 0 {
				f.Fatalf("%d rows were written into %s of another database", n, table)
			}
		}
		w.proxy.setUpstream(w.db.Addr())
		p = w.member()
		l.caughtUp("with the database of before", caughtUpWithin, p)
		f.done()
	}
	f.finish(l, p)
}
