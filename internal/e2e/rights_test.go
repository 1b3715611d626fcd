package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kgo"
)

// right is something that a user may do on one of the servers.
type right struct {
	text   string
	grant  func()
	revoke func()
}

// TestRights runs each command with the rights that docs/security.md lists for it, which are read
// from there, and with each of them missing.
func TestRights(t *testing.T) {
	inParallel(t)
	s := startSecured(t)
	for user, password := range kafkaUsers {
		s.root("CREATE USER `" + user + "` IDENTIFIED BY '" + password + "'")
	}
	as := func(t *testing.T, user string) *world {
		return s.with(t,
			append(s.sasl("scram-sha-512", user, kafkaUsers[user]),
				"TOLLSTREAM_MYSQL="+s.dsn(user, kafkaUsers[user]))...)
	}
	plazas := filepath.Join(t.TempDir(), "plazas.csv")
	if err := os.WriteFile(plazas, []byte("id,name,lanes\n4001,One,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	// more sends what makes process use all of its rights: the events of half an hour, so that windows
	// close and are judged, one that is none, a repaired one, and one that comes too late.
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers), kgo.DefaultProduceTopic(s.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	clock := time.Date(2022, 2, 10, 10, 0, 0, 0, time.UTC)
	more := func() {
		t.Helper()
		var records []*kgo.Record
		event := func(at time.Time, headers ...kgo.RecordHeader) {
			records = append(records,
				&kgo.Record{Value: fmt.Appendf(nil, "%s,7,car,4001", at.Format(time.ANSIC)), Headers: headers})
		}
		for range 120 {
			clock = clock.Add(15 * time.Second)
			event(clock)
		}
		event(clock,
			kgo.RecordHeader{Key: "tollstream-retry-of", Value: fmt.Appendf(nil, "0:%d", clock.Unix())})
		event(clock.Add(-72 * time.Hour))
		records = append(records, &kgo.Record{Value: []byte("not an event")})
		if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	// inFlight leaves rows stored and not counted, which verify looks into: a process that may not
	// write its deltas.
	inFlight := func(t *testing.T) {
		loop := acl{"User:process", sarama.AclResourceTopic, "tollstream-loop", sarama.AclPatternLiteral,
			sarama.AclOperationWrite}
		loop.apply(t, s.kafka.Addr(), false)
		more()
		as(t, "process").refusesRight("Write on topic tollstream-loop",
			[]string{"process", "--until-end"})
	}

	for _, c := range []struct {
		user    string
		args    []string
		before  func()
		spare   []string // rights that this run does not need
		minimum int      // rights in the document, so that it can't be misread as none
	}{
		{"init", []string{"init", "--partitions", "1"}, func() {},
			[]string{"ALTER", "DROP", "UPDATE", "DescribeConfigs on topic toll"}, 10},
		{"emit", []string{"emit", "--count", "5", "--rate", "0", "--start", "2022-02-10 09:59"},
			func() {}, nil, 1},
		{"process", []string{"process", "--until-end", "--plazas-file", plazas}, more,
			[]string{"DescribeConfigs on topic toll", "DELETE ON tolldata.toll_batch",
				"DELETE ON tolldata.toll_window", "DELETE ON tolldata.toll_transition",
				"DELETE ON tolldata.toll_dead_letter", "DELETE ON tolldata.toll_retry",
				"DELETE ON tolldata.toll_notification", "DELETE ON tolldata.toll_incident_note",
				// with --notify-url
				"INSERT ON tolldata.toll_notification", "UPDATE ON tolldata.toll_notification",
				"INSERT ON tolldata.toll_retired", "UPDATE ON tolldata.toll_retired",
				"INSERT ON tolldata.toll_pruned", "UPDATE ON tolldata.toll_pruned", // once an hour
				// when windows close, below
				"INSERT ON tolldata.toll_congestion", "UPDATE ON tolldata.toll_congestion",
				"INSERT ON tolldata.toll_transition", "UPDATE ON tolldata.toll_transition",
			}, 20},
		{"view", []string{"view", "--json"}, func() {},
			[]string{"INSERT ON tolldata.toll_incident_note"}, 3}, // with --ack-tokens-file
		{"verify", []string{"verify", "--deep", "--json"}, func() {}, []string{"Read on topic toll"}, 5},
		// MySQL locks what it deletes
		{"prune", []string{"prune", "--before", "2022-02-10 12:00", "--yes"}, func() {},
			[]string{"UPDATE ON tolldata.livetolldata", "INSERT ON tolldata.toll_retired",
				"UPDATE ON tolldata.toll_retired"}, 4},
		// where the clock went back
		{"rebuild", []string{"rebuild", "--yes"}, func() {}, []string{"UPDATE ON tolldata.toll_meta"}, 7},
		{"reset", []string{"reset", "--yes"}, more, []string{"INSERT"}, 10},
	} {
		t.Run(c.user, func(t *testing.T) {
			rights := s.rights(t, c.user)
			if len(rights) < c.minimum {
				t.Fatalf("docs/security.md lists %d rights for %s, and it needs more", len(rights), c.user)
			}
			w := as(t, c.user)
			if c.user == "verify" {
				inFlight(t)
			}
			for _, r := range rights {
				r.grant()
			}
			for _, r := range rights {
				if slices.ContainsFunc(c.spare, func(spare string) bool {
					return strings.HasPrefix(r.text+" ", spare+" ")
				}) {
					continue
				}
				t.Run(r.text, func(t *testing.T) {
					r.revoke()
					c.before()
					w.with(t).refusesRight(r.text, c.args)
					r.grant()
				})
			}
			c.before()
			w.must(c.args...)
			if c.user == "process" {
				t.Run("lost", func(t *testing.T) { w.with(t).losesRights(rights, more) })
			}
		})
	}
}

// losesRights takes rights away from processes that run, and checks that nothing was lost by that.
func (w *world) losesRights(rights []right, more func()) {
	w.t.Helper()
	for _, text := range []string{
		"Read on topic toll", "Read on topic tollstream-loop", "Write on topic tollstream-table",
		"Read on group tollstream",
		"INSERT ON tolldata.livetolldata", "UPDATE ON tolldata.toll_batch",
		"INSERT ON tolldata.toll_congestion", "UPDATE ON tolldata.toll_congestion",
	} {
		r := rights[slices.IndexFunc(rights, func(r right) bool { return r.text == text })]
		w.t.Run(text, func(t *testing.T) { w.with(t).losesRight(r, more) })
	}
	w.must("process", "--until-end")
	if v := w.verify("--deep"); v.Status != "exact" {
		w.t.Errorf("verify: %+v", v)
	}
}

// losesRight takes a right away from a process that runs. It has to end with that error.
func (w *world) losesRight(r right, more func()) {
	w.t.Helper()
	stored := func() int64 { return w.count("SELECT COUNT(*) FROM livetolldata") }
	before := stored()
	p := w.start("process")
	more()
	w.eventually("rows before "+r.text+" is lost", time.Minute, func() bool {
		return stored() > before || !p.running()
	})
	r.revoke()
	started := time.Now()
	for p.running() {
		if time.Since(started) > time.Minute {
			w.t.Fatalf("process goes on without %s:\n%s", r.text, p.log)
		}
		more()
		time.Sleep(100 * time.Millisecond)
	}
	log := p.log.String()
	if p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log, "docs/security.md") ||
		!strings.Contains(log, "not authorized") && !strings.Contains(log, "denied") {
		w.t.Errorf("process lost %s: exit status %d\n%s", r.text, p.cmd.ProcessState.ExitCode(), log)
	}
	if testing.Verbose() {
		w.t.Logf("lost %s, ended after %v:\n%s", r.text, time.Since(started).Round(time.Millisecond), log)
	}
	r.grant()
}

// refusesRight runs a command that lacks one right. It has to say so.
func (w *world) refusesRight(text string, args []string) {
	w.t.Helper()
	started := time.Now()
	r := w.run(args...)
	took := time.Since(started)
	denied := strings.Contains(r.stderr, "not authorized") || strings.Contains(r.stderr, "denied") ||
		strings.Contains(r.stderr, "SELECT")
	if r.code != 1 || !denied || !strings.Contains(r.stderr, "docs/security.md") || took > soon {
		w.t.Errorf("%s without %s: exit status %d after %v, want 1 soon, and that it is denied:\n%s%s",
			args[0], text, r.code, took, r.stdout, r.stderr)
	}
	if testing.Verbose() {
		w.t.Logf("without %s, after %v:\n%s", text, took.Round(time.Millisecond),
			strings.TrimSpace(r.stderr))
	}
}

// rights reads what docs/security.md lists for a command.
func (s *secured) rights(t *testing.T, command string) []right {
	t.Helper()
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n### "+command+"\n")
	if !found {
		t.Fatalf("docs/security.md has no section %s", command)
	}
	section, _, _ = strings.Cut(section, "\n### ")
	var rights []right
	for _, m := range regexp.MustCompile("(?s)```(sh kafka|sql)\n(.*?)```").FindAllStringSubmatch(
		section, -1) {
		for line := range strings.Lines(m[2]) {
			if m[1] == "sql" {
				rights = append(rights, s.sqlRights(t, strings.TrimSpace(line))...)
			} else {
				rights = append(rights, s.kafkaRights(t, strings.Fields(line))...)
			}
		}
	}
	return rights
}

// sqlRights reads GRANT A, B ON tolldata.x TO user; as one right for A and one for B.
func (s *secured) sqlRights(t *testing.T, line string) []right {
	t.Helper()
	m := regexp.MustCompile(
		`^GRANT ([A-Z, ]+) ON (tolldata\.[a-z_*]+) TO ([a-z]+);$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("docs/security.md: %q is no GRANT as the others are", line)
	}
	var rights []right
	for privilege := range strings.SplitSeq(m[1], ", ") {
		rights = append(rights, right{
			text:   privilege + " ON " + m[2],
			grant:  func() { s.root("GRANT " + privilege + " ON " + m[2] + " TO `" + m[3] + "`") },
			revoke: func() { s.root("REVOKE " + privilege + " ON " + m[2] + " FROM `" + m[3] + "`") },
		})
	}
	return rights
}

// kafkaRights reads the options of kafka-acls.sh as one right for each operation.
func (s *secured) kafkaRights(t *testing.T, words []string) []right {
	t.Helper()
	a := acl{pattern: sarama.AclPatternLiteral}
	var operations []sarama.AclOperation
	for i := 1; i < len(words); i++ {
		option := words[i]
		if option == "--add" {
			continue
		}
		i++
		if i == len(words) {
			t.Fatalf("docs/security.md: %v ends too early", words)
		}
		switch value := words[i]; option {
		case "--allow-principal":
			a.principal = value
		case "--operation":
			var o sarama.AclOperation
			if err := o.UnmarshalText([]byte(value)); err != nil {
				t.Fatal(err)
			}
			operations = append(operations, o)
		case "--topic":
			a.kind, a.name = sarama.AclResourceTopic, value
		case "--group":
			a.kind, a.name = sarama.AclResourceGroup, value
		case "--resource-pattern-type":
			if err := a.pattern.UnmarshalText([]byte(value)); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("docs/security.md: the option %s is not known here", option)
		}
	}
	var rights []right
	for _, o := range operations {
		one := a
		one.operation = o
		rights = append(rights, right{
			text:   one.String(),
			grant:  func() { one.apply(t, s.kafka.Addr(), true) },
			revoke: func() { one.apply(t, s.kafka.Addr(), false) },
		})
	}
	return rights
}

// acl is one right of a Kafka user.
type acl struct {
	principal string
	kind      sarama.AclResourceType
	name      string
	pattern   sarama.AclResourcePatternType
	operation sarama.AclOperation
}

func (a acl) String() string {
	kind := "topic"
	if a.kind == sarama.AclResourceGroup {
		kind = "group"
	}
	return a.operation.String() + " on " + kind + " " + a.name
}

// apply grants a right or takes it away, and waits until the broker goes by it.
func (a acl) apply(t *testing.T, brokers string, allow bool) {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{brokers}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	host := "*"
	filter := sarama.AclFilter{
		ResourceType: a.kind, ResourceName: &a.name, ResourcePatternTypeFilter: a.pattern,
		Principal: &a.principal, Host: &host, Operation: a.operation,
		PermissionType: sarama.AclPermissionAllow,
	}
	if allow {
		err = admin.CreateACLs([]*sarama.ResourceAcls{{
			Resource: sarama.Resource{ResourceType: a.kind, ResourceName: a.name,
				ResourcePatternType: a.pattern},
			Acls: []*sarama.Acl{{Principal: a.principal, Host: host, Operation: a.operation,
				PermissionType: sarama.AclPermissionAllow}},
		}})
	} else {
		_, err = admin.DeleteACL(filter, false)
	}
	for deadline := time.Now().Add(caughtUpWithin); err == nil; time.Sleep(10 * time.Millisecond) {
		var found []sarama.ResourceAcls
		if found, err = admin.ListAcls(filter); err == nil && (len(found) > 0) == allow {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not show", a)
		}
	}
	t.Fatalf("%s: %v", a, err)
}

// grantAll lets Kafka users do everything.
func grantAll(t *testing.T, brokers string, principals ...string) {
	t.Helper()
	for _, principal := range principals {
		for _, kind := range []sarama.AclResourceType{sarama.AclResourceTopic, sarama.AclResourceGroup} {
			acl{principal, kind, "*", sarama.AclPatternLiteral, sarama.AclOperationAll}.apply(t, brokers,
				true)
		}
	}
}

// secrets are texts that must not show anywhere, by what they are.
type secrets map[string]string

// check looks for the secrets, also as JSON, URLs and base64 write them.
func (s secrets) check(t *testing.T, where, text string) {
	t.Helper()
	for what, secret := range s {
		for _, form := range []string{secret, strings.Trim(fmt.Sprintf("%q", secret), `"`),
			base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows %s:\n%s", where, what, text)
			}
		}
	}
}

