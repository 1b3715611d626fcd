package live

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// countingContext counts what waits for its end.
type countingContext struct {
	context.Context
	mu      sync.Mutex
	waiting int
}

func (c *countingContext) Done() <-chan struct{} { return make(chan struct{}) }
func (c *countingContext) Value(any) any         { return nil }

// AfterFunc is how the package context learns of the end.
func (c *countingContext) AfterFunc(func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting++
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting--
		return true
	}
}

// TestPatienceLeavesNothing looks many times, as view --watch does for days.
func TestPatienceLeavesNothing(t *testing.T) {
	parent := &countingContext{Context: t.Context()}
	for _, recovered := range []bool{false, true} {
		r := &Reader{recovered: recovered}
		for range 10 {
			_, cancel := r.patience(parent)
			cancel()
		}
	}
	if parent.waiting != 0 {
		t.Errorf("%d contexts are left of 20 looks", parent.waiting)
	}
}

// TestReaderClosesTable has a database that can't be reached: the connections to Kafka that were
// opened meanwhile are closed.
func TestReaderClosesTable(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.SeedTopics(1, "toll", "tollstream-table"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	clients := func() int {
		stacks := make([]byte, 4<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]),
			"sarama.(*client).backgroundMetadataUpdater")
	}
	before := clients()
	cluster := kafka.Cluster{Brokers: broker.ListenAddrs(), ClientID: "test"}
	opened := make(chan struct{})
	open := func(ctx context.Context) (*table.View, error) {
		defer close(opened)
		return table.NewView(ctx, cluster, "tollstream", slog.New(slog.DiscardHandler))
	}
	cfg := Config{Connection: endpoint.Connection{Cluster: cluster, Topic: "toll",
		Group: "tollstream", DSN: "nobody@tcp(127.0.0.1:1)/none", Location: time.UTC},
		Log: slog.New(slog.DiscardHandler)}
	if _, _, err := Check(t.Context(), &cfg, open); err == nil {
		t.Fatal("a reader without a database")
	}
	<-opened
	for deadline := time.Now().Add(10 * time.Second); clients() > before; time.Sleep(
		10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients of Kafka are left", clients()-before)
		}
	}
}

// TestTableDoesNotOpen has a broker that accepts connections and does not answer.
func TestTableDoesNotOpen(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections by itself
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cluster := kafka.Cluster{Brokers: []string{silent.Addr().String()}, ClientID: "test"}
	for what, c := range map[string]struct {
		within time.Duration
		want   string
	}{
		"interrupted": {time.Hour, "context canceled"},
		"too late": {50 * time.Millisecond, "connect to Kafka at " + silent.Addr().String() +
			": no answer for "},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		opening, giveUp := context.WithTimeout(ctx, c.within)
		if c.within == time.Hour {
			go func() {
				if conn, err := silent.Accept(); err == nil {
					defer conn.Close()
				}
				cancel()
			}()
		}
		began := time.Now()
		view, err := table.NewView(opening, cluster, "tollstream", slog.New(slog.DiscardHandler))
		if err == nil {
			view.Close()
			t.Fatalf("%s: it opened", what)
		}
		if err := whyNotOpened(opening, err, cluster.Brokers); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > 20*time.Second { // less than timeouts of clients
			t.Errorf("%s: it took %v", what, took)
		}
		giveUp()
		cancel()
	}
}

// boardOf returns a board of plazas that passed one vehicle in each of the last minutes up to now.
func boardOf(t *testing.T, location *time.Location, now time.Time, minutes,
	plazas int) *board.Board {
	t.Helper()
	b := &board.Board{At: now, Location: location, StreamTime: new(now.Truncate(time.Minute)),
		Watermark: new(now.Add(-time.Minute)), RowsAt: now}
	zone := toll.NewZone(location)
	for id := range plazas {
		state := toll.NewState(1)
		for i := range minutes {
			d := toll.Delta{Epoch: 1, Next: int64(i + 1)}
			d.Prev, d.Events = int64(i), 1
			d.Earliest = zone.Wall(now.Add(-time.Duration(i) * time.Minute))
			d.Latest = d.Earliest
			d.Panes = []toll.Pane{{Start: b.Now() - toll.Minute(i),
				Types: []toll.TypeCount{{Type: "car", Count: 1}}}}
			if outcome := state.Merge(&d); outcome != toll.Applied {
				t.Fatal(outcome)
			}
		}
		rows := int64(minutes)
		check := board.Check{Status: board.Exact, TableCount: rows, StoredRows: &rows}
		b.Plazas = append(b.Plazas, board.Plaza{ID: id, Counts: state, Check: check, Counted: &check,
			Location: location})
	}
	b.Derive()
	return b
}

