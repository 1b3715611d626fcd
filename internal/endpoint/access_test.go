package endpoint

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/topology/kafka"
)

// clearAccess empties the variables of the access flags for a test.
func clearAccess(t *testing.T) {
	t.Helper()
	t.Setenv(kafkaPassword, "")
	for _, f := range Flags() {
		t.Setenv(command.Env(f.Names()[0])[0], "")
	}
}

func TestKafkaAccess(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sasl := []string{"--kafka-sasl", "scram-sha-512", "--kafka-user", "toll"}
	for _, c := range []struct {
		name     string
		args     []string
		password string // the variable's
		want     string // what is refused, or mechanism, user, password and whether there is TLS
	}{
		{"nothing", nil, "", "   false"},
		{"a password for nobody", nil, "x", "   false"},
		{"TLS", []string{"--kafka-tls"}, "", "   true"},
		{"TLS by another name", []string{"--kafka-server-name", "k"}, "", "   true"},
		{"certificate without a key", []string{"--kafka-cert", "x"}, "", "go together"},
		{"authority that is not there", []string{"--kafka-ca", filepath.Join(dir, "none")}, "",
			"no such file"},
		{"authority that is none", []string{"--kafka-ca", password}, "", "holds no certificate"},
		{"variable", sasl, "x", "scram-sha-512 toll x false"},
		{"file", append([]string{"--kafka-password-file", password}, sasl...), "",
			"scram-sha-512 toll from the file false"},
		{"file before the variable", append([]string{"--kafka-password-file", password}, sasl...), "x",
			"scram-sha-512 toll from the file false"},
		{"no password", sasl, "", "needs a password"},
		{"no user", []string{"--kafka-sasl", "plain"}, "x", "needs --kafka-user"},
		{"no mechanism", []string{"--kafka-user", "toll"}, "x", "no mechanism"},
		{"unknown mechanism", []string{"--kafka-sasl", "gssapi", "--kafka-user", "toll"}, "x",
			"not one of plain"},
		{"without encryption", append([]string{"--brokers", "127.0.0.1:1,kafka"}, sasl...), "x",
			"without encryption"},
		{"without encryption, wanted",
			append([]string{"--brokers", "kafka", "--kafka-plaintext"},
				sasl...), "x", "scram-sha-512 toll x false"},
		{"with encryption", append([]string{"--brokers", "kafka", "--kafka-tls"}, sasl...), "x",
			"scram-sha-512 toll x true"},
		{"this machine", append([]string{"--brokers", "localhost,[::1]:9,127.9.9.9"}, sasl...), "x",
			"scram-sha-512 toll x false"},
		{"a name that only looks like it",
			append([]string{"--brokers", "127.0.0.1.example.org"}, sasl...), "x", "without encryption"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearAccess(t)
			t.Setenv(kafkaPassword, c.password)
			con, err := connect(t, c.args...)
			s := con.Cluster.Security
			got := strings.Join([]string{string(s.Mechanism), s.User, string(s.Password),
				map[bool]string{true: "true", false: "false"}[s.TLS != nil]}, " ")
			if err != nil {
				got = err.Error()
				if strings.Contains(got, "from the file") || c.password != "" &&
					strings.Contains(got, " "+c.password) {
					t.Error("the error shows the password: " + got)
				}
			}
			if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	clearAccess(t)
	t.Setenv(kafkaPassword, "x")
	t.Setenv("TOLLSTREAM_KAFKA_PASSWORD_FILE", password)
	if _, err := connect(t, sasl...); err == nil || !strings.Contains(err.Error(), "both set") {
		t.Errorf("password and file in the environment: %v", err)
	}
}

func TestMySQLAccess(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	const odd = `a/b@c:d"e'f`
	if err := os.WriteFile(password, []byte(odd+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string // what is refused, or user and password
	}{
		{"default", nil, "toll toll"},
		{"default user, other password", []string{"--mysql-password-file", password}, "toll " + odd},
		{"password file", []string{"--mysql", "u@tcp(localhost:1)/d", "--mysql-password-file", password},
			"u " + odd},
		{"password file, without encryption", []string{"--mysql", "u@tcp(h:1)/d", "--mysql-password-file",
			password}, "password of u would go to h:1"},
		{"without encryption", []string{"--mysql", "u:p@tcp(h:1)/d"}, "password of u would go to h:1"},
		{"encryption off", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-tls", "off"},
			"password of u would go to h:1"},
		{"encryption if the server has it", []string{"--mysql", "u:p@tcp(h:1)/d?tls=preferred"},
			"password of u would go to h:1"},
		{"encryption that the DSN gives up",
			[]string{"--mysql", "u:p@tcp(h:1)/d?tls=true&allowFallbackToPlaintext=true"},
			"password of u would go to h:1"},
		{"encryption of the flags that the DSN gives up",
			[]string{"--mysql", "u:p@tcp(localhost:1)/d?allowFallbackToPlaintext=true", "--mysql-tls",
				"required"}, "allowFallbackToPlaintext"},
		{"without encryption, wanted", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-plaintext"}, "u p"},
		{"without encryption to this machine", []string{"--mysql", "u:p@tcp([::1]:1)/d"}, "u p"},
		{"without a password", []string{"--mysql", "u@tcp(h:1)/d"}, "u "},
		{"encryption by the DSN", []string{"--mysql", "u:p@tcp(h:1)/d?tls=skip-verify"}, "u p"},
		{"required", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-tls", "required"}, "u p unverified"},
		{"verify-ca", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-tls", "verify-ca"}, "u p chain"},
		{"verify-full", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-tls", "verify-full"},
			"u p verified"},
		{"no mode", []string{"--mysql-tls", "preferred"}, `"preferred" is not one of off, required`},
		{"two modes", []string{"--mysql", "u:p@tcp(h:1)/d?tls=true", "--mysql-tls", "verify-full"},
			"tls=true"},
		{"off, with an authority", []string{"--mysql-tls", "off", "--mysql-ca", "testdata/none.pem"},
			"--mysql-ca"},
		{"verify-ca, with a name", []string{"--mysql-tls", "verify-ca", "--mysql-server-name", "h"},
			"no use with --mysql-tls verify-ca"},
		{"required, with a name", []string{"--mysql-tls", "required", "--mysql-server-name", "h"},
			"no use with --mysql-tls required"},
		{"all files", []string{"--mysql", "u:p@tcp(localhost:1)/d?allowAllFiles=true"}, "allowAllFiles"},
		{"the password itself", []string{"--mysql", "u:p@tcp(h:1)/d?allowCleartextPasswords=true",
			"--mysql-tls", "required"}, "ask for the password itself"},
		{"the password itself, by the DSN",
			[]string{"--mysql", "u:p@tcp(h:1)/d?allowCleartextPasswords=true&tls=skip-verify"},
			"ask for the password itself"},
		{"a weak hash", []string{"--mysql", "u:p@tcp(h:1)/d?allowOldPasswords=true", "--mysql-tls",
			"required"}, "ask for the password itself"},
		{"the password itself to whom we trust",
			[]string{"--mysql", "u:p@tcp(h:1)/d?allowCleartextPasswords=true", "--mysql-tls",
				"verify-ca"}, "u p chain"},
		{"two passwords", []string{"--mysql", "u:p@tcp(h:1)/d", "--mysql-password-file", password},
			"holds a password"},
		{"two kinds of TLS", []string{"--mysql", "u:p@tcp(h:1)/d?tls=skip-verify", "--mysql-server-name",
			"h"}, "tls=skip-verify"},
		{"socket", []string{"--mysql", "u:p@unix(/s)/d", "--mysql-server-name", "h"}, "socket"},
		{"key without a certificate", []string{"--mysql-key", "k"}, "go together"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearAccess(t)
			con, err := connect(t, c.args...)
			got := ""
			if err != nil {
				got = err.Error()
			} else if cfg, err := mysql.ParseDSN(con.DSN); err == nil {
				got = cfg.User + " " + cfg.Passwd
				switch {
				case con.MySQLTLS == nil:
				case !con.MySQLTLS.InsecureSkipVerify:
					got += " verified"
				case con.MySQLTLS.VerifyConnection != nil:
					got += " chain"
				default:
					got += " unverified"
				}
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPasswordIn(t *testing.T) {
	for argument, want := range map[string]string{
		"u:secret@tcp(h:1)/d":           "secret",
		"--mysql=u:secret@tcp(h:1)/d":   "secret",
		"--mysql=u:s=e:c@r/et@tcp(h)/d": "s=e:c@r/et",
		"u:s=ecret@tcp(h)/d":            "s=ecret",
		"u:secret@":                     "secret",
		"u@tcp(h:1)/d":                  "",
		"nothing":                       "",
		"":                              "",
		"--mysql":                       "",
	} {
		from, to, ok := passwordIn(argument)
		if got := argument[from:to]; got != want || ok != (want != "") {
			t.Errorf("%q: got %q, want %q", argument, got, want)
		}
	}
}

func TestHidePasswords(t *testing.T) {
	line := func() []string { // memory that may be written to, as that of the process's arguments
		var args []string
		for _, arg := range []string{"tollstream", "verify", "--mysql", "u:secret@tcp(h)/d",
			"-mysql=u:secret@tcp(h)/d", "--mysql=toll:toll@tcp(h)/d", "u:secret@h"} {
			args = append(args, string([]byte(arg)))
		}
		return args
	}
	args := line()
	if got := HidePasswords(args); strings.Join(got, " ") != strings.Join(line(), " ") {
		t.Errorf("the copy is %q", got)
	}
	shown := strings.Join(args, " ")
	if hides :=
		"tollstream verify --mysql u:xxxxxx@tcp(h)/d -mysql=u:xxxxxx@tcp(h)/d " +
			"--mysql=toll:toll@tcp(h)/d u:secret@h"; shown != hides && runtime.GOOS == "linux" {
		t.Errorf("shown is %q", shown)
	}
}

// The parts of a connection never print their secrets.
func TestSecurityDoesNotPrintSecrets(t *testing.T) {
	clearAccess(t)
	t.Setenv(kafkaPassword, "5d1c-secret")
	con, err := connect(t, "--kafka-sasl", "plain", "--kafka-user", "toll")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	logger, err := command.NewLogger(&log, command.LogJSON, slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("cluster", "cluster", con.Cluster, "security", &con.Cluster.Security, "password",
		con.Cluster.Security.Password)
	log.WriteString(describeAll(con.Cluster))
	if strings.Contains(log.String(), "5d1c") {
		t.Error(log.String())
	}
}

func describeAll(c kafka.Cluster) string {
	var b strings.Builder
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		b.WriteString(fmt.Sprintf(format, c) + fmt.Sprintf(format, c.Security.Password) +
			fmt.Sprintf(format, &c.Security))
	}
	return b.String()
}
