package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serverCase is a database server with settings that managed servers, or careful administrators,
// have.
type serverCase struct {
	name    string
	engine  string // "" for both
	options []string
	before  func(w *world)          // before init
	refused []string                // what init says, where it has to refuse
	env     func(w *world) []string // what commands need there
	after   func(w *world)          // once all is stored
}

var serverCases = []serverCase{
	{name: "autocommit off", options: []string{"--autocommit=0"}},
	{name: "chained transactions", options: []string{"--completion-type=CHAIN"}},
	{
		name: "small limits",
		before: func(w *world) {
			for _, setting := range []string{
				"autocommit = 0", "completion_type = 'RELEASE'", "sql_safe_updates = 1", "sql_select_limit = 5",
				"sql_big_selects = 0",
				"max_join_size = 5", "sql_buffer_result = 1", "max_sort_length = 8", "unique_checks = 0",
				"innodb_lock_wait_timeout = 1",
				"net_read_timeout = 1", "net_write_timeout = 1",
			} {
				w.rootExec("SET GLOBAL " + setting)
			}
		},
	},
	{name: "SQL modes",
		options: []string{
			"--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT"}},
	{name: "fractions truncated", engine: "mysql",
		options: []string{"--sql-mode=TIME_TRUNCATE_FRACTIONAL,PAD_CHAR_TO_FULL_LENGTH"}},
	{name: "names in lower case", options: []string{"--lower-case-table-names=1"}},
	{name: "another time zone", options: []string{"--default-time-zone=-07:30"}},
	{
		name: "latin1", options: []string{"--character-set-server=latin1",
			"--collation-server=latin1_swedish_ci"},
		before: (*world).dropDatabase,
	},
	{
		name:   "a database of latin1",
		before: func(w *world) { w.rootExec("ALTER DATABASE tolldata CHARACTER SET latin1") },
	},
	{
		name: "utf8mb4_0900_ai_ci", engine: "mysql",
		options: []string{"--collation-server=utf8mb4_0900_ai_ci"},
		before:  (*world).dropDatabase,
	},
	{
		name: "keys generated", engine: "mysql",
		options: []string{"--sql-generate-invisible-primary-key=ON"},
		after:   (*world).hasHiddenKey,
	},
	{
		name: "keys required", engine: "mysql", options: []string{"--sql-require-primary-key=ON"},
		after: (*world).hasHiddenKey,
	},
	{
		name: "keys required by InnoDB", engine: "mariadb",
		options: []string{"--innodb-force-primary-key=ON"},
		after:   (*world).hasHiddenKey,
	},
	{name: "MyISAM by default", options: []string{"--default-storage-engine=MyISAM"},
		after: (*world).allInnoDB},
	{name: "Aria by default", engine: "mariadb", options: []string{"--default-storage-engine=Aria"},
		after: (*world).allInnoDB},
	{
		name: "statements logged", options: []string{"--log-bin=binlog", "--server-id=1",
			"--binlog-format=STATEMENT"},
		refused: []string{"binlog_format = STATEMENT", "SET GLOBAL binlog_format = 'ROW'"},
	},
	{name: "rows logged",
		options: []string{"--log-bin=binlog", "--server-id=1", "--binlog-format=ROW"}},
	{
		name: "GTID", engine: "mysql",
		options: []string{"--log-bin=binlog", "--server-id=1", "--binlog-format=ROW", "--gtid-mode=ON",
			"--enforce-gtid-consistency=ON"},
	},
	{name: "small packets", options: []string{"--max-allowed-packet=1M"}},
	{name: "the smallest packets", options: []string{"--max-allowed-packet=64K"}},
	{name: "packets too small", options: []string{"--max-allowed-packet=32K"},
		refused: []string{"takes 32768 bytes", "max_allowed_packet"}},
	{name: "connections closed soon", options: []string{"--wait-timeout=5"}, after: (*world).idles},
	{name: "read-only for a while", after: (*world).readOnlyForAWhile},
	{
		// The server keeps the passwords that it has seen once by a hash that needs no encryption: it
		// forgets them first, so that each connection is a first one.
		name: "no TLS", engine: "mysql",
		options: []string{"--default-authentication-plugin=caching_sha2_password", "--tls-version="},
		before:  func(w *world) { w.rootExec("FLUSH PRIVILEGES") },
	},
	{
		name: "TLS required", engine: "mysql",
		options: []string{"--default-authentication-plugin=caching_sha2_password"},
		before: func(w *world) {
			w.rootExec("SET GLOBAL require_secure_transport = ON")
			w.rootExec("FLUSH PRIVILEGES")
			w.refuses([]string{"init"}, "insecure transport", "--mysql-tls verify-ca")
			ca := w.generatedCA()
			w.refuses([]string{"init", "--mysql-ca", ca}, "hint: ", "--mysql-tls verify-ca")
			w.refuses([]string{"init", "--mysql-tls", "verify-ca"}, "unknown authority", "--mysql-ca")
			w.refuses([]string{"init", "--mysql-tls", "verify-ca", "--mysql-ca",
				newAuthority(w.t, "wrong").file}, "unknown authority", "--mysql-ca")
			w.must("init", "--mysql-tls", "required")
		},
		env: func(w *world) []string {
			return []string{"TOLLSTREAM_MYSQL_TLS=verify-ca", "TOLLSTREAM_MYSQL_CA=" + w.generatedCA()}
		},
	},
}

