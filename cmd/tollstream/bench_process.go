package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tollstream/sql"
)

// processAll works off the whole topic by processes of their own, into a database without any of it, and records how
// fast that was from the first fetch to the last commit, what it cost, and the speed over limit.
func (b *bench) processAll(ctx context.Context, limit float64) error {
	if err := b.reset(ctx); err != nil {
		return err
	}
	state, err := os.MkdirTemp(b.dir, "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runs := make([]*processRun, b.settings.Instances)
	for i := range runs {
		if runs[i], err = b.startProcess(ctx, i, state, "--until-end"); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	for i, r := range runs {
		wg.Go(func() {
			if errs[i] = r.wait(); errs[i] != nil {
				cancel() // the others would go on without it
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	last, err := b.lastCommit(ctx)
	if err != nil {
		return err
	}
	var first time.Time
	var cpu time.Duration
	memory := 0.0
	for i, r := range runs {
		began, err := r.processing()
		if err != nil {
			return err
		}
		if began[0].After(last) {
			return fmt.Errorf("process %d of %d came when all was done: more --events are needed", i+1, len(runs))
		}
		if len(began) > 1 && began[1].Before(last) {
			b.say("  process %d was interrupted by a rebalance", i+1)
		}
		if first.IsZero() || began[0].Before(first) {
			first = began[0]
		}
		cpu += r.cmd.ProcessState.UserTime() + r.cmd.ProcessState.SystemTime()
		memory = max(memory, r.memoryMB)
	}
	rate := float64(b.settings.Events) / last.Sub(first).Seconds()
	b.record("process_rows_per_second", rate)
	b.record(b.processOverLimit(), rate/limit)
	b.record("process_cpu_seconds_per_million", cpu.Seconds()/float64(b.settings.Events)*1e6)
	if memory > 0 {
		b.record("process_peak_memory_mb", memory)
	}
	return nil
}

// catchUp works off what the topic holds and is not stored yet, with the state folder that later parts go on with.
func (b *bench) catchUp(ctx context.Context) error {
	r, err := b.startProcess(ctx, 0, b.state(), "--until-end")
	if err != nil {
		return err
	}
	return r.wait()
}

func (b *bench) state() string { return filepath.Join(b.dir, "state") }

func benchInstance(i int) string { return fmt.Sprintf("bench-%d", i+1) }

// processRun is a process command that runs as a process of its own.
type processRun struct {
	cmd      *exec.Cmd
	log      lockedBuffer
	ended    chan struct{}
	watched  chan struct{} // closed when memoryMB is final
	memoryMB float64       // the peak of its resident memory; 0 where there is no /proc
}

func (b *bench) startProcess(ctx context.Context, instance int, state string, more ...string) (*processRun, error) {
	cmd, err := b.command(ctx, append([]string{"process", "--log-format", "json", "--instance", benchInstance(instance), "--state-dir", state,
		"--load", b.settings.Load, "--batch-rows", fmt.Sprint(b.settings.BatchRows), "--latency", b.settings.latency.String()}, more...)...)
	if err != nil {
		return nil, err
	}
	r := &processRun{cmd: cmd, ended: make(chan struct{}), watched: make(chan struct{})}
	cmd.Stderr = &r.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go r.watchMemory()
	return r, nil
}

// memoryEvery is how often the peak so far is read. It never goes down, so only what comes in the last moment is missed.
const memoryEvery = 50 * time.Millisecond

// watchMemory reads the peak from /proc. The one that wait4 returns is not less than the bench's own: on Linux a child
// takes over its parent's when it is started.
func (r *processRun) watchMemory() {
	defer close(r.watched)
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	for {
		if mb, ok := peakMemory(r.cmd.Process.Pid); ok {
			r.memoryMB = mb
		}
		select {
		case <-ticker.C:
		case <-r.ended:
			return
		}
	}
}

func peakMemory(pid int) (mb float64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, text, found := strings.Cut(string(status), "\nVmHWM:")
	if !found {
		return 0, false // it has ended
	}
	var kib float64
	_, err = fmt.Sscan(text, &kib)
	return kib / 1024, err == nil
}

func (r *processRun) wait() error {
	err := r.cmd.Wait()
	close(r.ended)
	<-r.watched
	if err != nil {
		return fmt.Errorf("process: %w: %s", err, strings.TrimSpace(string(r.log.bytes())))
	}
	return nil
}

func (r *processRun) stop() error {
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return r.wait()
}

// processing returns when the process began to fetch, once for each time that it got its partitions, which it logs. goka
// has recovered the group table by then.
func (r *processRun) processing() (began []time.Time, err error) {
	log := r.log.bytes()
	for line := range bytes.Lines(log) {
		var entry struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "processing" {
			began = append(began, entry.Time)
		}
	}
	if len(began) == 0 {
		return nil, fmt.Errorf("process did not begin: %s", strings.TrimSpace(string(log)))
	}
	return began, nil
}

// lockedBuffer is a buffer that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// storedAt is how toll_batch.stored_at reads, in UTC.
const storedAt = "2006-01-02 15:04:05.000000"

// processOverLimit names the figure that compares process with the bare load.
func (b *bench) processOverLimit() string {
	if b.mode == sql.LoadInsert {
		return "process_over_insert"
	}
	return "process_over_load_data"
}

// lastCommit returns when the last batch was stored, after it has made sure that all events are.
func (b *bench) lastCommit(ctx context.Context) (time.Time, error) {
	db, err := b.openDB()
	if err != nil {
		return time.Time{}, err
	}
	defer db.Close()
	var rows int
	var last string
	if err := db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM livetolldata), CAST(MAX(stored_at) AS CHAR) FROM toll_batch`).Scan(&rows, &last); err != nil {
		return time.Time{}, err
	}
	if want := b.settings.Stored + b.settings.Events; rows != want {
		return time.Time{}, fmt.Errorf("livetolldata holds %d rows, want %d", rows, want)
	}
	return time.Parse(storedAt, last)
}

// verify returns the verdict of verify --deep.
func (b *bench) verify(ctx context.Context) (string, error) {
	out, err := b.output(ctx, "verify", "--deep", "--json")
	var report struct{ Status string }
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		return "", errors.Join(err, jsonErr)
	}
	return report.Status, nil
}
