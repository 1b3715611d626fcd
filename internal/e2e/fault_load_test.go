package e2e

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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
	return maps.Clone(l.ends)
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

// damageState harms the state folder of a process again and again while it is down, each time in
// another way. It has to come back by itself, with the right counts.
func damageState(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	l, p := w.underLoad()
	dir := filepath.Join(w.state, "one")
	old := f.TempDir()
	damages := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"an older copy", func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
		}},
		{"nonsense at the end of every table", func(t *testing.T) {
			for try := 0; ; try++ {
				tables := 0
				eachFile(t, dir, func(path string, size int64) error {
					if filepath.Ext(path) != ".ldb" {
						return nil
					}
					tables++
					return nonsense(path, size)
				})
				if tables > 0 {
					return
				}
				if try == 3 {
					t.Fatalf("no table below %s", dir)
				}
				// A process writes to the journal, and the next one makes a table of that.
				stored := w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`)
				p = w.member("one")
				w.eventually("more events stored", caughtUpWithin, func() bool {
					return w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`) > stored
				})
				w.merged(l, "the writing of a journal")
				p.kill()
			}
		}},
		{"noise in every file", func(t *testing.T) { eachFile(t, dir, noise) }},
		{"deleted", func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}},
		{"every file cut in half", func(t *testing.T) {
			eachFile(t, dir, func(path string, size int64) error { return os.Truncate(path, size/2) })
		}},
		{"some files deleted", func(t *testing.T) {
			eachFile(t, dir, func(path string, _ int64) error {
				if rand.IntN(2) == 0 {
					return os.Remove(path)
				}
				return nil
			})
		}},
		{"noise in some files", func(t *testing.T) {
			eachFile(t, dir, func(path string, size int64) error {
				if rand.IntN(3) > 0 {
					return nil
				}
				return noise(path, size)
			})
		}},
	}
	for round := range max(f.rounds, len(damages)) {
		p.kill()
		if round == 0 {
			if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
				f.Fatal(err)
			}
			p = w.member("one")
			l.caughtUp("after a kill", caughtUpWithin, p)
			p.kill()
		}
		damage := damages[round%len(damages)]
		damage.do(f.T)
		p = w.member("one")
		l.caughtUp("after the state folder was damaged: "+damage.name, caughtUpWithin, p)
		w.merged(l, damage.name)
		f.brief(p)
		f.done()
	}
	f.finish(l, p)
}

// merged waits until the group table holds what was stored before the call.
func (w *world) merged(l *load, what string) {
	w.t.Helper()
	stored := w.count(`SELECT COALESCE(SUM(events), 0) FROM toll_batch`)
	var v report
	w.eventually("merged after "+what, caughtUpWithin, func() bool {
		v = w.verify()
		if v.Status == "mismatch" {
			w.t.Fatalf("%s: %+v", what, v)
		}
		return v.Merged >= stored
	})
}

func eachFile(t *testing.T, dir string, do func(path string, size int64) error) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n++
		return do(path, info.Size())
	})
	if err != nil || n == 0 {
		t.Fatalf("damage %d files of %s: %v", n, dir, err)
	}
}

// noise overwrites some of a file's bytes.
func noise(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 1 + size/500 {
		if _, err := f.WriteAt([]byte{byte(rand.Uint32()), byte(rand.Uint32())},
			rand.Int64N(size+1)); err != nil {
			return err
		}
	}
	return nil
}

// nonsense lets the end of a table of LevelDB say that a block of it takes terabytes, and leaves
// the mark of a table behind that.
func nonsense(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// begins at 1, 1<<42 bytes long
	_, err = f.WriteAt([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, size-48)
	return err
}

// foreignState gives a process the state folder of another group, and then a file in its place.
func foreignState(f *injection) {
	other := newWorld(f.T)
	other.must("init")
	other.sender(newTruth()).send(2000)
	other.must("process", "--until-end", "--instance", "one")

	w := newWorld(f.T)
	w.must("init")
	l := w.startLoad(newTruth())
	p := w.member("one", "--state-dir", other.state)
	l.caughtUp("with the state folder of another group", caughtUpWithin, p)
	w.merged(l, "start with the state folder of another group")
	p.interrupt()
	f.done()

	file := filepath.Join(f.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		f.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		started := time.Now()
		w.refuses([]string{"process", "--state-dir", dir}, "make the state folder", "--state-dir")
		if took := time.Since(started); took > 30*time.Second {
			f.Errorf("a state folder that can't be made was refused after %v", took)
		}
	}
	f.done()
	p = w.member("one")
	l.caughtUp("with a folder of its own", caughtUpWithin, p)
	f.finish(l, p)
	if strings.Contains(p.log.String(), "damaged") {
		f.Errorf("a new state folder is called damaged:\n%s", p.log)
	}
}
