package e2e

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
)

// guide is docs/operations.md: the commands of its blocks for drills, by heading.
type guide struct {
	sync.Mutex
	commands map[string][]string
	left     map[string]bool // headings that no drill has followed
}

var drillBlock = regexp.MustCompile("(?m)^```sh drill\n((?s:.*?))^```")

func readGuide(t *testing.T) *guide {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{commands: map[string][]string{}, left: map[string]bool{}}
	for _, section := range regexp.MustCompile(`(?m)^#+ `).Split(string(text), -1) {
		heading, _, _ := strings.Cut(section, "\n")
		for _, block := range drillBlock.FindAllStringSubmatch(section, -1) {
			for line := range strings.Lines(block[1]) {
				g.commands[heading] = append(g.commands[heading], strings.TrimSpace(line))
			}
			g.left[heading] = true
		}
	}
	return g
}

// leaveOut takes headings for followed.
func (g *guide) leaveOut(headings ...string) {
	g.Lock()
	defer g.Unlock()
	for _, h := range headings {
		delete(g.left, h)
	}
}

// operator follows the guide on servers of a test's own.
type operator struct {
	*world
	t       *testing.T
	guide   *guide
	command string // the tollstream that is installed
	home    string
	data    string // the database's files
	process *process
	truth   *truth
	sender  *sender
}