// TestServers goes through the commands on a server of each kind.
func TestServers(t *testing.T) {
	inParallel(t)
	brokers := sharedKafka(t).Addr()
	for _, c := range serverCases {
		if c.engine != "" && c.engine != engine {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			inParallel(t)
			w := newWorldOn(t, brokers, engine, c.options...)
			if c.before != nil {
				c.before(w)
			}
			if c.refused != nil {
				w.refuses([]string{"init"}, c.refused...)
				return
			}
			if c.env != nil {
				w = w.with(t, c.env(w)...)
			}
			w.must("init", "--partitions", "2")
			if out := w.must("init"); !strings.Contains(out, "nothing") {
				t.Errorf("second init: %s", out)
			}
			truth := newTruth()
			s := w.sender(truth)
			s.send(400)
			s.sendRaw(garbage()...)
			w.must("emit", "--count", "50", "--rate", "0", "--seed", "1")
			w.must("process", "--until-end")
			s.send(200)
			w.must("process", "--until-end", "--load", "insert")
			v := w.verify("--deep")
			if v.Status != "exact" || v.Rows != 650 || v.Rejected != int64(len(garbage())) {
				t.Fatalf("verify: %+v", v)
			}
			w.must("view", "--json")
			for _, query := range []string{"by_type", "last_hour", "top10"} {
				w.must("sql", query)
			}
			if c.after != nil {
				c.after(w)
			}
			if _,
				err := w.root().Exec(
				`insert into livetolldata values ('2022-02-10 10:23:02', 1, 'car', 4856)`); err != nil {
				t.Errorf("the course's insert: %v", err)
			}
		})
	}
}

// TestStorageEngines has tables of an engine without transactions: each process that was killed
// would double rows.
func TestStorageEngines(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.rootExec(`CREATE TABLE tolldata.livetolldata(timestamp datetime, vehicle_id int,
		vehicle_type char(15), toll_plaza_id smallint) ENGINE=MyISAM`)
	convert := "ALTER TABLE `tolldata`.`livetolldata` ENGINE=InnoDB;"
	w.refuses([]string{"init"}, "livetolldata is MyISAM", convert)
	w.rootExec(convert)
	w.must("init")
	for _, table := range []string{"livetolldata", "toll_batch"} {
		w.rootExec("ALTER TABLE tolldata." + table + " ENGINE=MyISAM")
		for _, command := range [][]string{{"init"}, {"process"}, {"process", "--until-end"}} {
			w.refuses(command, table+" is MyISAM", "ALTER TABLE `tolldata`.`"+table+"` ENGINE=InnoDB;")
		}
		w.rootExec("ALTER TABLE tolldata." + table + " ENGINE=InnoDB")
	}
	w.rootExec("ALTER TABLE tolldata.livetolldata PARTITION BY HASH (toll_plaza_id) PARTITIONS 3")
	w.must("emit", "--count", "50", "--rate", "0")
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 50 {
		t.Errorf("verify: %+v", v)
	}
}

// rootExec runs a statement as the database's administrator.
func (w *world) rootExec(statement string) {
	w.t.Helper()
	if _, err := w.root().Exec(statement); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

// dropDatabase leaves it to init to create the database.
func (w *world) dropDatabase() { w.rootExec("DROP DATABASE tolldata") }

func (w *world) hasHiddenKey() {
	w.t.Helper()
	if n := w.count(`SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'tolldata'
		AND table_name = 'livetolldata'
		AND column_name = 'my_row_id' AND column_key = 'PRI'`); n != 1 {
		w.t.Errorf("livetolldata has %d keys", n)
	}
	rows, err := w.sql.Query("select * from livetolldata limit 1")
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	if names, err := rows.Columns(); err != nil || len(names) != 4 {
		w.t.Errorf("SELECT * has the columns %v, %v", names, err)
	}
}

func (w *world) allInnoDB() {
	w.t.Helper()
	if n := w.count(`SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'tolldata'
		AND engine <> 'InnoDB'`); n != 0 {
		w.t.Errorf("%d tables are not of InnoDB", n)
	}
}

// generatedCA returns the file of the authority that MySQL made for itself.
func (w *world) generatedCA() string {
	w.t.Helper()
	var dir string
	if err := w.root().QueryRow("SELECT @@datadir").Scan(&dir); err != nil {
		w.t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if _, err := os.Stat(ca); err != nil {
		w.t.Fatal(err)
	}
	return ca
}

// idles has a process without events for longer than the server keeps idle connections.
func (w *world) idles() {
	w.t.Helper()
	p := w.start("process")
	for range 2 {
		time.Sleep(7 * time.Second)
		before := w.count("SELECT COUNT(*) FROM livetolldata")
		w.must("emit", "--count", "50", "--rate", "0")
		w.eventually("the rows", time.Minute,
			func() bool { return w.count("SELECT COUNT(*) FROM livetolldata") == before+50 })
	}
	if log := p.log.String(); strings.Contains(log, "MySQL failed") {
		w.t.Errorf("MySQL failed:\n%s", log)
	}
	p.interrupt()
}

// readOnlyForAWhile forbids writing while events come.
func (w *world) readOnlyForAWhile() {
	w.t.Helper()
	before := w.count("SELECT COUNT(*) FROM livetolldata")
	w.rootExec("SET GLOBAL read_only = 1")
	p := w.start("process")
	w.must("emit", "--count", "50", "--rate", "0")
	w.eventually("a line about it", time.Minute,
		func() bool { return strings.Contains(p.log.String(), "read-only") })
	w.rootExec("SET GLOBAL read_only = 0")
	w.eventually("the rows", time.Minute,
		func() bool { return w.count("SELECT COUNT(*) FROM livetolldata") == before+50 })
	p.interrupt()
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" {
		w.t.Errorf("verify: %+v", v)
	}
}