// TestSecrets runs commands through successes, refusals and a crash, and looks for secrets in all
// that they show.
func TestSecrets(t *testing.T) {
	inParallel(t)
	s := startSecured(t)
	s.must("init")
	s.must("emit", "--count", "20", "--rate", "0")
	const user = "secret"
	found := secrets{"the Kafka password": kafkaUsers[user],
		"the MySQL password": `mysql-'p@ss:w/rd"-5d1c`, "the token": "token-0123456789-abcdefghij-5d1c"}
	grantAll(t, s.kafka.Addr(), "User:"+user)
	s.root("CREATE USER secret IDENTIFIED BY '" + strings.ReplaceAll(found["the MySQL password"], "'",
		"''") + "'")
	s.root("GRANT ALL ON tolldata.* TO secret")

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("token", found["the token"]+"\n")
	page := s.ca.issue("127.0.0.1", time.Now().Add(time.Hour))
	key, err := os.ReadFile(page.key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key)
	found["the TLS key"] = base64.StdEncoding.EncodeToString(block.Bytes)[:60]

	dsn := func(password string) string {
		c := mysql.NewConfig()
		c.User, c.Passwd, c.Net, c.Addr, c.DBName = user, password, "tcp", s.db.Addr(), "tolldata"
		return c.FormatDSN()
	}
	w := s.with(t, append(s.sasl("scram-sha-256", user, found["the Kafka password"]),
		"TOLLSTREAM_MYSQL="+dsn(found["the MySQL password"]), "TOLLSTREAM_LOG_LEVEL=debug")...)

	// What goes well, and what does not.
	for _, c := range []struct {
		args []string
		env  []string
		code int
	}{
		{[]string{"process", "--until-end"}, nil, 0},
		{[]string{"verify", "--deep"}, nil, 0},
		{[]string{"view"}, nil, 0},
		{[]string{"sql", "top10"}, nil, 0},
		{[]string{"dead-letters"}, nil, 0},
		{[]string{"init", "--json"}, nil, 0},
		{[]string{"process", "--help"}, nil, 0},
		{[]string{"verify"}, []string{"TOLLSTREAM_KAFKA_SASL=scram-sha-1"}, 2},
		{[]string{"verify"}, []string{"TOLLSTREAM_KAFKA_SASL=plain", "TOLLSTREAM_KAFKA_USER=nobody"}, 1},
		{[]string{"verify"}, []string{"TOLLSTREAM_KAFKA_SASL="}, 2},
		// a key in place of a certificate
		{[]string{"verify"}, []string{"TOLLSTREAM_KAFKA_CA=" + page.key}, 1},
		{[]string{"verify"},
			[]string{"TOLLSTREAM_KAFKA_CERT=" + page.key, "TOLLSTREAM_KAFKA_KEY=" + page.cert}, 1},
		{[]string{"verify"},
			[]string{"TOLLSTREAM_KAFKA_CERT=" + page.cert, "TOLLSTREAM_KAFKA_KEY=" + page.key}, 0},
		{[]string{"verify"}, []string{"TOLLSTREAM_BROKERS=127.0.0.1:1"}, 1},
		{[]string{"verify"},
			[]string{"TOLLSTREAM_BROKERS=kafka.example.org:9092", "TOLLSTREAM_KAFKA_CA="}, 2},
		{[]string{"verify", "--mysql", dsn(found["the MySQL password"]) + "?tls=maybe"}, nil, 2},
		{[]string{"verify", "--mysql", strings.ReplaceAll(dsn(found["the MySQL password"]), "(", "")},
			nil, 2},
		{[]string{"verify", "--mysql", found["the MySQL password"]}, nil, 2},
		{[]string{"verify", "--mysql", strings.Replace(dsn(found["the MySQL password"]), user, "nobody",
			1)}, nil, 1},
		{[]string{"verify", "--mysql", strings.Replace(dsn(found["the MySQL password"]), "/tolldata",
			"/nothing", 1)}, nil, 1},
		{[]string{"verify", "--mysql", "secret@tcp(127.0.0.1:1)/tolldata", "--mysql-password-file",
			write("password", found["the MySQL password"])}, nil, 1},
		{[]string{"verify", "--mysql-password-file",
			write("lines", found["the MySQL password"]+"\n"+found["the Kafka password"])},
			[]string{"TOLLSTREAM_MYSQL="}, 1},
		{[]string{"view", "--listen", "127.0.0.1:0", "--token-file",
			write("short", found["the token"][:5])}, nil, 2},
		{[]string{"view", "--listen", "127.0.0.1:0", "--tls-cert", page.key, "--tls-key", page.cert}, nil,
			1},
	} {
		r := w.with(t, c.env...).run(c.args...)
		if r.code != c.code {
			t.Errorf("%v with %v: exit status %d, want %d\n%s", c.args[0], c.env, r.code, c.code, r.stderr)
		}
		found.check(t, fmt.Sprintf("stdout of %v", c.args[0]), r.stdout)
		found.check(t, fmt.Sprintf("stderr of %v with %v", c.args[0], c.env), r.stderr)
	}

	// What runs for long: its command line, its pages, and what it says when it crashes.
	runs := w.start("process", "--mysql", dsn(found["the MySQL password"]), "--metrics-listen",
		"127.0.0.1:0", "--token-file", token)
	view := w.start("view", "--listen", "127.0.0.1:0", "--token-file", token, "--tls-cert", page.cert,
		"--tls-key", page.key)
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	client := &http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for p, paths := range map[*process][]string{
		runs: {"/metrics", "/healthz", "/readyz", "/api/v1/plazas", "/nothing"},
		view: {"/", "/metrics", "/healthz", "/readyz", "/api/v1/plazas", "/api/v1/plazas.csv",
			"/api/v1/plazas/4001", "/api/v1/plazas/4001/windows",
			"/api/v1/verification", "/api/v1/dead-letters", "/api/v1/openapi.json", "/nothing"},
	} {
		addr := ""
		w.eventually("an address", time.Minute, func() bool {
			if m := regexp.MustCompile(`https?://127\.0\.0\.1:\d+`).FindString(p.log.String()); m != "" {
				addr = m
			}
			return addr != "" || !p.running()
		})
		if addr == "" {
			t.Fatalf("no address:\n%s", p.log)
		}
		for _, path := range paths {
			for _, auth := range []string{"", "Bearer " + found["the token"], "Bearer wrong"} {
				request, err := http.NewRequest("GET", addr+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if auth != "" {
					request.Header.Set("Authorization", auth)
				}
				answer, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				found.check(t, path, fmt.Sprint(answer.Header, string(body)))
			}
		}
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid)); err == nil {
			found.check(t, "the list of processes", strings.ReplaceAll(string(line), "\x00", " "))
		}
		if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		<-p.done
		if !strings.Contains(p.log.String(), "goroutine ") {
			t.Fatalf("no stacks after SIGQUIT:\n%s", p.log)
		}
		found.check(t, "a crash", p.log.String())
	}
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

// files are a certificate with its key, as PEM.
type files struct {
	cert, key string
	both      string // in one file, as Kafka wants it
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
		NotBefore:             time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(name+".pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue signs a certificate for a host, or as a name for a client, that ends at a time.
func (a *authority) issue(name string, until time.Time) files {
	a.t.Helper()
	key := newKey(a.t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: serial,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   until.Add(-24 * time.Hour), NotAfter: until,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certBlock := &pem.Block{Type: "CERTIFICATE", Bytes: der}
	keyBlock := &pem.Block{Type: "PRIVATE KEY", Bytes: secret}
	base := serial.String()
	return files{
		cert: a.write(base+".cert.pem", certBlock),
		key:  a.write(base+".key.pem", keyBlock),
		both: a.write(base+".both.pem", keyBlock, certBlock),
	}
}

func (a *authority) write(name string, blocks ...*pem.Block) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
