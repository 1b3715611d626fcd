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

// TestNoticesDeadDatabase ends the wait where the database dies.
func TestNoticesDeadDatabase(t *testing.T) {
	_, found := devstack.FindMariaDB()
	testkit.NeedService(t, "MariaDB", found)
	s, err := start(t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.wait(t.Context()) }()
	if err := s.Database.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("a dead database was not noticed")
	}
}
