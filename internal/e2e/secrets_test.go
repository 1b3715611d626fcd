package e2e

import (
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
