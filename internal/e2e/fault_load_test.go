package e2e

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// position is the place of an event in the topic.
type position struct {
	partition int32
	offset    int64
}

// load keeps sending events in disorder at a steady rate until it is stopped, and measures
// meanwhile for how long events wait: it knows from the acknowledgements what each partition holds,
// and looks at the cursors for what is stored. The time that a server was down counts too.
type load struct {
	w     *world
	s     *sender
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
	truth *truth
	lull  atomic.Bool // while it is set, nothing is sent but bursts

	mu      sync.Mutex
	rows    map[position]string // what was sent where; not of a long run
	ends    map[int32]int64     // behind the last acknowledged event, per partition
	longest time.Duration       // that a partition held events and none was stored
	begun   int64               // events that were given to the client, acknowledged or not
}

// Rate of a load: loadBatch events each loadEvery. It is far below what process stores, so what
// waits, waits for a fault.
const (
	loadBatch = 60
	loadEvery = 60 * time.Millisecond
	pollEvery = 40 * time.Millisecond
)

// startLoad begins to send to a broker.
func (w *world) startLoad(truth *truth, opts ...kgo.Opt) *load {
	w.t.Helper()
	l := &load{w: w, s: w.sender(truth, opts...), stop: make(chan struct{}), truth: truth,
		rows: map[position]string{}, ends: map[int32]int64{}}
	db, err := dbsql.Open("mysql", w.db.DSN()+"?timeout=1s&readTimeout=2s")
	if err != nil {
		w.t.Fatal(err)
	}
	l.wg.Go(l.send)
	l.wg.Go(func() { defer db.Close(); l.watch(db) })
	w.t.Cleanup(l.end)
	return l
}

// end stops the load, and returns when all that it sent is acknowledged.
func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
}

func (l *load) send() {
	ticker := time.NewTicker(loadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		if !l.lull.Load() {
			l.burst(loadBatch)
		}
	}
}

// burst sends n events and waits until they are acknowledged.
func (l *load) burst(n int) {
	var wg sync.WaitGroup
	l.mu.Lock()
	l.begun += int64(n)
	l.mu.Unlock()
	for range n {
		l.mu.Lock() // several may send at once
		csv, row := l.s.disordered()
		l.mu.Unlock()
		wg.Add(1)
		l.s.client.Produce(context.Background(), &kgo.Record{Value: []byte(csv)},
			func(r *kgo.Record, err error) {
				defer wg.Done()
				if err != nil {
					l.s.t.Errorf("produce: %v", err)
					return
				}
				l.truth.sent(row)
				l.mu.Lock()
				defer l.mu.Unlock()
				if l.truth.sums == nil {
					l.rows[position{r.Partition, r.Offset}] = row
				}
				l.ends[r.Partition] = max(l.ends[r.Partition], r.Offset+1)
			})
	}
	wg.Wait()
}

// watch measures the longest wait.
func (l *load) watch(db *dbsql.DB) {
	cursors, since := map[int32]int64{}, map[int32]time.Time{}
	total, moved := int64(0), time.Now() // of all partitions, also for what no partition holds yet
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		read, err := readCursors(db, l.w.topic)
		l.mu.Lock()
		sum := int64(0)
		for _, next := range read {
			sum += next
		}
		if err == nil && (sum != total || sum >= l.begun) {
			total, moved = sum, now
		}
		l.longest = max(l.longest, now.Sub(moved))
		for partition, end := range l.ends {
			next, ok := read[partition]
			if _, known := since[partition]; !known || err == nil && ok &&
				(next != cursors[partition] || next >= end) {
				since[partition] = now // it holds nothing, or something was stored
			}
			if err == nil && ok {
				cursors[partition] = next
			}
			l.longest = max(l.longest, now.Sub(since[partition]))
		}
		l.mu.Unlock()
	}
}

// readCursors returns how far each partition is stored.
func readCursors(db *dbsql.DB, topic string) (map[int32]int64, error) {
	rows, err := db.Query(`SELECT partition_id, next_offset FROM toll_cursor`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cursors := map[int32]int64{}
	for rows.Next() {
		var partition int32
		var next int64
		if err := rows.Scan(&partition, &next); err != nil {
			return nil, err
		}
		cursors[partition] = next
	}
	return cursors, rows.Err()
}

// pause returns the longest that a partition held events of which none was stored.
func (l *load) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longest
}

// forgetPauses starts measuring again.
func (l *load) forgetPauses() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = 0
}

// acknowledged returns where each partition ends now.
func (l *load) acknowledged() map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ends := make(map[int32]int64, len(l.ends))
	for p, end := range l.ends {
		ends[p] = end
	}
	return ends
}

// caughtUp waits until all that was acknowledged before the call is stored, and returns how long
// that took.
func (l *load) caughtUp(what string, within time.Duration, processes ...*process) time.Duration {
	l.w.t.Helper()
	started := time.Now()
	ends := l.acknowledged()
	for deadline := started.Add(within); ; time.Sleep(pollEvery) {
		if len(ends) == 0 {
			ends = l.acknowledged() // the first events are on their way
		}
		cursors, err := readCursors(l.w.sql, l.w.topic)
		behind := err != nil || len(ends) == 0
		for partition, end := range ends {
			behind = behind || cursors[partition] < end
		}
		if !behind {
			return time.Since(started)
		}
		for _, p := range processes {
			if !p.running() {
				l.w.t.Fatalf("%s: process ended by itself:\n%s", what, p.log)
			}
		}
		if time.Now().After(deadline) {
			logs := ""
			for _, p := range processes {
				logs += fmt.Sprintf("%s:\n%s", p.cmd.Args[1:], p.log)
			}
			l.w.t.Fatalf("%s: stored %v of %v within %v, %v\n%s", what, cursors, ends, within, err, logs)
		}
	}
}

// disordered makes an event whose clock runs far too fast, and which may be late, too late or
// ahead.
func (s *sender) disordered() (csv, row string) {
	s.clock = s.clock.Add(time.Duration(s.rand.IntN(500)) * time.Millisecond)
	at := s.clock
	switch r := s.rand.IntN(1000); {
	case r < 30: // late
		at = at.Add(-time.Duration(s.rand.IntN(7200)) * time.Second)
	case r < 35: // late for minutes
		at = at.Add(-time.Duration(2*3600+s.rand.IntN(46*3600)) * time.Second)
	case r < 37: // too late
		at = at.Add(-time.Duration(49*3600+s.rand.IntN(1e6)) * time.Second)
	case r < 38: // a wrong clock
		at = at.Add(time.Duration(s.rand.IntN(1e8)) * time.Second)
	}
	vehicle, typ, plaza := 10_000+s.rand.IntN(9_990_000), types[s.rand.IntN(len(types))], 4000+
		s.rand.IntN(11)
	return fmt.Sprintf("%s,%d,%s,%d", at.Format(time.ANSIC), vehicle, typ, plaza),
		fmt.Sprintf("%s,%d,%s,%d", at.Format(time.DateTime), vehicle, typ, plaza)
}

// forget takes events out of the truth that the broker deleted before they were stored.
func (l *load) forget(t *testing.T, partition int32, first, next int64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for offset := first; offset < next; offset++ {
		row, ok := l.rows[position{partition, offset}]
		if !ok {
			t.Fatalf("partition %d, offset %d was never acknowledged", partition, offset)
		}
		l.truth.mu.Lock()
		if l.truth.rows[row]--; l.truth.rows[row] == 0 {
			delete(l.truth.rows, row)
		}
		l.truth.mu.Unlock()
	}
}
