package e2e

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// figure is what a soak samples again and again, and how far it may go.
type figure struct {
	name    string
	samples []sample
	// limit returns what the median of the last quarter of the run may be at most, given that of the
	// second quarter; nil for a figure that is only printed.
	limit func(second float64) float64
	bytes bool // printed as MB
}

type sample struct {
	at    time.Duration // since the run began
	value float64
}

// quarter returns the median of a quarter of a run, 0 to 3; NaN where there is no sample.
func (f *figure) quarter(n int, run time.Duration) float64 {
	var values []float64
	for _, s := range f.samples {
		if at := int(4 * s.at / run); at == n || n == 3 && at > 3 {
			values = append(values, s.value)
		}
	}
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	if half := len(values) / 2; len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[len(values)/2]
}

func (f *figure) text(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case f.bytes:
		return humanize.CommafWithDigits(math.Round(v/1e5)/10, 1) + " MB"
	}
	return humanize.Comma(int64(math.Round(v)))
}

// growth returns a limit: a share of what there was before, and something on top.
func growth(share, more float64) func(float64) float64 {
	return func(second float64) float64 { return second*(1+share) + more }
}

// figures are all that a soak samples. One goroutine adds samples; they are read when it has ended.
type figures struct {
	began time.Time
	all   []*figure
	named map[string]*figure
}

func (fs *figures) add(name string, bytes bool, limit func(float64) float64) {
	f := &figure{name: name, bytes: bytes, limit: limit}
	fs.all = append(fs.all, f)
	fs.named[name] = f
}

func (fs *figures) note(name string, value float64) {
	f := fs.named[name]
	f.samples = append(f.samples, sample{time.Since(fs.began), value})
}

// last returns the last sample of a figure, 0 for none.
func (fs *figures) last(name string) float64 {
	if s := fs.named[name].samples; len(s) > 0 {
		return s[len(s)-1].value
	}
	return 0
}

// table returns the medians of the quarters of a run, and what is beyond its limit.
func (fs *figures) table(run time.Duration) (text string, beyond []string) {
	tw := newTable("figure", "first quarter", "second", "third", "last", "at most")
	for _, f := range fs.all {
		row := table.Row{f.name}
		for n := range 4 {
			row = append(row, f.text(f.quarter(n, run)))
		}
		limit := ""
		if f.limit != nil {
			most := f.limit(f.quarter(1, run))
			limit = f.text(most)
			if last := f.quarter(3, run); !(last <= most) { // NaN is beyond it
				beyond = append(beyond, fmt.Sprintf("%s: %s, at most %s", f.name, f.text(last), limit))
			}
		}
		tw.AppendRow(append(row, limit))
	}
	return tw.Render(), beyond
}