// newOperator returns an operator of a topic of two partitions, whose events a process stores.
func newOperator(t *testing.T, g *guide, options ...string) *operator {
	t.Helper()
	o := newServers(t, g, options...)
	o.must("init", "--partitions", "2")
	o.sender = o.world.sender(o.truth, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	o.sender.disorder(400)
	o.process = o.start("process", "--batch-rows", "50")
	return o
}

// newServers returns an operator of empty servers.
func newServers(t *testing.T, g *guide, options ...string) *operator {
	t.Helper()
	t.Parallel()
	// a small log, since it is copied
	options = append([]string{"--loose-innodb-log-file-size=32M"}, options...)
	w := newWorldOn(t, sharedKafka(t).Addr(), engine, options...)
	o := &operator{world: w, t: t, guide: g, home: t.TempDir(), truth: newTruth()}
	o.installs(binary)
	w.env = append(w.env, "HOME="+o.home, "TOLLSTREAM_RECONCILE=1s", "TOLLSTREAM_SESSION_TIMEOUT=2s")
	o.administers(w.db)
	return o
}

// installs makes tollstream a command of some version.
func (o *operator) installs(command string) {
	o.command = command
	o.env = append(o.env, "PATH="+filepath.Dir(command)+":"+os.Getenv("PATH")) // the last one counts
}

// administers makes the database's own clients reach a server as its administrator.
func (o *operator) administers(db *devstack.Database) {
	o.t.Helper()
	if err := o.adminOf(db).QueryRow("SELECT @@datadir").Scan(&o.data); err != nil {
		o.t.Fatal(err)
	}
	o.data = filepath.Clean(o.data)
	settings := fmt.Sprintf("[client]\nuser=root\nsocket=%s\n[mysqld]\ndatadir=%s\n",
		socketOf(o.t, db), o.data)
	if err := os.WriteFile(filepath.Join(o.home, ".my.cnf"), []byte(settings), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// follow runs the commands of a section as they stand there. Paths and names are those of the
// test; services are its processes, and Kafka's own tools its client.
func (o *operator) follow(heading string) {
	o.t.Helper()
	lines := o.guide.commands[heading]
	if len(lines) == 0 {
		o.t.Fatalf("docs/operations.md has no commands below %q", heading)
	}
	o.guide.leaveOut(heading)
	for _, line := range lines {
		began := time.Now()
		if err := o.carryOut(line); err != nil {
			o.t.Fatalf("%s: %s: %v", heading, line, err)
		}
		o.t.Logf("%s: %.1f s", line, time.Since(began).Seconds())
	}
}

// carry carries out a line that must succeed.
func (o *operator) carry(line string) {
	o.t.Helper()
	if err := o.carryOut(line); err != nil {
		o.t.Fatalf("%s: %v", line, err)
	}
}

func (o *operator) carryOut(line string) error {
	words := strings.Fields(line)
	switch words[0] {
	case "systemctl":
		return o.systemctl(words[1], words[2])
	case "kafka-topics.sh":
		return o.addPartitions(words)
	case "chown": // servers run as the test's user
		return nil
	}
	line = strings.NewReplacer("/var/backups/", o.home+"/", "/var/lib/mysql",
		o.data).Replace(line)
	ctx, cancel := context.WithTimeout(o.t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = o.home, o.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func (o *operator) systemctl(verb, unit string) error {
	switch verb + " " + unit {
	case "stop tollstream-process":
		o.process.interrupt()
	case "start tollstream-process":
		o.process = o.startCommand([]string{o.command, "process"})
	case "restart tollstream-process":
		return cmp.Or(o.systemctl("stop", unit), o.systemctl("start", unit))
	case "stop mariadb":
		return o.db.Kill()
	case "start mariadb":
		return o.db.Restart(o.t.Context())
	default:
		return fmt.Errorf("the test knows no such service")
	}
	return nil
}

// addPartitions does what kafka-topics.sh --alter does, on the topic of the test.
func (o *operator) addPartitions(words []string) error {
	var partitions int32
	_, err := fmt.Sscanf(strings.Join(words[3:], " "), "--alter --topic toll --partitions %d",
		&partitions)
	if err != nil {
		return err
	}
	return o.admin().CreatePartitions(o.topic, partitions, nil, false)
}

// exactAgain waits until the running process has stored all that was sent, and all is exact.
func (o *operator) exactAgain() {
	o.t.Helper()
	o.eventually("all rows", caughtUpWithin, func() bool {
		if !o.process.running() {
			o.t.Fatalf("process ended by itself:\n%s", o.process.log)
		}
		return o.count(`SELECT COUNT(*) FROM livetolldata`) == int64(o.truth.total()) &&
			o.count(`SELECT COUNT(*) FROM toll_dead_letter`) == int64(o.truth.rejects) &&
			o.count(`SELECT COUNT(*) FROM toll_batch WHERE published = 0`) == 0
	})
	o.eventually("no event in flight", caughtUpWithin, func() bool {
		return o.verify("--deep").Status != "in_flight"
	})
	o.exact(o.truth)
}

// TestOperations follows docs/operations.md: each of its blocks of commands is carried out on a
// real Kafka and a real database, after what it is for, and ends exact.
func TestOperations(t *testing.T) {
	inParallel(t)
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	_, err := exec.LookPath("mariadb-dump")
	testkit.NeedService(t, "mariadb-dump", err == nil)
	g := readGuide(t)
	drills := map[string]func(*testing.T, *guide){
		"backup": drillBackup, "failover": drillFailover, "partitions": drillPartitions,
		"topic": drillTopic, "mismatches": drillMismatches, "upgrade": drillUpgrade,
	}
	var ran sync.Map
	t.Run("drills", func(t *testing.T) {
		for name, drill := range drills {
			t.Run(name, func(t *testing.T) {
				drill(t, g)
				ran.Store(name, true)
			})
		}
	})
	for name := range drills {
		if _, ok := ran.Load(name); !ok {
			return // the run was asked for some of them, or some were skipped
		}
	}
	if left := slices.Sorted(maps.Keys(g.left)); len(left) > 0 && !t.Failed() {
		t.Errorf("no drill follows the commands of docs/operations.md below %q", left)
	}
}

// drillBackup restores a dump and a physical copy, each taken while process stored events, and then
// the dump once more, which is older by now than what the topic holds.
func drillBackup(t *testing.T, g *guide) {
	o := newOperator(t, g)
	o.underLoad(func() { o.follow("A dump") })
	o.follow("Restore a dump")
	o.exactAgain()

	if engine == "mariadb" {
		_, err := exec.LookPath("mariadb-backup")
		testkit.NeedService(t, "mariadb-backup", err == nil)
		o.underLoad(func() { o.follow("A physical copy") })
		o.follow("Restore a physical copy")
		o.exactAgain()
	} else {
		g.leaveOut("A physical copy", "Restore a physical copy")
	}

	o.sender.disorder(100)
	o.exactAgain()
	end := o.count(`SELECT next_offset FROM toll_cursor WHERE partition_id = 0`)
	if err := o.admin().DeleteRecords(o.topic, map[int32]int64{0: end}); err != nil {
		t.Fatal(err)
	}
	o.follow("Restore a dump")
	o.eventually("the end of process", caughtUpWithin, func() bool { return !o.process.running() })
	if log := o.process.log.String(); !strings.Contains(log, "--skip-gone") {
		t.Errorf("process does not name --skip-gone:\n%s", log)
	}
	o.follow("Records that are gone")
	if v := o.verify("--deep"); v.Status != "exact" || v.Gone == 0 ||
		v.Rows+v.Gone != int64(o.truth.total()) {
		t.Errorf("verify: %+v", v)
	}
}

// drillFailover promotes a replica after a kill of the primary: one that lacks the last commits,
// and one for which the primary waited with each.
func drillFailover(t *testing.T, g *guide) {
	o := newOperator(t, g, replicated(1)...)
	one := o.db
	two, err := devstack.StartDatabase(t.Context(), devstack.DatabaseConfig{
		Addr: "127.0.0.1:0", DataDir: dataDir(t, engine), Engine: engine,
		Options: append(replicated(2), "--innodb-flush-method=nosync", "--read-only"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = two.Close() })

	o.exactAgain()
	o.process.interrupt()
	o.replicate(one, two)
	o.execOn(two, "STOP SLAVE") // it lags, so what is stored from now on is lost
	before := o.truth.total()
	o.process = o.start("process", "--batch-rows", "70")
	o.sender.disorder(300)
	o.exactAgain()
	o.promote(one, two)
	if n := o.count(`SELECT COUNT(*) FROM livetolldata`); n != int64(before) {
		t.Errorf("the replica has %d rows, want %d", n, before)
	}
	o.process.awaitRefusal("a replica that lost commits")
	o.follow("After lost commits")
	o.exactAgain()
	o.publishedLast(nil)

	if engine != "mariadb" { // this MySQL comes without the plugins
		return
	}
	if err := one.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.process.interrupt()
	o.execOn(two, "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
		"SET GLOBAL rpl_semi_sync_master_timeout = 60000",
		"SET GLOBAL rpl_semi_sync_master_enabled = ON")
	o.execOn(one, "SET GLOBAL rpl_semi_sync_slave_enabled = ON")
	o.replicate(two, one)
	o.process = o.start("process", "--batch-rows", "50")
	o.underLoad(func() { o.promote(two, one) })
	o.exactAgain()
}

// replicate makes one server a replica of another, with a copy of its data.
func (o *operator) replicate(from, to *devstack.Database) {
	o.t.Helper()
	o.execOn(to, "DROP DATABASE tolldata", "CREATE DATABASE tolldata")
	dump := fmt.Sprintf("mariadb-dump --socket=%s --single-transaction tolldata | "+
		"mariadb --socket=%s tolldata", socketOf(o.t, from), socketOf(o.t, to))
	o.carry(dump) // while nothing is written
	o.execOn(from, "CREATE USER IF NOT EXISTS replica@'%' IDENTIFIED BY 'secret'",
		"GRANT REPLICATION SLAVE ON *.* TO replica@'%'")
	position, source := "@@gtid_current_pos", "MASTER_USE_GTID = slave_pos"
	set := "SET GLOBAL gtid_slave_pos = '%s'"
	if engine == "mysql" {
		position, source = "@@gtid_executed", "MASTER_AUTO_POSITION = 1, GET_MASTER_PUBLIC_KEY = 1"
		set = "SET GLOBAL gtid_purged = '%s'"
	}
	var at string
	if err := o.adminOf(from).QueryRow("SELECT " + position).Scan(&at); err != nil {
		o.t.Fatal(err)
	}
	host, port, _ := strings.Cut(from.Addr(), ":")
	o.execOn(to, "RESET MASTER", fmt.Sprintf(set, strings.ReplaceAll(at, "\n", "")),
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %s, MASTER_USER = 'replica', "+
			"MASTER_PASSWORD = 'secret', %s", host, port, source), "START SLAVE")
	o.execOn(from, "CREATE TABLE tolldata.replicates (n int)")
	o.eventually("replication", caughtUpWithin, func() bool {
		_, err := o.adminOf(to).Exec("SELECT * FROM tolldata.replicates")
		return err == nil
	})
	o.execOn(from, "DROP TABLE tolldata.replicates")
	o.eventually("replication", caughtUpWithin, func() bool {
		_, err := o.adminOf(to).Exec("SELECT * FROM tolldata.replicates")
		return err != nil
	})
}

// promote kills the primary and goes on with its replica.
func (o *operator) promote(primary, replica *devstack.Database) {
	o.t.Helper()
	if err := primary.Kill(); err != nil {
		o.t.Fatal(err)
	}
	o.db, o.sql = replica, o.adminOf(replica)
	o.administers(replica)
	o.env = append(o.env, "TOLLSTREAM_MYSQL="+replica.DSN()) // the last one counts
	o.follow("Promote a replica")
}

// adminOf connects as a server's administrator.
func (o *operator) adminOf(db *devstack.Database, name ...string) *dbsql.DB {
	o.t.Helper()
	conn, err := dbsql.Open("mysql", db.AdminDSN()+append(name, "tolldata")[0])
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (o *operator) execOn(db *devstack.Database, statements ...string) {
	o.t.Helper()
	conn := o.adminOf(db)
	for _, s := range statements {
		if _, err := conn.Exec(s); err != nil {
			o.t.Fatalf("%s: %v", s, err)
		}
	}
}

func socketOf(t *testing.T, db *devstack.Database) string {
	t.Helper()
	admin, err := mysql.ParseDSN(db.AdminDSN())
	if err != nil {
		t.Fatal(err)
	}
	return admin.Addr
}

// replicated are the options of a server that replicates.
func replicated(id int) []string {
	options := []string{fmt.Sprint("--server-id=", id), "--log-bin=binlog", "--log-slave-updates"}
	if engine == "mysql" {
		return append(options, "--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	}
	return options
}

// underLoad does something while events are sent and stored.
func (o *operator) underLoad(do func()) {
	o.t.Helper()
	rows := int64(o.truth.total())
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				o.sender.disorder(20)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	stored := func(more int64) {
		o.t.Helper()
		o.eventually("rows", caughtUpWithin, func() bool {
			return o.count(`SELECT COUNT(*) FROM livetolldata`) > rows+more
		})
	}
	stored(100)
	do()
}

// drillPartitions gives the topic of events more partitions while process runs.
func drillPartitions(t *testing.T, g *guide) {
	o := newOperator(t, g)
	o.underLoad(func() { o.follow("More partitions") })
	o.exactAgain()
}

// drillTopic goes on with another topic, as with one of another cluster. All rows stay.
func drillTopic(t *testing.T, g *guide) {
	o := newOperator(t, g)
	o.follow("Leave a topic")
	o.execOn(o.db, "GRANT ALL ON tolldata2.* TO toll@'%'")
	o.topic += "-2"
	o.env = append(o.env, "TOLLSTREAM_TOPIC="+o.topic, "TOLLSTREAM_GROUP="+o.group+"-2",
		"TOLLSTREAM_MYSQL="+strings.ReplaceAll(o.db.DSN(), "tolldata", "tolldata2"))
	o.follow("Begin with a topic")
	o.sql = o.adminOf(o.db, "tolldata2")
	o.sender = o.world.sender(o.truth, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	o.sender.disorder(100)
	o.exactAgain()
}

// drillMismatches breaks everything that verify knows a kind of problem for, some kinds at a time,
// and follows what the guide says of them.
func drillMismatches(t *testing.T, g *guide) {
	o := newOperator(t, g)
	o.sender.sendRaw([]byte("not an event"))
	o.exactAgain()
	o.process.interrupt()
	o.untilEnd() // closes all windows
	o.follow("A dump")
	names := map[string]bool{} // kinds that were provoked

	o.breakTable()
	o.execOn(o.db,
		`DELETE FROM toll_window WHERE toll_plaza_id = 4006 AND kind = '1m' AND revision > 0 LIMIT 1`,
		`UPDATE toll_window SET events = 0, late = 0, by_type = '{}'
			WHERE toll_plaza_id = 4007 AND kind = '1m' AND revision > 0 LIMIT 1`)
	o.finds(names, "table_total", "table_checksum", "table_offset", "table_ahead", "epoch",
		"lost_delta", "window_missing", "window_behind")
	o.follow("Rebuild")
	o.exactAgain()

	o.execOn(o.db, `INSERT INTO toll_window SELECT 4856, kind, 27408135, 27408150,
		'2022-02-10 10:15:00', '2022-02-10 10:30:00', whole, epoch, revision, events, late, too_late,
		result_too_late, by_type, flow_per_hour, reason, published, stored_at
		FROM toll_window WHERE kind = '15m' AND revision > 0 AND too_late = 0 LIMIT 1`)
	o.finds(names, "window_extra")
	o.follow("Delete a window")
	o.exactAgain()

	o.process.interrupt()
	o.execOn(o.db,
		`DELETE FROM livetolldata WHERE toll_plaza_id = 4000 LIMIT 1`,
		`INSERT INTO livetolldata SELECT * FROM livetolldata WHERE toll_plaza_id = 4001 LIMIT 1`,
		`UPDATE livetolldata SET vehicle_id = vehicle_id + 1 WHERE toll_plaza_id = 4002 LIMIT 1`,
		`UPDATE toll_window SET late = events + 1
			WHERE toll_plaza_id = 4003 AND kind = '1m' AND revision > 0 LIMIT 1`,
		`UPDATE toll_window SET too_late = too_late + 1
			WHERE toll_plaza_id = 4004 AND kind = '1m' AND revision > 0 LIMIT 1`,
		`UPDATE toll_window SET window_end = window_end + INTERVAL 1 MINUTE
			WHERE toll_plaza_id = 4005 AND kind = '1m' AND revision > 0 LIMIT 1`,
		`UPDATE toll_batch SET first_offset = first_offset - 1 WHERE rejected = 0
			ORDER BY first_offset DESC LIMIT 1`,
		`UPDATE toll_batch SET topic_id = 'another' WHERE rejected > 0`,
		`DELETE FROM toll_cursor WHERE partition_id NOT IN (SELECT partition_id FROM toll_dead_letter)`)
	o.finds(names, "rows_missing", "rows_extra", "checksum", "minute_rows", "window_count",
		"window_too_late", "window_range", "batch_gap", "batch_overlap", "batch_sum", "cursor_lost",
		"other_topic", "dead_letters")
	o.follow("Restore a dump")
	o.exactAgain()

	o.execOn(o.db, `DELETE FROM livetolldata LIMIT 1`,
		`UPDATE toll_cursor SET token = token - 1 WHERE partition_id = 1`,
		`UPDATE toll_batch SET deltas = 'nothing' WHERE partition_id = 0
			ORDER BY first_offset LIMIT 1`)
	o.finds(names, "cursor_token", "batch_outbox", "chain")
	o.follow("Reset")
	o.exactAgain()

	o.process.interrupt()
	o.execOn(o.db, `UPDATE toll_cursor SET last_crc = last_crc - 1 WHERE partition_id = 0`)
	o.finds(names, "log_replaced")
	o.process = o.start("process")
	o.eventually("the end of process", caughtUpWithin, func() bool { return !o.process.running() })
	o.follow("Accept a log")
	o.exactAgain()

	o.process.interrupt()
	admin := o.admin()
	o.eventually("the end of the group", caughtUpWithin, func() bool {
		return admin.DeleteConsumerGroup(o.group) == nil
	})
	o.deleteTopic(o.group + "-table")
	o.deleteTopic(o.group + "-loop")
	if err := os.RemoveAll(o.state); err != nil {
		t.Fatal(err)
	}
	o.must("init")
	o.follow("Rebuild")
	o.exactAgain()

	// These two take hours to come about. They have their tests in sql/verify.
	names["window_rows"], names["window_stalled"] = true, true
	source, err := os.ReadFile("../../sql/verify/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`Kind\w+ += "(\w+)"`).FindAllStringSubmatch(string(source),
		-1) {
		if !names[m[1]] {
			t.Errorf("no drill for %s", m[1])
		}
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("docs/operations.md does not say what to do about %s", m[1])
		}
	}
}

// finds checks that verify reports problems of some kinds.
func (o *operator) finds(names map[string]bool, kinds ...string) {
	o.t.Helper()
	v := o.verify("--deep")
	for _, kind := range kinds {
		names[kind] = true
		if !slices.ContainsFunc(v.Problems, func(p problem) bool { return p.Kind == kind }) {
			o.t.Errorf("verify does not report %s: %+v", kind, v)
		}
	}
}

// breakTable writes states of plazas to the group table that are wrong, each in its way.
func (o *operator) breakTable() {
	o.t.Helper()
	first, last := map[string]*kgo.Record{}, map[string]*kgo.Record{}
	for _, r := range o.records(o.group + "-table") {
		if first[string(r.Key)] == nil {
			first[string(r.Key)] = r
		}
		last[string(r.Key)] = r
	}
	o.put(first["4005"])
	for key, change := range map[string]func(*toll.State){
		"4000": func(s *toll.State) { s.Events++ },
		"4001": func(s *toll.State) { s.Checksum++ },
		"4002": func(s *toll.State) { s.Merged[0].Next-- },
		"4003": func(s *toll.State) { s.Merged[0].Next += 1000 },
		"4004": func(s *toll.State) { s.Epoch += 1000 },
	} {
		state, err := wire.DecodeState(last[key].Value)
		if err != nil {
			o.t.Fatal(err)
		}
		change(state)
		last[key].Value = wire.AppendState(nil, state)
		o.put(last[key])
	}
}

// previous is the last commit before the present version of the tables: what an upgrade comes from.
const previous = "6bac79259253"

// drillUpgrade upgrades from the version before with data, under which the older one refuses to
// run, and goes back.
func drillUpgrade(t *testing.T, g *guide) {
	o := newServers(t, g)
	old := buildPrevious(t)
	o.installs(old)
	o.carry("tollstream init --partitions 2")
	o.sender = o.world.sender(o.truth, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	o.sender.disorder(400)
	o.carry("tollstream process --until-end --batch-rows 50")
	o.carry("systemctl start tollstream-process")
	other := o.startCommand([]string{old, "process", "--instance", "two", "--state-dir", t.TempDir()})
	o.underLoad(func() {
		o.follow("A dump")
		o.carry("systemctl stop tollstream-process")
		o.installs(binary)
		o.refuses([]string{"process"}, "are of version 5", "tollstream init")
		o.follow("Upgrades")
	})
	o.exactAgain() // one machine is upgraded, the other one is not
	if _, code := other.interrupt(); code != 0 {
		t.Errorf("the older process ended with %d:\n%s", code, other.log)
	}

	o.process.interrupt()
	o.installs(old)
	if err := o.carryOut("tollstream process --until-end"); err == nil ||
		!strings.Contains(err.Error(), "newer") {
		t.Errorf("the older version: %v, want a refusal of newer tables", err)
	}
	o.follow("Restore a dump")
	o.eventually("exact by the older version", caughtUpWithin, func() bool {
		return o.count(`SELECT COUNT(*) FROM livetolldata`) == int64(o.truth.total()) &&
			o.carryOut("tollstream verify --deep | grep '^exact'") == nil
	})
}

// buildPrevious builds the version before from this repository's history.
func buildPrevious(t *testing.T) (path string) {
	t.Helper()
	err := exec.Command("git", "cat-file", "-e", previous).Run()
	testkit.NeedService(t, "the history of this repository", err == nil)
	dir := t.TempDir()
	build := exec.Command("sh", "-c", "git -C ../.. archive "+previous+
		" | tar --extract --directory "+dir+" && cd "+dir+" && go build -o bin/ ./cmd/tollstream")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", previous, err, out)
	}
	return filepath.Join(dir, "bin", "tollstream")
}
