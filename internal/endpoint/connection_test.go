package endpoint

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
)

// connect reads connection flags as a command does.
func connect(t *testing.T, args ...string) (Connection, error) {
	t.Helper()
	var con Connection
	var err error
	test := &cli.Command{Name: "test", Flags: Flags(),
		Action: func(c *cli.Context) error {
			con, err = From(c)
			return nil
		}}
	root := &cli.App{Name: "tollstream", Commands: []*cli.Command{test},
		Writer: io.Discard, ErrWriter: io.Discard}
	if err := command.Execute(t.Context(), root,
		append([]string{"tollstream", "test"}, args...), nil); err != nil {
		return con, err
	}
	return con, err
}

func TestConnectionDefaults(t *testing.T) {
	// Empty variables, as compose files make them, count as not set.
	for _, name := range []string{"BROKERS", "TOPIC", "GROUP", "MYSQL", "MYSQL_FILE", "TIMEZONE"} {
		t.Setenv("TOLLSTREAM_"+name, "")
	}
	con, err := connect(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(con.Cluster.Brokers, ","); got != DefaultBrokers || con.Topic != "toll" ||
		con.Group != "tollstream" ||
		con.DSN != DefaultMySQL || con.Location.String() != "UTC" ||
		con.Address() != "toll@127.0.0.1:3306/tolldata" {
		t.Errorf("%+v, brokers %s", con, got)
	}
}

func TestConnectionOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte("file:x@tcp(a:1)/file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const inline = "inline:x@tcp(a:1)/inline"
	for _, c := range []struct {
		name, envMySQL, envFile string
		args                    []string
		want                    string // database, or an error
	}{
		{"variable", inline, "", nil, "inline"},
		{"file in the environment", "", file, nil, "file"},
		{"both in the environment", inline, file, nil, "both set"},
		{"flag before a file in the environment", "", file, []string{"--mysql", inline}, "inline"},
		{"file flag before a variable", inline, "", []string{"--mysql-file", file}, "file"},
		{"both flags", "", "", []string{"--mysql-file", file, "--mysql", inline}, "both set"},
		{"file that isn't there", "", file + "x", nil, "read --mysql-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TOLLSTREAM_MYSQL", c.envMySQL)
			t.Setenv("TOLLSTREAM_MYSQL_FILE", c.envFile)
			con, err := connect(t, c.args...)
			got := con.Address()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestParseBrokers(t *testing.T) {
	for list, want := range map[string]string{
		"a:1":            "a:1",
		"a":              "a:9092",
		" a:1 , b:2, ":   "a:1 b:2",
		"[::1]:9092":     "[::1]:9092",
		"a:0":            "error",
		"a:65536":        "error",
		":9092":          "error",
		",":              "error",
		"kafka://a:9092": "error",
	} {
		brokers, err := ParseBrokers(list)
		got := strings.Join(brokers, " ")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s (%v), want %s", list, got, err, want)
		}
	}
}

// FuzzMySQLSetting: the refusal of a DSN shows nothing of it, and its password is found whole.
func FuzzMySQLSetting(f *testing.F) {
	corpus.Add(f)
	for _, dsn := range []string{"u:QQSECRETQQ@tcp(h:1)/d", "QQSECRETQQ", "u:QQSECRETQQ@tcp(h:1/d",
		"u:QQSECRETQQ@/", "u:p@tcp(h:1)/d?tls=QQSECRETQQ", "u:p@QQSECRETQQ/d",
		"u:p@tcp(h:1)/d?x=%QQSECRETQQ"} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if from, to, ok := passwordIn(dsn); ok && (from > to || to >= len(dsn) || dsn[to] != '@') {
			t.Fatalf("the password of %q is [%d, %d)", dsn, from, to)
		}
		clearAccess(t)
		t.Setenv("TOLLSTREAM_MYSQL", strings.ReplaceAll(dsn, "\x00", ""))
		_, err := connect(t)
		if err == nil || !strings.Contains(dsn, "QQSECRETQQ") {
			return
		}
		var out strings.Builder
		command.Report(&out, err)
		if strings.Contains(out.String(), "QQSECRETQQ") {
			t.Fatalf("%q is refused with %q", dsn, out.String())
		}
	})
}

// TestReachFrozen asks a server that accepts connections and never answers.
func TestReachFrozen(t *testing.T) {
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	store, err := sql.Open(sql.Config{DSN: "toll:toll@tcp(" + frozen.Addr().String() + ")/tolldata"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var said bytes.Buffer
	err = reach(t.Context(), store, slog.New(slog.NewTextHandler(&said, nil)), 20*time.Millisecond,
		200*time.Millisecond)
	want := "connect to MySQL at " + frozen.Addr().String() + "/tolldata: no answer for 200ms"
	if !errors.Is(err, ErrNoAnswer) || err.Error() != want || hint.Of(err) == "" {
		t.Errorf("got %v, want %s", err, want)
	}
	if !strings.Contains(said.String(), "waiting for MySQL at "+frozen.Addr().String()+"/tolldata …") {
		t.Errorf("it said %q", &said)
	}
}
