package bench

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/testkit"
)

// world is a database and a group of their own for a binary, which need nothing of what another
// build left behind.
type world struct {
	b        *Bench
	binary   string
	name     string // of database and group
	topic    string // the world's own unless it was there before
	dsn      string
	db       *sql.DB
	state    string // folder
	env      []string
	ownTopic bool
}

// newWorld makes a world with the topic of a scenario, or with one of its own, as `init` makes it.
func (r *run) newWorld(ctx context.Context, topic string, partitions int) (_ *world, err error) {
	r.worlds++
	w := &world{
		b: r.Bench, binary: r.cfg.Binaries[r.binary], name: fmt.Sprintf("bench_%d",
			r.worlds), topic: topic,
	}
	if w.ownTopic = topic == ""; w.ownTopic {
		w.topic = w.name + "-toll"
	}
	w.state = filepath.Join(r.dir, w.name)
	if w.dsn, err = r.createDatabase(ctx, w.name); err != nil {
		return nil, err
	}
	if w.db, err = openDB(w.dsn); err != nil {
		return nil, err
	}
	w.use(r.kafka.Addr(), w.dsn)
	if _, err := w.output(ctx, "init", "--partitions", fmt.Sprint(partitions)); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

// use sets where the world's commands reach Kafka and MySQL.
func (w *world) use(brokers, dsn string) {
	w.env = []string{
		"TOLLSTREAM_BROKERS=" + brokers, "TOLLSTREAM_MYSQL=" + dsn, "TOLLSTREAM_TOPIC=" + w.topic,
		"TOLLSTREAM_GROUP=" + w.name, "TOLLSTREAM_TIMEZONE=UTC",
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TOLLSTREAM_") {
			w.env = append(w.env, v)
		}
	}
}

// dsnAt returns the world's data source name with another address.
func (w *world) dsnAt(addr string) (string, error) {
	cfg, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		return "", err
	}
	cfg.Addr = addr
	return cfg.FormatDSN(), nil
}

// finish makes sure that all is exact, and takes the world away.
func (w *world) finish(ctx context.Context) error {
	w.use(w.b.kafka.Addr(), w.dsn)
	return errors.Join(w.verify(ctx), w.close(ctx))
}

// catchUp works off what the topic holds.
func (w *world) catchUp(ctx context.Context) error {
	p, err := w.process(ctx, w.state, "--until-end")
	if err != nil {
		return err
	}
	return p.wait()
}

// verify returns an error unless verify --deep finds everything exact.
func (w *world) verify(ctx context.Context) error {
	out, err := w.output(ctx, "verify", "--deep", "--json")
	if err != nil {
		return err
	}
	var report struct{ Status string }
	if err := json.Unmarshal(out, &report); err != nil {
		return err
	}
	if report.Status != "exact" {
		return fmt.Errorf("verify --deep finds %s", report.Status)
	}
	return nil
}

// close takes the world away.
func (w *world) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return errors.Join(w.db.Close(), w.b.dropDatabase(ctx, w.name), w.b.deleteTopics(ctx, w.name+"-"),
		os.RemoveAll(w.state))
}

// command returns one of the binary's commands in this world, whatever the environment holds.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Env = w.env
	return cmd
}

// output runs a command to its end and returns what it prints.
func (w *world) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := w.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", args[0], err,
			strings.TrimSpace(cut(stderr.String())+"\n"+cut(stdout.String())))
	}
	return stdout.Bytes(), nil
}

// cut leaves the end of a text that is long.
func cut(text string) string {
	const most = 2_000
	return text[max(0, len(text)-most):]
}

// process is a running `tollstream process`.
type process struct {
	cmd      *exec.Cmd
	log      testkit.Buffer
	ended    chan struct{}
	err      error         // once it has ended
	watched  chan struct{} // closed when memoryMB is final
	memoryMB float64       // the peak of its resident memory
}

// process starts `process` with a state folder.
func (w *world) process(ctx context.Context, state string, more ...string) (*process, error) {
	args := slices.Concat([]string{"process", "--log-format", "json", "--instance", "bench",
		"--state-dir", state}, w.b.cfg.Process, more)
	p := &process{
		cmd: w.command(ctx, args...), ended: make(chan struct{}), watched: make(chan struct{}),
	}
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	go p.watchMemory()
	return p, nil
}

// running starts `process` and returns when it fetches.
func (w *world) running(ctx context.Context) (*process, error) {
	p, err := w.process(ctx, w.state)
	if err != nil {
		return nil, err
	}
	err = await(ctx, "process to fetch", func() (bool, error) {
		if _, ok := p.fetching(); ok {
			return true, nil
		}
		select {
		case <-p.ended:
			return false, errors.Join(p.wait(), errors.New("process ended before it fetched"))
		default:
			return false, nil
		}
	})
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// memoryEvery is how often the peak so far is read. It never goes down, so only what comes in the
// last moment is missed.
const memoryEvery = 50 * time.Millisecond

// watchMemory reads the peak from /proc. What wait4 returns is not less than our own: on Linux a
// child takes over its parent's when it is started.
func (p *process) watchMemory() {
	defer close(p.watched)
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	for {
		p.memoryMB = max(p.memoryMB, peakMemory(p.cmd.Process.Pid))
		select {
		case <-ticker.C:
		case <-p.ended:
			return
		}
	}
}

func (p *process) wait() error {
	<-p.ended
	<-p.watched
	if p.err != nil {
		return fmt.Errorf("process: %w: %s", p.err, strings.TrimSpace(cut(string(p.log.Bytes()))))
	}
	return nil
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(os.Interrupt) // where it has ended, wait returns why
	return p.wait()
}

// cpu returns the CPU time that a process has taken that has ended.
func (p *process) cpu() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// fetching returns when the process began to fetch, which it logs. goka has recovered the group
// table by then.
func (p *process) fetching() (began time.Time, ok bool) {
	for line := range bytes.Lines(p.log.Bytes()) {
		var entry struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "processing" {
			return entry.Time, true
		}
	}
	return began, false
}

// storedAt is how toll_batch.stored_at reads, in UTC.
const storedAt = "2006-01-02 15:04:05.000000"

// committed returns when the first and the last batch were stored from a moment on.
func (w *world) committed(ctx context.Context, from time.Time) (first, last time.Time, err error) {
	var texts [2]sql.NullString
	err = w.db.QueryRowContext(ctx, `SELECT CAST(MIN(stored_at) AS CHAR), CAST(MAX(stored_at) AS CHAR)
		FROM toll_batch WHERE stored_at >= ?`, from.UTC().Format(storedAt)).Scan(&texts[0], &texts[1])
	if err != nil {
		return first, last, err
	}
	var times [2]time.Time
	for i, text := range texts {
		if !text.Valid {
			return first, last, errors.New("no batch was stored")
		}
		if times[i], err = time.Parse(storedAt, text.String); err != nil {
			return first, last, fmt.Errorf("read stored_at: %w", err)
		}
	}
	return times[0], times[1], nil
}

// rows returns how many rows livetolldata holds.
func (w *world) rows(ctx context.Context) (n int, err error) {
	err = w.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM livetolldata`).Scan(&n)
	return n, err
}