// TestQuartersOfChange looks at the day on which clocks are set back, which has 100 quarters of an
// hour.
func TestQuartersOfChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2022, 10, 30, 2, 7, 0, 0, time.UTC) // 03:07, after the hour that came twice
	b := boardOf(t, berlin, now, 200, 1)
	h := newHistory(nil, nil, b, &b.Plazas[0])
	points, err := h.quarters(t.Context(), h.date(h.today))
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 100 {
		t.Errorf("%d quarters", len(points))
	}
	var counts []int64
	sum := int64(0)
	for _, p := range points {
		if p.Count != nil {
			counts = append(counts, *p.Count)
			sum += *p.Count
		}
	}
	// from 22:45 to 02:00 UTC
	if len(counts) != 14 || counts[0] != 12 || counts[12] != 15 || counts[13] != 8 {
		t.Errorf("counts %v", counts)
	}
	if n, err := h.soFar(t.Context(), points, h.now+1); err != nil || n == nil || *n != sum {
		t.Errorf("so far %v, %v, want %d", n, err, sum)
	}
	if got := h.aWeekBefore().Time(); !got.Equal(time.Date(2022, 10, 23, 1, 7, 0, 0, time.UTC)) {
		t.Errorf("a week before is %v", got)
	}
	row := &b.Plazas[0]
	if n := len(row.Sparkline); n != board.SparklineQuarters || *row.Sparkline[n-1] != 8 ||
		*row.Sparkline[n-2] != 15 || row.Sparkline[0] != nil {
		t.Errorf("sparkline %v", row.Sparkline)
	}

	// What the group table has dropped, and whose window is longer, is not known; a quarter
	// without a window has no vehicles once it has closed.
	h.quarter, h.p.Counts.Quarters.From = "15m", b.Now()
	start := toll.MinuteAt(time.Date(2022, 10, 30, 0, 45, 0, 0, time.UTC).Unix())
	long := results.StoredWindow{}
	long.Start, long.End, long.Types = start, start+75, []toll.TypeCount{{Type: "car", Count: 75}}
	for _, c := range []struct {
		start   toll.Minute
		windows []results.StoredWindow
		known   bool
	}{{start, []results.StoredWindow{long}, false}, {start + 60, []results.StoredWindow{long},
		false}, {start - 15, []results.StoredWindow{long}, true}, {start + 75, nil, false}} {
		if types, known := h.count(toll.Window{Start: c.start, End: c.start + toll.Quarter},
			c.windows); known != c.known || len(types) != 0 {
			t.Errorf("%v: %v, %v", c.start.Time(), types, known)
		}
	}
	// What retention deleted is not known either, though it has closed.
	h.retired = start
	if _, known := h.count(toll.Window{Start: start - toll.Quarter, End: start}, nil); known {
		t.Error("a window that was deleted counts as empty")
	}
	if _, known := h.count(toll.Window{Start: start, End: start + toll.Quarter}, nil); !known {
		t.Error("an empty window after those that were deleted is not known")
	}
}

// TestSourceWaits asks a source that has nothing to read yet.
func TestSourceWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if b, err := NewSource(nil).Board(ctx); b != nil || err == nil {
		t.Error(b, err)
	}
}

// TestUnknownKind asks for windows of a kind that is not counted.
func TestUnknownKind(t *testing.T) {
	b := boardOf(t, time.UTC, time.Now(), 1, 1)
	b.Kinds = []toll.WindowKind{{Name: "15m"}, {Name: "1h"}}
	s := NewSource(nil)
	s.last.Store(b)
	_, err := s.Windows(t.Context(), 0, board.WindowQuery{Kind: "2h", Limit: 1})
	kind, ok := errors.AsType[*board.UnknownKindError](err)
	if !ok || kind.Error() != "want one of the kinds of windows that are counted: 15m, 1h" {
		t.Error(err)
	}
}

// TestTooCostly is when journeys are not read for a view: they would slow the database down.
func TestTooCostly(t *testing.T) {
	for _, test := range []struct {
		rows    int64
		indexed bool
		want    string
	}{
		{3_000_000, true, ""}, {3_000_001, true, "would read 3,000,001 rows"}, {200_000, false, ""},
		{200_001, false, "would read all 200,001 rows"},
	} {
		if got := tooCostly(test.rows, test.indexed); (got == "") != (test.want == "") ||
			!strings.Contains(got, test.want) {
			t.Errorf("%d rows, %v: %q", test.rows, test.indexed, got)
		}
	}
}

// TestJourneysAfterASlowRead are not read again for a while, and it is said why.
func TestJourneysAfterASlowRead(t *testing.T) {
	s := NewSource(nil)
	s.journeys.slow = time.Now().Add(time.Minute)
	j, err := s.sections(t.Context())
	if err != nil || j.Status != board.NotRead || !strings.Contains(j.Why, "tollstream sql indexes") {
		t.Errorf("%+v, %v", j, err)
	}
}
