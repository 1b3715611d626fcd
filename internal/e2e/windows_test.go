package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// window is a row of toll_window, as far as a replay must make the same.
type window struct {
	Plaza      int
	Kind       string
	Start, End string
	Whole      bool
	Events     int64
	Late       int64
	TooLate    int64
	ByType     string
}

// key names a window.
func (v window) key() string { return fmt.Sprintf("%d %s %s", v.Plaza, v.Kind, v.Start) }

// windows returns toll_window.
func (w *world) windows() map[string]window {
	w.t.Helper()
	rows, err := w.sql.Query(`SELECT toll_plaza_id, kind, CAST(window_start AS CHAR),
		CAST(window_end AS CHAR), whole, events, late, too_late, by_type
		FROM toll_window`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]window{}
	for rows.Next() {
		var v window
		if err := rows.Scan(&v.Plaza, &v.Kind, &v.Start, &v.End, &v.Whole, &v.Events, &v.Late, &v.TooLate,
			&v.ByType); err != nil {
			w.t.Fatal(err)
		}
		all[v.key()] = v
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// crossing is a row of livetolldata.
type crossing struct{ at, typ string }

// windowsEqualSQL compares every window with what SQL says of livetolldata, in UTC: the rows
// between its start and its end are those that it counts and those that came too late, and no
// vehicle is missing from any kind.
func (w *world) windowsEqualSQL() map[string]window {
	w.t.Helper()
	rows,
		err := w.sql.Query(
		`SELECT toll_plaza_id, CAST(timestamp AS CHAR), vehicle_type FROM livetolldata
			ORDER BY timestamp`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	crossings := map[int][]crossing{}
	minutes := map[string]bool{}
	for rows.Next() {
		var plaza int
		var c crossing
		if err := rows.Scan(&plaza, &c.at, &c.typ); err != nil {
			w.t.Fatal(err)
		}
		crossings[plaza] = append(crossings[plaza], c)
		minutes[fmt.Sprintf("%d 1m %s:00", plaza, c.at[:len("2022-02-10 10:23")])] = true
	}
	windows := w.windows()
	compare := func(c crossing, at string) int { return strings.Compare(c.at, at) }
	covered := map[string]int64{}
	for _, v := range windows {
		from, _ := slices.BinarySearchFunc(crossings[v.Plaza], v.Start, compare)
		to, _ := slices.BinarySearchFunc(crossings[v.Plaza], v.End, compare)
		if n := int64(to - from); n != v.Events+v.TooLate {
			w.t.Errorf("window %s: %d events and %d too late, but %d rows", v.key(), v.Events, v.TooLate, n)
		}
		if v.TooLate == 0 {
			types := map[string]int64{}
			for _, c := range crossings[v.Plaza][from:to] {
				types[c.typ]++
			}
			got := map[string]int64{}
			if err := json.Unmarshal([]byte(v.ByType), &got); err != nil || !maps.Equal(got, types) {
				w.t.Errorf("window %s: by type %s, want %v, %v", v.key(), v.ByType, types, err)
			}
		}
		covered[v.Kind] += v.Events + v.TooLate
	}
	for m := range minutes {
		if _, ok := windows[m]; !ok {
			w.t.Errorf("no window %s", m)
		}
	}
	total := w.count(`select count(*) from livetolldata`)
	for kind, times := range map[string]int64{"1m": 1, "5m/1m": 5, "15m": 1, "1h": 1, "day": 1} {
		if covered[kind] != times*total {
			w.t.Errorf("the windows of kind %s hold %d vehicles, want %d times %d", kind, covered[kind],
				times, total)
		}
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
	return windows
}

// disorder sends events whose clock runs a hundred times too fast, some of them late or too late.
func (s *sender) disorder(n int) {
	s.t.Helper()
	s.clock = s.clock.Add(time.Duration(n) * time.Second / 4)
	var wg sync.WaitGroup
	for range n {
		csv, row := s.disordered()
		wg.Add(1)
		s.client.Produce(context.Background(), &kgo.Record{Value: []byte(csv)},
			func(_ *kgo.Record, err error) {
				defer wg.Done()
				if err != nil {
					s.t.Errorf("produce: %v", err)
					return
				}
				s.truth.sent(row)
			})
	}
	wg.Wait()
}

// publishedOnce reads the topic of results: each revision of a window has one content, however
// often it was sent, revisions go up from 1, and the last one is what toll_window holds.
func (w *world) publishedOnce(windows map[string]window) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.ConsumeTopics(w.topic+"-congestion"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	type notice struct {
		Type, Kind    string
		Plaza         int
		Start         time.Time
		Final         bool
		Revision      int64
		Count, Late   int64
		ByType        map[string]int64 `json:"by_type"`
		Schema        int
		Epoch         uint64
		FlowPerHour   float64 `json:"flow_per_hour"`
		OnTime        int64   `json:"on_time"`
		Reason, Event string
	}
	contents, last := map[string]string{}, map[string]notice{}
	results := 0
	for _, v := range windows {
		if v.Events > 0 {
			results++
		}
	}
	for quiet, deadline := 0, time.Now().Add(2*time.Minute); (len(last) < results || quiet < 3) &&
		time.Now().Before(deadline); quiet++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			quiet = 0
			var n notice
			if err := json.Unmarshal(r.Value, &n); err != nil || n.Schema != 1 ||
				string(r.Key) != fmt.Sprint(n.Plaza) {
				w.t.Fatalf("key %s, %s: %v", r.Key, r.Value, err)
			}
			if n.Type != "window" {
				return
			}
			key := fmt.Sprintf("%d %s %s", n.Plaza, n.Kind, n.Start.UTC().Format(time.DateTime))
			revision := fmt.Sprintf("%s revision %d", key, n.Revision)
			if before, ok := contents[revision]; ok && before != string(r.Value) {
				w.t.Fatalf("%s has two contents:\n%s\n%s", revision, before, r.Value)
			}
			contents[revision] = string(r.Value)
			if n.Revision > last[key].Revision+1 {
				w.t.Fatalf("%s comes after revision %d", revision, last[key].Revision)
			}
			if n.Revision > last[key].Revision {
				last[key] = n
			}
		})
	}
	for key, v := range windows {
		if v.Events == 0 {
			continue // all came too late: there is no result
		}
		if n := last[key]; n.Count != v.Events || n.Late != v.Late || n.Final != v.Whole {
			w.t.Fatalf("window %s: %+v in MySQL, %+v published", key, v, n)
		}
	}
}

// TestKillWindows kills process with SIGKILL at random moments while events come in disorder, late
// ones among them. In the end toll_window equals what SQL says of the rows, and so does toll_window
// of a replay into empty tables, at other batch sizes.
func TestKillWindows(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "3")
	truth := newTruth()
	s := w.sender(truth)
	for round := range roundsOf(6, 20) {
		p := w.start("process", "--batch-rows", "300")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					s.disorder(400)
				}
			}
		})
		before := w.count(`select count(*) from toll_window where revision > 0`)
		w.eventually("windows before the kill", caughtUpWithin, func() bool {
			return w.count(`select count(*) from toll_window where revision > 0`) > before || !p.running()
		})
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		if !p.running() {
			t.Fatalf("round %d: process ended by itself:\n%s", round, p.log)
		}
		p.kill()
		close(stop)
		wg.Wait()
		if v := w.verify("--deep"); v.Status == "mismatch" {
			t.Fatalf("round %d: right after the kill: %+v", round, v)
		}
	}
	w.must("process", "--until-end")
	w.exact(truth)
	first := w.windowsEqualSQL()

	w.publishedOnce(first)

	w.must("reset", "--yes")
	w.must("process", "--until-end", "--batch-rows", "5000", "--latency", "0s")
	w.exact(truth)
	again := w.windowsEqualSQL()
	if len(first) != len(again) {
		t.Errorf("%d windows, and %d after a replay", len(first), len(again))
	}
	for key, v := range first {
		if again[key] != v {
			t.Fatalf("%+v, and after a replay %+v", v, again[key])
		}
	}
	t.Logf("%d rows, %d windows, %d of them revised", truth.total(), len(first),
		w.count(`select count(*) from toll_window where revision > 1`))
}
