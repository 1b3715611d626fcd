package sandbox

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/topology/kafka"
)

func TestMain(m *testing.M) {
	kafka.QuietLibraries()
	os.Exit(m.Run())
}

func start(t *testing.T, cfg Config) (*Sandbox, error) {
	t.Helper()
	cfg.KafkaListen, cfg.MySQLListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Topics = kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1}
	cfg.Location, cfg.Log = time.UTC, slog.New(slog.DiscardHandler)
	s, err := Start(t.Context(), cfg)
	if s != nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// TestInMemory starts up's servers as on a machine that has no MariaDB.
func TestInMemory(t *testing.T) {
	testkit.NeedDatabase(t, Embedded, devstack.HasDatabase)
	dir := t.TempDir()
	s, err := start(t, Config{Engine: Embedded, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !s.InMemory() || s.keeps() || s.Partitions != 2 {
		t.Errorf("in memory %v, keeps rows %v, %d partitions", s.InMemory(), s.keeps(), s.Partitions)
	}
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"topic toll, 2 partitions",
		"topics are kept for the next start, rows are not", "No MariaDB is installed here",
		"export TOLLSTREAM_BROKERS='127.0.0.1:"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("printed\n%s\nwhich lacks %q", b.String(), want)
		}
	}
	if _, err := start(t, Config{Engine: Embedded, DataDir: dir}); err == nil ||
		!strings.Contains(err.Error(), "in use by another tollstream up") {
		t.Errorf("a second sandbox on the same folder: %v", err)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("closing took %v", took)
	}
	// The topic is there again, with rows that are not.
	if _, err := start(t, Config{Engine: Embedded, DataDir: dir}); err != nil {
		t.Fatal(err)
	}
}

// TestOutlivesPausedDatabase waits for a database that stops answering, and ends with one that
// dies.
func TestOutlivesPausedDatabase(t *testing.T) {
	_, found := devstack.FindMariaDB()
	testkit.NeedService(t, "MariaDB", found)
	s, err := start(t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var log testkit.Buffer
	s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	ended := make(chan error, 1)
	go func() { ended <- s.wait(t.Context()) }()
	says := func(want string) {
		t.Helper()
		for deadline := time.After(30 * time.Second); !strings.Contains(log.String(), want); {
			select {
			case err := <-ended:
				t.Fatalf("up ended while its database was paused: %v", err)
			case <-deadline:
				t.Fatalf("no %q in the log: %s", want, log.String())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	if err := s.Database.Pause(); err != nil {
		t.Fatal(err)
	}
	says("waiting for the database")
	if err := s.Database.Resume(); err != nil {
		t.Fatal(err)
	}
	says("the database answers again")
	if err := s.Database.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the database ended") {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a dead database was not noticed")
	}
}