// newTable returns a table whose columns are numbers but for the first.
func newTable(head ...any) table.Writer {
	tw := table.NewWriter()
	tw.SetStyle(table.StyleLight)
	tw.Style().Options = table.OptionsNoBordersAndSeparators
	tw.Style().Format.Header = text.FormatDefault
	tw.AppendHeader(head)
	var columns []table.ColumnConfig
	for i := 2; i <= len(head); i++ {
		columns = append(columns,
			table.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	tw.SetColumnConfigs(columns)
	return tw
}

// watched is a process that lives through a soak.
type watched struct {
	name    string
	process *process
	metrics string // the address
	state   string // the folder of its local copies, "" for none
}

// sampler samples processes and the database's tables until it is stopped.
type sampler struct {
	*figures
	db        *dbsql.DB
	processes []watched
	client    *http.Client
	failed    int // samples of the database that were not to be had, as it was down
}

// sampleEvery is how often a sample is taken, and how long it may take.
const sampleEvery = 10 * time.Second

// Bounds of what a process may take more in the last quarter of a run than in the second one.
const (
	memoryShare = 0.2
	memoryBytes = 16e6
	moreHandles = 20 // goroutines, or open files
	storeBytes  = 4e6
)

func (s *sampler) addFigures() {
	for _, p := range s.processes {
		s.add(p.name+": resident memory", true, growth(memoryShare, memoryBytes))
		s.add(p.name+": heap in use", true, growth(memoryShare, memoryBytes))
		s.add(p.name+": goroutines", false, growth(0, moreHandles))
		s.add(p.name+": open files", false, growth(0, moreHandles))
		s.add(p.name+": lines of log", false, nil)
		if p.state != "" {
			s.add(p.name+": local copies", true, growth(memoryShare, storeBytes))
			s.add(p.name+": files of them", false, growth(0, moreHandles))
		}
	}
	s.add(batchesMade, false, nil)
	s.add(batchRows, false, s.batchRowsLimit)
	s.add(batchBytes, true, s.batchBytesLimit)
	s.add(batchAge, false, func(float64) float64 { return (soakKeep + soakKeepSlack).Seconds() })
	s.add(batchesAddedUp, false, nil)
	for _, t := range soakTables {
		s.add("rows of "+t, false, nil)
	}
	s.add(tableBytes, true, nil)
	s.add(rowBytes, true, nil)
}

// The figures of the database.
const (
	batchesMade    = "batches stored"
	batchRows      = "rows of toll_batch"
	batchBytes     = "their outboxes"
	batchAge       = "seconds kept as it is"
	batchesAddedUp = "batches rolled up"
	tableBytes     = "toll_… tables"
	rowBytes       = "livetolldata"
)

var soakTables = []string{"toll_window", "toll_transition", "toll_dead_letter", "toll_retired",
	"toll_pruned", "toll_cursor"}

const (
	soakKeep = 10 * time.Minute // the least that --keep-batches takes
	// soakKeepSlack is how much longer a batch may stay as it is: until the next round of maintenance,
	// which a process that was just started or is stopped has not begun, and as long as the newest
	// batch of the row that it was joined into is kept.
	soakKeepSlack  = 5 * time.Minute
	soakPartitions = 4
)

// batchRowsLimit is how many rows toll_batch may hold: batches of the last minutes one by one,
// older ones joined. Two joined rows that follow each other have more than 75 s, an eighth of what
// is kept, or 256 KiB between them; what is rolled up less.
func (s *sampler) batchRowsLimit(float64) float64 {
	young := s.last(batchesMade) / time.Since(s.began).Seconds() * soakKeepSlack.Seconds()
	joined := soakPartitions*(2*(soakKeep+soakKeepSlack).Seconds()/75+2) +
		2*s.last(batchBytes)/(256<<10)
	return young + joined
}

// batchBytesLimit is how many bytes the outboxes may have: those that are kept as they are, at the
// rate of the time before any was rolled up, and a count of two types for each plaza, partition and
// minute of the four days that --keep-minutes keeps.
func (s *sampler) batchBytesLimit(float64) float64 {
	const bytesPerMinute, minutes = 16, 5 * 24 * 60
	rate := 0.
	for _, sample := range s.named[batchBytes].samples {
		if sample.at < soakKeep {
			rate = max(rate, sample.value/sample.at.Seconds())
		}
	}
	return rate*(soakKeep+soakKeepSlack).Seconds() + soakPlazas*soakPartitions*minutes*bytesPerMinute
}

// soakPlazas is at how many plazas disordered makes events.
const soakPlazas = 11

// run takes samples until stop is closed.
func (s *sampler) run(stop <-chan struct{}) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
		for _, p := range s.processes {
			s.sampleProcess(p)
		}
		if err := s.sampleDatabase(); err != nil {
			s.failed++ // it is killed and restarted meanwhile
		}
	}
}

// sampleProcess takes what can be had; a figure without samples fails the run in the end.
func (s *sampler) sampleProcess(p watched) {
	pid := p.process.cmd.Process.Pid
	if kib, ok := statusOf(pid, "VmRSS"); ok {
		s.note(p.name+": resident memory", kib*1024)
	}
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		s.note(p.name+": open files", float64(len(open)))
	}
	if values, err := s.scrape(p.metrics); err == nil {
		s.note(p.name+": goroutines", values["go_goroutines"])
		s.note(p.name+": heap in use", values["go_memstats_heap_inuse_bytes"])
	}
	s.note(p.name+": lines of log", float64(strings.Count(p.process.log.String(), "\n")))
	if p.state != "" {
		files, bytes := folderSize(p.state)
		s.note(p.name+": local copies", bytes)
		s.note(p.name+": files of them", files)
	}
}

