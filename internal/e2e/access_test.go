package e2e

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
)

// secured are a real Kafka and a real database server that ask who is there, and let nobody do more
// than was granted.
type secured struct {
	*world     // as administrator, without encryption
	kafka      *devstack.Kafka
	admin      *dbsql.DB  // root of the database
	ca, wrong  *authority // of the servers, and one that they know nothing of
	mysqlFiles files
}

// Names of the secured Kafka's listeners.
const (
	listenTLS       = "TLS"       // TLS, without names
	listenMutual    = "MUTUAL"    // TLS with client certificates
	listenSASL      = "SECURED"   // TLS and SASL
	listenPlainSASL = "PLAINSASL" // SASL without TLS
	listenExpired   = "EXPIRED"
	listenOther     = "OTHER" // its certificate is for another host
)

const otherHost = "kafka.example.org"

// kafkaUsers are the users of the secured Kafka and their passwords.
var kafkaUsers = map[string]string{
	"everything": "pw-everything", "init": "pw-init", "emit": "pw-emit", "process": "pw-process",
	"view":   "pw-view",
	"verify": "pw-verify", "reset": "pw-reset", "prune": "pw-prune", "rebuild": "pw-rebuild",
	"secret": "kafka-secret-5d1c", "nobody": "pw-nobody",
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	jars := kafkaJars(t)
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	s := &secured{ca: newAuthority(t, "ours"), wrong: newAuthority(t, "wrong")}
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	good := s.ca.issue("127.0.0.1", tomorrow)
	var err error
	s.kafka, err = devstack.StartKafka(context.Background(), devstack.KafkaConfig{
		Jars: jars, Authorize: true, Users: kafkaUsers,
		Listeners: map[string]devstack.KafkaListener{
			listenTLS:       {KeyStore: good.both},
			listenMutual:    {KeyStore: good.both, ClientCA: s.ca.file},
			listenSASL:      {KeyStore: good.both, SASL: true},
			listenPlainSASL: {SASL: true},
			listenExpired:   {KeyStore: s.ca.issue("127.0.0.1", yesterday).both},
			listenOther:     {KeyStore: s.ca.issue(otherHost, tomorrow).both},
		},
	})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() { _ = s.kafka.Close() })

	// The server reads its files again on request, so they are copies that a test may replace.
	dir := t.TempDir()
	s.mysqlFiles = files{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	s.installMySQL(t, good)
	db, err := devstack.StartDatabase(context.Background(), devstack.DatabaseConfig{
		Addr: "127.0.0.1:0", DataDir: dataDir(t, engine), Engine: engine,
		TLS: &devstack.DatabaseTLS{CA: s.ca.file, Cert: s.mysqlFiles.cert, Key: s.mysqlFiles.key},
	})
	if err != nil {
		t.Fatalf("start the database: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := dbsql.Open("mysql", db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if s.admin, err = dbsql.Open("mysql", db.AdminDSN()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.admin.Close() })
	// The names are the defaults, as docs/security.md has them.
	s.world = &world{t: t, brokers: s.kafka.Addr(), db: db, sql: conn, topic: "toll",
		group: "tollstream", state: t.TempDir()}
	s.env = append(os.Environ(), "TOLLSTREAM_BROKERS="+s.brokers, "TOLLSTREAM_MYSQL="+db.DSN(),
		"TOLLSTREAM_STATE_DIR="+s.state, "TOLLSTREAM_INSTANCE=one")
	return s
}

func (s *secured) installMySQL(t *testing.T, f files) {
	t.Helper()
	for from, to := range map[string]string{f.cert: s.mysqlFiles.cert, f.key: s.mysqlFiles.key} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.admin != nil {
		s.root(map[string]string{"mariadb": "FLUSH SSL", "mysql": "ALTER INSTANCE RELOAD TLS"}[engine])
	}
}

// root runs a statement as the database's administrator.
func (s *secured) root(statement string, args ...any) {
	s.t.Helper()
	if _, err := s.admin.Exec(statement, args...); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// with returns the world of a test with more variables; of one that is set twice the later wins.
func (w *world) with(t *testing.T, env ...string) *world {
	clone := *w
	clone.t = t
	clone.env = append(append([]string{}, w.env...), env...)
	return &clone
}

// sasl returns the variables of a Kafka user on the listener with TLS and SASL.
func (s *secured) sasl(mechanism, user, password string) []string {
	return []string{
		"TOLLSTREAM_BROKERS=" + s.kafka.ListenerAddr(listenSASL), "TOLLSTREAM_KAFKA_CA=" + s.ca.file,
		"TOLLSTREAM_KAFKA_SASL=" + mechanism, "TOLLSTREAM_KAFKA_USER=" +
			user, "TOLLSTREAM_KAFKA_PASSWORD=" + password,
	}
}

// dsn returns a DSN of the database.
func (s *secured) dsn(user, password string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/tolldata", user, password, s.db.Addr())
}

// soon bounds a refusal: far more than one attempt takes on a busy machine, and less than retries
// would.
const soon = 30 * time.Second

// refusesSoon runs a command that has to be refused by a server: with one line, perhaps a hint, and
// without retries.
func (w *world) refusesSoon(args []string, texts ...string) {
	w.t.Helper()
	started := time.Now()
	r := w.run(args...)
	took := time.Since(started)
	if r.code != 1 || r.stdout != "" || took > soon {
		w.t.Errorf("tollstream %s: exit status %d after %v, stdout %q, want 1 soon and nothing\n%s",
			strings.Join(args, " "), r.code, took, r.stdout, r.stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if !strings.HasPrefix(lines[0], "tollstream: ") || len(lines) > 2 || len(lines) == 2 &&
		!strings.HasPrefix(lines[1], "hint: ") {
		w.t.Errorf("tollstream %s: not one line and a hint:\n%s", strings.Join(args, " "), r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			w.t.Errorf("tollstream %s: stderr lacks %q:\n%s", strings.Join(args, " "), text, r.stderr)
		}
	}
	if testing.Verbose() {
		w.t.Logf("%s, after %v:\n%s", strings.Join(args, " "), took.Round(time.Millisecond),
			strings.TrimSpace(r.stderr))
	}
}

// TestAccess runs the command on servers with certificates, users and rights.
func TestAccess(t *testing.T) {
	inParallel(t)
	s := startSecured(t)
	s.must("init")
	t.Run("certificates", s.testCertificates)
	t.Run("refusals", s.testRefusals)
}

// all runs the commands that between them use every client of both servers.
func (w *world) all() {
	w.t.Helper()
	w.must("emit", "--count", "20", "--rate", "0")
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows == 0 {
		w.t.Errorf("verify: %+v", v)
	}
	w.must("view", "--json")
}

// testCertificates connects in every way that servers may ask for.
func (s *secured) testCertificates(t *testing.T) {
	client := s.ca.issue("toll-client", time.Now().Add(24*time.Hour))
	grantAll(t, s.kafka.Addr(), "User:everything", "User:CN=toll-client")
	for mechanism := range map[string]bool{"plain": true, "scram-sha-256": true,
		"SCRAM-SHA-512": true} {
		t.Run("Kafka "+mechanism, func(t *testing.T) {
			s.with(t, s.sasl(mechanism, "everything", kafkaUsers["everything"])...).all()
		})
	}
	t.Run("Kafka password file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(kafkaUsers["everything"]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.with(t,
			append(s.sasl("plain", "everything", ""), "TOLLSTREAM_KAFKA_PASSWORD_FILE="+file)...).all()
	})
	t.Run("Kafka without TLS to this machine", func(t *testing.T) {
		s.with(t, append(s.sasl("plain", "everything", kafkaUsers["everything"]),
			"TOLLSTREAM_BROKERS="+s.kafka.ListenerAddr(listenPlainSASL), "TOLLSTREAM_KAFKA_CA=")...).all()
	})
	t.Run("Kafka TLS", func(t *testing.T) {
		s.with(t, "TOLLSTREAM_BROKERS="+s.kafka.ListenerAddr(listenTLS),
			"TOLLSTREAM_KAFKA_CA="+s.ca.file).all()
	})
	t.Run("Kafka another name", func(t *testing.T) {
		s.with(t, "TOLLSTREAM_BROKERS="+s.kafka.ListenerAddr(listenOther),
			"TOLLSTREAM_KAFKA_CA="+s.ca.file, "TOLLSTREAM_KAFKA_SERVER_NAME="+otherHost).all()
	})
	t.Run("Kafka client certificate", func(t *testing.T) {
		s.with(t, "TOLLSTREAM_BROKERS="+s.kafka.ListenerAddr(listenMutual),
			"TOLLSTREAM_KAFKA_CA="+s.ca.file,
			"TOLLSTREAM_KAFKA_CERT="+client.cert, "TOLLSTREAM_KAFKA_KEY="+client.key).all()
	})

	s.root("CREATE USER secure IDENTIFIED BY 'pw-secure' REQUIRE SSL")
	s.root("CREATE USER mutual IDENTIFIED BY 'pw-mutual' REQUIRE X509")
	s.root("GRANT ALL ON tolldata.* TO secure, mutual")
	t.Run("MySQL with TLS", func(t *testing.T) {
		s.with(t, "TOLLSTREAM_MYSQL="+s.dsn("secure", "pw-secure"),
			"TOLLSTREAM_MYSQL_CA="+s.ca.file).all()
	})
	t.Run("MySQL with a client certificate and a password file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte("pw-mutual"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.with(t, "TOLLSTREAM_MYSQL=mutual@tcp("+s.db.Addr()+")/tolldata",
			"TOLLSTREAM_MYSQL_PASSWORD_FILE="+file,
			"TOLLSTREAM_MYSQL_CA="+s.ca.file, "TOLLSTREAM_MYSQL_CERT="+client.cert, "TOLLSTREAM_MYSQL_KEY="+
				client.key).all()
	})
}

// testRefusals is refused in every way that a server, or we, may refuse.
func (s *secured) testRefusals(t *testing.T) {
	s.must("emit", "--count", "1")
	commands := [][]string{{"init"}, {"emit", "--count", "1"}, {"process"}, {"view"}, {"verify"}}
	at := func(listener string, env ...string) []string {
		return append([]string{"TOLLSTREAM_BROKERS=" + s.kafka.ListenerAddr(listener)}, env...)
	}
	stranger := s.wrong.issue("toll-client", time.Now().Add(24*time.Hour))
	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"authority", at(listenTLS, "TOLLSTREAM_KAFKA_CA="+s.wrong.file),
			[]string{"unknown authority", "--kafka-ca"}},
		{"system's authorities", at(listenTLS, "TOLLSTREAM_KAFKA_TLS=true"),
			[]string{"unknown authority", "--kafka-ca"}},
		{"expired", at(listenExpired, "TOLLSTREAM_KAFKA_CA="+s.ca.file), []string{"expired", "renew"}},
		{"host", at(listenOther, "TOLLSTREAM_KAFKA_CA="+s.ca.file),
			[]string{"127.0.0.1", "--kafka-server-name"}},
		{"no client certificate", at(listenMutual, "TOLLSTREAM_KAFKA_CA="+s.ca.file),
			[]string{"certificate", "--kafka-cert"}},
		{"stranger's certificate",
			at(listenMutual, "TOLLSTREAM_KAFKA_CA="+s.ca.file, "TOLLSTREAM_KAFKA_CERT="+stranger.cert,
				"TOLLSTREAM_KAFKA_KEY="+stranger.key),
			[]string{"certificate", "--kafka-cert"}},
		{"TLS to a plain port", []string{"TOLLSTREAM_KAFKA_TLS=1"}, []string{"TLS"}},
		{"a plain connection to a TLS port", at(listenTLS), []string{"TLS", "--kafka-tls"}},
		{"no user", at(listenPlainSASL), []string{"asks for a user", "--kafka-sasl"}},
		{"plain password", s.sasl("plain", "everything", "wrong"), []string{"password", "--kafka-user"}},
		{"SCRAM password", s.sasl("scram-sha-256", "everything", "wrong"),
			[]string{"password", "--kafka-user"}},
		{"unknown user", s.sasl("scram-sha-512", "stranger", "wrong"),
			[]string{"password", "--kafka-user"}},
		{"SASL where there is none",
			append(s.sasl("plain", "everything", "x"),
				"TOLLSTREAM_BROKERS="+s.kafka.ListenerAddr(listenTLS)), []string{"--kafka-sasl"}},
		{"no rights", s.sasl("plain", "nobody", kafkaUsers["nobody"]),
			[]string{"not authorized", "toll", "docs/security.md"}},
	} {
		t.Run("Kafka "+c.name, func(t *testing.T) {
			w := s.with(t, c.env...)
			for _, command := range commands {
				w.refusesSoon(command, c.want...)
			}
		})
	}
	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"authority", []string{"TOLLSTREAM_MYSQL_CA=" + s.wrong.file},
			[]string{"unknown authority", "--mysql-ca"}},
		{"password", []string{"TOLLSTREAM_MYSQL=" + s.dsn("toll", "wrong")},
			[]string{"Access denied", "password"}},
		{"without TLS", []string{"TOLLSTREAM_MYSQL=" + s.dsn("secure", "pw-secure")},
			[]string{"Access denied"}},
		{"no client certificate", []string{"TOLLSTREAM_MYSQL=" + s.dsn("mutual", "pw-mutual"),
			"TOLLSTREAM_MYSQL_CA=" + s.ca.file}, []string{"Access denied"}},
	} {
		t.Run("MySQL "+c.name, func(t *testing.T) {
			w := s.with(t, c.env...)
			for _, command := range commands {
				if command[0] != "emit" {
					w.refusesSoon(command, c.want...)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		files files
		want  []string
	}{
		"expired": {s.ca.issue("127.0.0.1", time.Now().Add(-time.Hour)), []string{"expired", "renew"}},
		"host": {s.ca.issue("db.example.org", time.Now().Add(time.Hour)),
			[]string{"127.0.0.1", "--mysql-server-name"}},
	} {
		t.Run("MySQL "+name, func(t *testing.T) {
			s.installMySQL(t, c.files)
			w := s.with(t, "TOLLSTREAM_MYSQL_CA="+s.ca.file)
			for _, command := range commands {
				if command[0] != "emit" {
					w.refusesSoon(command, c.want...)
				}
			}
		})
	}
	s.installMySQL(t, s.ca.issue("127.0.0.1", time.Now().Add(24*time.Hour)))
}
