package pipeline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// TestVerifyUnderLoad verifies and views again and again while a processor works at full speed. It
// has all of a process's goroutines at work, for the race detector.
func TestVerifyUnderLoad(t *testing.T) {
	const events = 100_000
	kafka.QuietLibraries()
	log := slog.New(slog.DiscardHandler)
	servers, err := sandbox.Start(t.Context(), sandbox.Config{
		KafkaListen: "127.0.0.1:0", MySQLListen: "127.0.0.1:0", Location: time.UTC, Log: log,
		Topics: kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	con := servers.Connection()
	if err := emit.Run(t.Context(), emit.Config{Cluster: con.Cluster, Topic: con.Topic,
		Location: time.UTC, Count: events, Plazas: []int16{4000, 4010, 4856}, Stdout: io.Discard,
		Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	store, err := con.OpenStore(log)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	cfg := topology.DefaultConfig()
	cfg.Cluster, cfg.Topic, cfg.Group, cfg.Zone = con.Cluster, con.Topic, con.Group,
		toll.NewZone(con.Location)
	cfg.Instance, cfg.StateDir = "test", filepath.Join(t.TempDir(), "state")
	cfg.Log, cfg.NewToken, cfg.Format = log, sql.NewToken, codecs.Auto
	processed := make(chan error, 1)
	go func() {
		processed <- Run(t.Context(), Config{Topology: cfg, Store: store,
			Windows: DefaultWindows(), Retention: maintenance.DefaultRetention(),
			UntilEnd: true})
	}()
	reading := live.Config{Connection: con, Log: log}
	inFlight, looks := 0, 0
	for done := false; !done; looks++ {
		select {
		case err := <-processed:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		report := verified(t, reading)
		switch {
		case report.Status == verify.Mismatch:
			t.Fatalf("%+v", report)
		case report.Status != verify.Exact:
			inFlight++
		case done && report.Events != events:
			t.Errorf("at the end: %+v", report)
		}
		if b := viewed(t, reading); b.Verification.Status == board.Mismatch {
			t.Fatalf("%+v", b)
		}
	}
	t.Logf("%d looks, %d of them with events in flight", looks, inFlight)
}

func verified(t *testing.T, cfg live.Config) *verify.Report {
	t.Helper()
	store, scan, err := live.Check(t.Context(), &cfg, func(ctx context.Context) (*table.Scan, error) {
		return table.NewScan(ctx, cfg.Cluster, cfg.Group)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	defer scan.Close()
	steps := command.NewSteps(io.Discard, "reading")
	defer steps.End()
	report, err := admin.Verify(t.Context(), cfg.Connection, store, scan, false, steps)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func viewed(t *testing.T, cfg live.Config) *board.Board {
	t.Helper()
	reader, err := live.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	b, err := reader.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Derive()
	return b
}

func TestRetryOutage(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	calls := 0
	if err := retryOutage(t.Context(), logger, func() error {
		if calls++; calls < 3 {
			return errors.New("no answer\nat all")
		}
		return nil
	}); err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if got := log.String(); strings.Count(got, "waiting for the servers") != 1 ||
		strings.Count(got, "the servers recovered") != 1 {
		t.Errorf("logged %s", got)
	}

	log.Reset()
	broken := toll.Permanent("repair it", "broken")
	if err := retryOutage(t.Context(), logger, func() error { return broken }); err != broken {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := retryOutage(ctx, logger, func() error {
		cancel()
		return ctx.Err()
	}); err != nil {
		t.Errorf("got %v where the context ended", err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
}

// Plain simulated events pass all plazas alike: then the plazas' capacities mean nothing.
func TestEvenlySpread(t *testing.T) {
	plazas := emit.SamplePlazas()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		even, day := map[int16]int64{}, map[int16]int64{}
		perDay := 0.0
		for i := range plazas {
			perDay += plazas[i].VehiclesPerDay
		}
		for range 100 {
			even[plazas[r.IntN(len(plazas))].ID]++
			x := r.Float64() * perDay
			for i := range plazas {
				if x -= plazas[i].VehiclesPerDay; x < 0 {
					day[plazas[i].ID]++
					break
				}
			}
		}
		if !evenlySpread(plazas, even) || evenlySpread(plazas, day) {
			t.Errorf("seed %d: %v, %v", seed, even, day)
		}
	}
}