// statusOf returns a figure of /proc/PID/status, in KiB.
func statusOf(pid int, name string) (kib float64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, rest, found := strings.Cut(string(status), "\n"+name+":")
	if !found {
		return 0, false // it has ended
	}
	_, err = fmt.Sscan(rest, &kib)
	return kib, err == nil
}

// scrape returns the metrics without labels that a process serves.
func (s *sampler) scrape(url string) (map[string]float64, error) {
	answer, err := s.client.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok &&
			!strings.Contains(name, "{") {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				values[name] = v
			}
		}
	}
	return values, nil
}

// folderSize returns what a folder holds. Files that come and go meanwhile are left out.
func folderSize(dir string) (files, bytes float64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			files++
			bytes += float64(info.Size())
		}
		return nil
	})
	return files, bytes
}

func (s *sampler) sampleDatabase() error {
	ctx, cancel := context.WithTimeout(context.Background(), sampleEvery)
	defer cancel()
	var made, rows, bytes, age, addedUp float64
	if err := s.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(batches), 0), COUNT(*),
		COALESCE(SUM(LENGTH(deltas)), 0),
		COALESCE(TIMESTAMPDIFF(SECOND, MIN(IF(folded_minute IS NULL, stored_at, NULL)), UTC_TIMESTAMP()),
		0), COALESCE(SUM(IF(folded_minute IS NULL, 0, batches)), 0)
		FROM toll_batch`).Scan(&made, &rows, &bytes, &age, &addedUp); err != nil {
		return err
	}
	s.note(batchesMade, made)
	s.note(batchRows, rows)
	s.note(batchBytes, bytes)
	s.note(batchAge, age)
	s.note(batchesAddedUp, addedUp)
	for _, t := range soakTables {
		var n float64
		if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t).Scan(&n); err != nil {
			return err
		}
		s.note("rows of "+t, n)
	}
	var ours, events float64
	if err := s.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(IF(table_name = 'livetolldata', 0,
		data_length + index_length)), 0),
		COALESCE(SUM(IF(table_name = 'livetolldata', data_length + index_length, 0)), 0)
		FROM information_schema.tables WHERE table_schema = DATABASE()`).Scan(&ours, &events); err !=
		nil {
		return err
	}
	s.note(tableBytes, ours)
	s.note(rowBytes, events)
	return nil
}

// startSampling samples processes and the database until the func that it returns is called.
func (w *world) startSampling(processes ...watched) (s *sampler, stop func()) {
	w.t.Helper()
	db, err := dbsql.Open("mysql", w.db.DSN()+"?timeout=1s&readTimeout=10s")
	if err != nil {
		w.t.Fatal(err)
	}
	s = &sampler{figures: &figures{began: time.Now(), named: map[string]*figure{}}, db: db,
		processes: processes,
		client:    &http.Client{Timeout: sampleEvery}}
	s.addFigures()
	stopping := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.run(stopping) })
	stop = sync.OnceFunc(func() {
		close(stopping)
		wg.Wait()
		s.client.CloseIdleConnections()
		_ = db.Close()
	})
	w.t.Cleanup(stop)
	return s, stop
}

// TestFigures holds the comparison to figures that level off, that grow, and that were never
// sampled.
func TestFigures(t *testing.T) {
	fs := &figures{named: map[string]*figure{}}
	const run = 20 * time.Minute
	fs.add("level", true, growth(memoryShare, memoryBytes))
	fs.add("growing", false, growth(0, moreHandles))
	fs.add("never", false, growth(0, moreHandles))
	for i := range 120 {
		at := time.Duration(i) * sampleEvery
		level := 50e6 * (1 + float64(i%3)/10)
		if i%10 == 0 {
			level *= 5 // a peak now and then is no growth
		}
		fs.named["level"].samples = append(fs.named["level"].samples, sample{at, level})
		fs.named["growing"].samples = append(fs.named["growing"].samples, sample{at, float64(i)})
	}
	text, beyond := fs.table(run)
	if want := []string{"growing: 105, at most 65", "never: -, at most -"}; !slices.Equal(beyond,
		want) {
		t.Errorf("beyond their limits: %q, want %q\n%s", beyond, want, text)
	}
	if !strings.Contains(text, "55.0 MB") && !strings.Contains(text, "55 MB") {
		t.Errorf("got\n%s", text)
	}
}
