package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

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
