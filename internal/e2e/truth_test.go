package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// truth is what a test sent, apart from anything that tollstream says.
type truth struct {
	mu      sync.Mutex
	rows    map[string]int // row text → how often
	rejects int
	sums    sums // instead of rows, where a run is long; nil for rows
}

func newTruth() *truth { return &truth{rows: map[string]int{}} }

func (tr *truth) sent(row string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.sums != nil {
		tr.sums.add(row)
		return
	}
	tr.rows[row]++
}

func (tr *truth) total() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.events()
}

// events is total for who has locked it.
func (tr *truth) events() int {
	n := 0
	for _, c := range tr.rows {
		n += c
	}
	for _, s := range tr.sums {
		n += int(s.rows)
	}
	return n
}

// check compares livetolldata and toll_dead_letter with what was sent, row by row.
func (tr *truth) check(w *world) {
	w.t.Helper()
	if lost, doubled, wrong := tr.compare(w); len(wrong) > 0 {
		w.t.Fatalf("%d rows lost, %d doubled; rows that differ from what was sent: %d\n%s",
			lost, doubled, len(wrong), strings.Join(wrong[:min(10, len(wrong))], "\n"))
	}
	if got := w.count(`SELECT COUNT(*) FROM toll_dead_letter`); got != int64(tr.rejects) {
		w.t.Fatalf("%d dead letters, want %d", got, tr.rejects)
	}
}

// compare returns how many rows of livetolldata are missing, and how many there are too often, and
// a line for each row text that differs from what was sent.
func (tr *truth) compare(w *world) (lost, doubled int, wrong []string) {
	w.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	rs,
		err := w.sql.Query(
		`SELECT CAST(timestamp AS CHAR), vehicle_id, vehicle_type, toll_plaza_id FROM livetolldata`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rs.Close()
	found := map[string]int{}
	for rs.Next() {
		var at, typ string
		var vehicle, plaza int64
		if err := rs.Scan(&at, &vehicle, &typ, &plaza); err != nil {
			w.t.Fatal(err)
		}
		found[fmt.Sprintf("%s,%d,%s,%d", at, vehicle, typ, plaza)]++
	}
	if err := rs.Err(); err != nil {
		w.t.Fatal(err)
	}
	for row, n := range tr.rows {
		switch got := found[row]; {
		case got < n:
			lost += n - got
			wrong = append(wrong, fmt.Sprintf("%s: %d of %d", row, got, n))
		case got > n:
			doubled += got - n
			wrong = append(wrong, fmt.Sprintf("%s: %d instead of %d", row, got, n))
		}
	}
	for row, n := range found {
		if tr.rows[row] == 0 {
			doubled += n
			wrong = append(wrong, fmt.Sprintf("%s: %d, never sent", row, n))
		}
	}
	sort.Strings(wrong)
	return lost, doubled, wrong
}

// sender produces with a client that is not ours.
type sender struct {
	t      *testing.T
	client *kgo.Client
	topic  string
	rand   *rand.Rand
	clock  time.Time
	truth  *truth
}

func (w *world) sender(truth *truth, opts ...kgo.Opt) *sender {
	w.t.Helper()
	client,
		err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(w.brokers, ",")...),
		kgo.DefaultProduceTopic(w.topic)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	return &sender{
		t: w.t, client: client, topic: w.topic, truth: truth,
		rand:  rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))),
		clock: time.Date(2022, 2, 10, 10, 23, 2, 0, time.UTC),
	}
}

var types = []string{"car", "car", "car", "truck", "van"}

// event makes an event in the course's CSV and its row text.
func (s *sender) event() (plaza int, csv, row string) {
	s.clock = s.clock.Add(time.Duration(s.rand.IntN(20)) * time.Millisecond)
	vehicle := 10_000 + s.rand.IntN(9_990_000)
	typ := types[s.rand.IntN(len(types))]
	plaza = 4000 + s.rand.IntN(11)
	return plaza,
		fmt.Sprintf("%s,%d,%s,%d", s.clock.Format(time.ANSIC), vehicle, typ, plaza),
		fmt.Sprintf("%s,%d,%s,%d", s.clock.Format(time.DateTime), vehicle, typ, plaza)
}

// send sends n events without a key, as the course's generator does, and waits until they are
// acknowledged.
func (s *sender) send(n int) {
	s.t.Helper()
	s.sendWith(n, func(int, *kgo.Record) {})
}

