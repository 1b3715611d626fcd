package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
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

// sums are what a test sent, summed by plaza, type and minute: little memory, however many
// events. A checksum that does not depend on the order distinguishes one row from another.
type sums map[sumKey]rowSum

type sumKey struct {
	plaza  int
	typ    string
	minute int64 // since 1970, UTC
}

type rowSum struct {
	rows int64
	crc  uint64 // the sum of the CRC-32 of each row's text
}

const minuteLayout = "2006-01-02 15:04"

// minuteOf returns the minute of a time as MySQL writes it.
func minuteOf(text string) int64 {
	t, err := time.Parse(minuteLayout, text[:len(minuteLayout)])
	if err != nil {
		panic(err) // of our own making
	}
	return t.Unix() / 60
}

func minuteText(minute int64) string { return time.Unix(minute*60, 0).UTC().Format(time.DateTime) }

// add adds a row's text: time, vehicle, type, plaza.
func (s sums) add(row string) {
	fields := strings.Split(row, ",")
	plaza, err := strconv.Atoi(fields[3])
	if err != nil {
		panic(err) // of our own making
	}
	key := sumKey{plaza, strings.Clone(fields[2]), minuteOf(row)}
	sum := s[key]
	sum.rows++
	sum.crc += uint64(crc32.ChecksumIEEE([]byte(row)))
	s[key] = sum
}

// compare returns how many rows livetolldata lacks and has too many, and a line for each sum that
// differs. Of the rows from before a minute, which were pruned again and again, only how many there
// are is known: what is left and what was pruned.
func (s sums) compare(w *world, pruneLimit, pruned int64) (lost, doubled int64, wrong []string) {
	w.t.Helper()
	rs, err := w.sql.Query(`SELECT toll_plaza_id, vehicle_type, LEFT(CAST(timestamp AS CHAR),
		16) AS minute, COUNT(*),
		CAST(SUM(CAST(CRC32(CONCAT_WS(',', CAST(timestamp AS CHAR), vehicle_id, vehicle_type,
		toll_plaza_id)) AS DECIMAL(20))) AS CHAR)
		FROM livetolldata GROUP BY toll_plaza_id, vehicle_type, minute`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rs.Close()
	found := sums{}
	for rs.Next() {
		var key sumKey
		var sum rowSum
		var minute, crc string
		if err := rs.Scan(&key.plaza, &key.typ, &minute, &sum.rows, &crc); err != nil {
			w.t.Fatal(err)
		}
		key.minute = minuteOf(minute)
		if sum.crc, err = strconv.ParseUint(crc, 10, 64); err != nil {
			w.t.Fatal(err)
		}
		found[key] = sum
	}
	if err := rs.Err(); err != nil {
		w.t.Fatal(err)
	}
	var old int64 // rows from before the limit that are not there
	report := func(key sumKey, what string) {
		wrong = append(wrong, fmt.Sprintf("%s, plaza %d, %s: %s", minuteText(key.minute), key.plaza,
			key.typ, what))
	}
	for key, sent := range s {
		got := found[key]
		switch more := got.rows - sent.rows; {
		case more > 0:
			doubled += more
			report(key, fmt.Sprintf("%d rows of %d", got.rows, sent.rows))
		case more < 0 && key.minute < pruneLimit:
			old -= more
		case more < 0:
			lost -= more
			report(key, fmt.Sprintf("%d rows of %d", got.rows, sent.rows))
		case got.crc != sent.crc:
			report(key, "other rows than were sent")
		}
	}
	for key, got := range found {
		if s[key].rows == 0 {
			doubled += got.rows
			report(key, fmt.Sprintf("%d rows, none was sent", got.rows))
		}
	}
	if old != pruned {
		lost += max(old-pruned, 0)
		wrong = append(wrong, fmt.Sprintf("before %s: %d rows are gone, and prune deleted %d",
			minuteText(pruneLimit), old, pruned))
	}
	slices.Sort(wrong)
	return lost, doubled, wrong
}

// traffic is what was sent at one plaza: minutes, ascending, and by type how many events there were
// before each of them.
type traffic struct {
	minutes []int64
	before  map[string][]int64 // one longer than minutes
}

// in returns the events of [from, to) by type, those that are there.
func (tr *traffic) in(from, to int64) map[string]int64 {
	counts := map[string]int64{}
	if tr == nil {
		return counts
	}
	i, _ := slices.BinarySearch(tr.minutes, from)
	j, _ := slices.BinarySearch(tr.minutes, to)
	for typ, before := range tr.before {
		if n := before[j] - before[i]; n > 0 {
			counts[typ] = n
		}
	}
	return counts
}

func (s sums) byPlaza() map[int]*traffic {
	all := map[int]*traffic{}
	for _, key := range slices.SortedFunc(maps.Keys(s), func(a, b sumKey) int {
		return cmp.Compare(a.minute, b.minute)
	}) {
		tr := all[key.plaza]
		if tr == nil {
			tr = &traffic{before: map[string][]int64{}}
			for _, typ := range types {
				tr.before[typ] = []int64{0}
			}
			all[key.plaza] = tr
		}
		if n := len(tr.minutes); n == 0 || tr.minutes[n-1] != key.minute {
			tr.minutes = append(tr.minutes, key.minute)
			for typ, before := range tr.before {
				tr.before[typ] = append(before, before[len(before)-1])
			}
		}
		tr.before[key.typ][len(tr.minutes)] += s[key].rows
	}
	return all
}

// windowSpans are the kinds of windows by default, in minutes: how long one is, and how far one
// begins after the other. A soak's timezone is UTC, so all are aligned to 1970.
var windowSpans = map[string]struct{ size, every int64 }{"1m": {1, 1}, "5m/1m": {5, 1},
	"15m": {15, 15}, "1h": {60, 60}, "day": {1440, 1440}}

// compareWindows returns a line for each window that does not hold what was sent, and for each that
// is missing although events of the minute since or of a later one belong to it.
func (s sums) compareWindows(windows map[string]window, since int64) (wrong []string) {
	plazas := s.byPlaza()
	for _, v := range windows {
		span := windowSpans[v.Kind]
		start := minuteOf(v.Start)
		sent := plazas[v.Plaza].in(start, start+span.size)
		total := int64(0)
		for _, n := range sent {
			total += n
		}
		if minuteOf(v.End) != start+span.size || v.Events+v.TooLate != total {
			wrong = append(wrong, fmt.Sprintf("window %s to %s: %d events and %d too late, %d were sent",
				v.key(), v.End, v.Events, v.TooLate, total))
			continue
		}
		if v.TooLate > 0 {
			continue // they are in no type's count
		}
		got := map[string]int64{}
		if err := json.Unmarshal([]byte(v.ByType), &got); err != nil || !maps.Equal(got, sent) {
			wrong = append(wrong, fmt.Sprintf("window %s: by type %s, %v were sent, %v", v.key(), v.ByType,
				sent, err))
		}
	}
	for plaza, tr := range plazas {
		for _, minute := range tr.minutes {
			if minute < since {
				continue
			}
			for kind, span := range windowSpans {
				for start := minute - minute%span.every; start > minute-span.size; start -= span.every {
					v := window{Plaza: plaza, Kind: kind, Start: minuteText(start)}
					if _, ok := windows[v.key()]; !ok {
						wrong = append(wrong, "no window "+v.key())
					}
				}
			}
		}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// TestSums compares windows with what was sent: right ones, and each kind of wrong one.
func TestSums(t *testing.T) {
	s := sums{}
	for _, row := range []string{"2022-02-10 10:23:02,1,car,4000", "2022-02-10 10:23:59,2,car,4000",
		"2022-02-10 10:24:00,3,van,4000", "2022-02-09 23:59:59,4,car,4001"} {
		s.add(row)
	}
	right := func() map[string]window {
		windows := map[string]window{}
		for plaza, tr := range s.byPlaza() {
			for _, minute := range tr.minutes {
				for kind, span := range windowSpans {
					for start := minute - minute%span.every; start > minute-span.size; start -= span.every {
						sent := tr.in(start, start+span.size)
						byType, err := json.Marshal(sent)
						if err != nil {
							t.Fatal(err)
						}
						v := window{Plaza: plaza, Kind: kind, Start: minuteText(start),
							End: minuteText(start + span.size), ByType: string(byType)}
						for _, n := range sent {
							v.Events += n
						}
						windows[v.key()] = v
					}
				}
			}
		}
		return windows
	}
	if wrong := s.compareWindows(right(), 0); len(wrong) > 0 {
		t.Errorf("right windows: %v", wrong)
	}
	if n := len(right()); n != 2+6+1+1+1+9 {
		t.Errorf("%d windows", n)
	}
	const first, later = "4000 1m 2022-02-10 10:23:00", "4001 1m 2022-02-09 23:59:00"
	for what, spoil := range map[string]func(map[string]window){
		"an event is missing": func(w map[string]window) { v := w[first]; v.Events--; w[first] = v },
		"another type": func(w map[string]window) {
			v := w[first]
			v.ByType = `{"van":2}`
			w[first] = v
		},
		"a window is missing": func(w map[string]window) { delete(w, first) },
		"one has another end": func(w map[string]window) {
			v := w[first]
			v.End = minuteText(0)
			w[first] = v
		},
		"events that nobody sent": func(w map[string]window) {
			v := w[first]
			v.Plaza = 4002
			w["x"] = v
		},
	} {
		windows := right()
		spoil(windows)
		if wrong := s.compareWindows(windows, 0); len(wrong) != 1 {
			t.Errorf("%s: %q", what, wrong)
		}
	}
	windows := right()
	delete(windows, later)
	if wrong := s.compareWindows(windows, minuteOf("2022-02-10 00:00")); len(wrong) > 0 {
		t.Errorf("what is missing is too old to be there: %v", wrong)
	}
}