// sendKeyed sends n events keyed by plaza; the client places them by murmur2, as Java and Python
// do.
func (s *sender) sendKeyed(n int) {
	s.t.Helper()
	s.sendWith(n, func(plaza int, r *kgo.Record) { r.Key = fmt.Append(nil, plaza) })
}

func (s *sender) sendWith(n int, change func(plaza int, r *kgo.Record)) {
	s.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range n {
		plaza, csv, row := s.event()
		r := &kgo.Record{Value: []byte(csv)}
		change(plaza, r)
		wg.Add(1)
		s.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			defer wg.Done()
			if err == nil {
				s.truth.sent(row)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed = err
		})
	}
	wg.Wait()
	if failed != nil {
		s.t.Fatalf("produce: %v", failed)
	}
}

// sendRaw sends payloads as they are, which are to become dead letters.
func (s *sender) sendRaw(payloads ...[]byte) {
	s.t.Helper()
	for _, p := range payloads {
		if err := s.client.ProduceSync(context.Background(),
			&kgo.Record{Value: p}).FirstErr(); err != nil {
			s.t.Fatalf("produce: %v", err)
		}
		s.truth.mu.Lock()
		s.truth.rejects++
		s.truth.mu.Unlock()
	}
}

var metricsURL = regexp.MustCompile(`serving metrics url=(http\S+/)metrics`)

// asked is the metrics and probes of a process.
type asked struct {
	t   *testing.T
	url string
}

// metricsOf returns where a process serves its metrics.
func (w *world) metricsOf(p *process) *asked {
	w.t.Helper()
	a := &asked{t: w.t}
	w.eventually("address of the metrics", caughtUpWithin, func() bool {
		found := metricsURL.FindStringSubmatch(p.log.String())
		if found != nil {
			a.url = found[1]
		}
		return found != nil
	})
	return a
}

func (a *asked) get(path string) (status int, body string) {
	a.t.Helper()
	answer, err := http.Get(a.url + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// value returns the sum of a metric over all of its labels.
func (a *asked) value(name string) float64 {
	a.t.Helper()
	_, text := a.get("metrics")
	sum := 0.
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				a.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// TestOutageMetrics asks a process for its metrics and probes while each of its servers is down and
// comes back.
func TestOutageMetrics(t *testing.T) {
	inParallel(t)
	k := startKafka(t)
	t.Cleanup(func() { _ = k.Close() })
	w := newWorldOn(t, k.Addr(), engine)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	p := w.start("process", "--batch-rows", "500", "--metrics-listen", "127.0.0.1:0")
	a := w.metricsOf(p)
	readiness := func(what string, status int, part string) {
		t.Helper()
		w.eventually(what, 2*time.Minute, func() bool {
			got, body := a.get("readyz")
			return got == status && strings.Contains(body, part)
		})
		if got, body := a.get("healthz"); got != http.StatusOK {
			t.Fatalf("%s: /healthz answers %d: %s", what, got, body)
		}
	}
	done := func(what string) {
		t.Helper()
		w.eventually(what, 2*time.Minute, func() bool {
			return a.value("tollstream_rows_stored_total") == float64(truth.total()) &&
				a.value("tollstream_partition_lag_records") == 0 &&
				a.value("tollstream_unpublished_events") == 0 && a.value("tollstream_unmerged_deltas") == 0
		})
	}
	readiness("readiness", http.StatusOK, "ok")
	s.send(2000)
	done("all rows")

	if err := w.db.Kill(); err != nil {
		t.Fatal(err)
	}
	readiness("notice of the dead database", http.StatusServiceUnavailable, "mysql: ")
	const waiting = 30_000 // more than fits into memory
	s.send(waiting)
	w.eventually(fmt.Sprintf("lag of %d records", waiting), 2*time.Minute, func() bool {
		return a.value("tollstream_partition_lag_records") == waiting
	})
	if err := w.db.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	readiness("recovery of the database", http.StatusOK, "ok")
	done("all rows after the database was killed")
	if a.value("tollstream_retries_total") == 0 {
		t.Error("no retry was counted")
	}

	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	readiness("notice of the dead broker", http.StatusServiceUnavailable, "kafka: ")
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	readiness("recovery of the broker", http.StatusOK, "ok")
	s.send(2000)
	done("all rows after the broker was killed")
	w.must("health", a.url)
	if took, code := p.interrupt(); code != 0 || took > stopsWithin {
		t.Fatalf("an interrupt took %v, exit status %d", took, code)
	}
	w.exact(truth)
}
