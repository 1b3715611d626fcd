package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/devstack"
)

// soakFor returns for how long to soak, and skips the test where TOLLSTREAM_SOAK does not say it.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TOLLSTREAM_SOAK")
	if text == "" {
		t.Skip("TOLLSTREAM_SOAK is not set")
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute {
		t.Fatalf("TOLLSTREAM_SOAK is %q, want a duration of a minute or more, such as 20m", text)
	}
	if _, ok := statusOf(os.Getpid(), "VmRSS"); !ok {
		t.Skip("there is no /proc here to read the memory of processes from")
	}
	return d
}

// soakLevels is from which duration on figures have to level off. Below it there is little but the
// start.
const soakLevels = 10 * time.Minute

// soak is a run of everything for a long time, with a fault now and then.
type soak struct {
	*world
	l     *load
	kafka *devstack.Kafka
	proxy *proxy
	dsn   string // the database by the proxy
	rand  *rand.Rand

	one, two *process // one lives through the run
	view     *process
	faults   int // that may have made a process say something
	// a minute: rows from before it were deleted, some of them before others came
	pruneLimit int64
	pruned     int64         // rows
	done       []*soakAction // in the order of soakActions
}

// soakAction is something that happens now and then.
type soakAction struct {
	name  string
	run   func(s *soak)
	times int
	// the longest that a partition had events and none was stored, until the next action
	pause time.Duration
}

func soakActions() []*soakAction {
	return []*soakAction{
		{name: "a third process joins, and leaves", run: (*soak).joinAndLeave},
		{name: "a process is restarted", run: (*soak).restart},
		{name: "a process is killed", run: (*soak).kill},
		{name: "database is restarted", run: (*soak).restartDatabase},
		{name: "database is killed", run: (*soak).killDatabase},
		{name: "connections to the database are cut", run: func(s *soak) { s.proxy.cutAll() }},
		{name: "the broker is restarted", run: (*soak).restartBroker},
		{name: "the broker is killed", run: (*soak).killBroker},
		{name: "20,000 events at once", run: func(s *soak) { s.l.burst(20_000) }},
		{name: "no events", run: (*soak).lull},
		{name: "dead letters", run: (*soak).reject},
		{name: "verify", run: func(s *soak) { s.check() }},
		{name: "verify --deep", run: func(s *soak) { s.check("--deep") }},
		{name: "prune", run: (*soak).prune},
	}
}

// TestSoak runs two or three processes, a view and its clients under a steady load for as long as
// TOLLSTREAM_SOAK says, while members come and go and servers break, in an order that
// TOLLSTREAM_SOAK_SEED repeats. What the processes and tables take has to level off, and in the end
// all is exact. TOLLSTREAM_SOAK_REPORT names a file for the table.
func TestSoak(t *testing.T) {
	run := soakFor(t)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TOLLSTREAM_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TOLLSTREAM_SOAK_SEED: %v", err)
		}
	}
	t.Logf("TOLLSTREAM_SOAK_SEED=%d", seed)
	s := newSoak(t, seed)
	clients := s.startClients()
	sampler, stopSampling := s.startSampling(
		watched{"process", s.one, s.metricsOf(s.one).url + "metrics", filepath.Join(s.state, "one")},
		watched{"view", s.view, s.metricsOf(s.view).url + "metrics", ""})
	s.act(sampler.began.Add(run))
	stopSampling()
	clients.end()
	took := time.Since(sampler.began)

	figures, beyond := sampler.table(took)
	summary := fmt.Sprintf("%s events in %v, %s a second; seed %d\n"+
		"boards that clients of the view got: %s live, %s asked for; %s requests failed while servers "+
		"were down\n%d samples of the database failed for the same reason\n\n%s\n\n%s",
		comma(s.l.truth.total()), took.Round(time.Second),
		comma(int(float64(s.l.truth.total())/took.Seconds())), seed,
		comma(int(clients.boards.Load())), comma(int(clients.answers.Load())),
		comma(int(clients.failures.Load())), sampler.failed, s.actions(), figures)
	t.Log("\n" + summary)
	if path := os.Getenv("TOLLSTREAM_SOAK_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(summary+"\n"), 0o644); err != nil {
			t.Errorf("write the report: %v", err)
		}
	}
	if run >= soakLevels {
		for _, b := range beyond {
			t.Errorf("it does not level off: %s", b)
		}
		if sampler.last(batchesAddedUp) == 0 && run >= 2*soakLevels {
			t.Error("no batch was rolled up")
		}
	}
	if clients.boards.Load() == 0 || clients.answers.Load() == 0 {
		t.Error("the clients of the view got nothing")
	}
	for _, p := range []*process{s.one, s.view} {
		if !p.running() {
			t.Fatalf("it should have lived through the run:\n%s", p.log)
		}
		s.brief(p)
	}
	s.finish()
}

func comma(n int) string { return humanize.Comma(int64(n)) }

// newSoak starts what lives through the run, and the load.
func newSoak(t *testing.T, seed uint64) *soak {
	k := ownKafka(t)
	s := &soak{world: newWorldOn(t, k.Addr(), engine), kafka: k, rand: rand.New(rand.NewPCG(seed, 1)),
		done: soakActions()}
	s.proxy = startProxy(t, s.db.Addr(), mysqlFrames)
	cfg, err := mysql.ParseDSN(s.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = s.proxy.addr()
	s.dsn = cfg.FormatDSN()
	s.must("init", "--partitions", strconv.Itoa(soakPartitions))
	s.l = s.startLoad(&truth{sums: sums{}})
	s.one, s.two = s.member("one"), s.member("two")
	s.view = s.started("view", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
	s.l.caughtUp("the start", caughtUpWithin, s.one, s.two)
	s.l.forgetPauses()
	return s
}

// started starts a command that reaches the database by the proxy.
func (s *soak) started(args ...string) *process {
	s.t.Helper()
	p := s.start(append(args, "--mysql", s.dsn)...)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			log := p.log.String()
			s.t.Logf("the last of what %s said:\n%s", strings.Join(args, " "), log[max(0, len(log)-2000):])
		}
	})
	return p
}

// member starts a process as an operator does, who keeps as little as the settings allow.
func (s *soak) member(instance string) *process {
	s.t.Helper()
	return s.started("process", "--instance", instance, "--keep-batches", "10m", "--metrics-listen",
		"127.0.0.1:0")
}

// act does all that can happen again and again, each time in another order, until a time.
func (s *soak) act(until time.Time) {
	for {
		for _, n := range s.rand.Perm(len(s.done)) {
			a := s.done[n]
			s.l.forgetPauses()
			a.run(s)
			a.times++
			rest := time.Duration(4+s.rand.IntN(8)) * time.Second
			time.Sleep(min(rest, max(0, time.Until(until))))
			s.l.caughtUp("after: "+a.name, caughtUpWithin, s.one, s.two)
			a.pause = max(a.pause, s.l.pause())
			if !s.view.running() {
				s.t.Fatalf("after: %s: view ended by itself:\n%s", a.name, s.view.log)
			}
			if time.Now().After(until) {
				return
			}
		}
	}
}

// actions returns a table of what happened.
func (s *soak) actions() string {
	tw := newTable("what happened", "times", "longest pause")
	for _, a := range s.done {
		tw.AppendRow([]any{a.name, a.times, fmt.Sprintf("%.1f s", a.pause.Seconds())})
	}
	return tw.Render()
}

func (s *soak) joinAndLeave() {
	third := s.member("three")
	s.eventually("the third process to have partitions", caughtUpWithin, func() bool {
		if !third.running() {
			s.t.Fatalf("the third process ended by itself:\n%s", third.log)
		}
		return strings.Contains(third.log.String(), "processing partitions=")
	})
	time.Sleep(time.Duration(s.rand.IntN(5000)) * time.Millisecond)
	s.l.caughtUp("with a third process", caughtUpWithin, s.one, s.two, third)
	s.end(third)
	s.faults++
}

// end interrupts a process, which must end well.
func (s *soak) end(p *process) {
	s.t.Helper()
	if _, code := p.interrupt(); code != 0 {
		s.t.Errorf("exit status %d after an interrupt:\n%s", code, p.log)
	}
	s.brief(p)
}

func (s *soak) restart() {
	s.end(s.two)
	s.two = s.member("two")
	s.faults++
}

func (s *soak) kill() {
	s.two.kill()
	s.brief(s.two)
	s.two = s.member("two")
	s.faults++
}

func (s *soak) restartDatabase() {
	if err := s.db.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.faults++
}

func (s *soak) killDatabase() {
	if err := s.db.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.restartDatabase()
}

func (s *soak) restartBroker() {
	if err := s.kafka.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.faults++
}

func (s *soak) killBroker() {
	if err := s.kafka.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.restartBroker()
}

// lull lets no events come for some seconds.
func (s *soak) lull() {
	s.l.lull.Store(true)
	time.Sleep(time.Duration(2+s.rand.IntN(8)) * time.Second)
	s.l.lull.Store(false)
}

// reject sends what can't be a row.
func (s *soak) reject() {
	s.l.s.sendRaw([]byte("rubbish"), nil,
		[]byte("Thu Feb 10 10:23:02 2022,1,a much too long type of vehicle,4000"),
		[]byte("Thu Feb 10 10:23:02 2022,x,car,4000"))
}

// check verifies while all goes on.
func (s *soak) check(args ...string) {
	s.t.Helper()
	if v := s.verify(args...); v.Status == "mismatch" {
		s.t.Fatalf("verify %v: %+v", args, v)
	}
}

// prune deletes the rows from before the day before the newest events.
func (s *soak) prune() {
	s.l.mu.Lock()
	day := s.l.s.clock.Add(-24 * time.Hour).Truncate(24 * time.Hour)
	s.l.mu.Unlock()
	var report struct{ Pruned int64 }
	out := s.must("prune", "--before", day.Format(time.DateOnly), "--yes", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		s.t.Fatalf("prune: %v\n%s", err, out)
	}
	s.pruneLimit, s.pruned = day.Unix()/60, s.pruned+report.Pruned
}

// brief checks that a process says what is wrong in few lines, without a stack, and that it never
// took the group table for empty.
func (s *soak) brief(p *process) {
	s.t.Helper()
	log := p.log.String()
	if strings.Contains(log, "goroutine ") || strings.Contains(log, ".go:") ||
		strings.Contains(log, "panic") {
		s.t.Errorf("a process prints a stack:\n%s", log)
	}
	if line := regexp.MustCompile(`reconcile: .* again from offset 0\n`).FindString(log); line != "" {
		s.t.Errorf("a process found nothing of a plaza in the group table: %s", line)
	}
	if n := strings.Count(log, "\n"); n > 10+linesPerRound*max(1, s.faults) {
		s.t.Errorf("a process prints %d lines in %d faults:\n%s", n, s.faults,
			log[:min(len(log), 20_000)])
	}
}

// finish ends the load, lets all be stored and merged, and checks that it is exact.
func (s *soak) finish() {
	t := s.t
	s.l.end()
	for _, p := range []*process{s.one, s.two, s.view} {
		s.end(p)
	}
	s.must("process", "--until-end")
	if v := s.verify("--deep"); v.Status != "exact" {
		t.Fatalf("verify --deep: %+v", v)
	}
	truth := s.l.truth
	truth.mu.Lock()
	defer truth.mu.Unlock()
	first := func(lines []string) string { return strings.Join(lines[:min(10, len(lines))], "\n") }
	if lost, doubled, wrong := truth.sums.compare(s.world, s.pruneLimit, s.pruned); len(wrong) > 0 {
		t.Errorf("%d rows lost, %d doubled; sums that differ: %d\n%s", lost, doubled, len(wrong),
			first(wrong))
	}
	if got := s.count(`SELECT COUNT(*) FROM toll_dead_letter`); got != int64(truth.rejects) {
		t.Errorf("%d dead letters, want %d", got, truth.rejects)
	}
	// Windows of minutes are kept for 40 days of event time.
	windows := s.windows()
	if wrong := truth.sums.compareWindows(windows,
		s.l.s.clock.Add(-30*24*time.Hour).Unix()/60); len(wrong) > 0 {
		t.Errorf("%d windows are wrong\n%s", len(wrong), first(wrong))
	}
	t.Logf("exact: %s events, %s windows, %s rows pruned, %s dead letters", comma(truth.events()),
		comma(len(windows)), comma(int(s.pruned)), comma(truth.rejects))
}

// viewClients are clients of a view: one whose board stays live, and one that asks again and again.
type viewClients struct {
	url     string
	client  *http.Client
	boards  atomic.Int64 // live ones, and what changed of them
	answers atomic.Int64
	// failures are requests that failed, or were answered with an error: servers are down now and
	// then.
	failures atomic.Int64

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var viewURL = regexp.MustCompile(`view at (http\S+/)`)

func (s *soak) startClients() *viewClients {
	c := &viewClients{client: &http.Client{Transport: &http.Transport{}}}
	s.eventually("address of the view", caughtUpWithin, func() bool {
		found := viewURL.FindStringSubmatch(s.view.log.String())
		if found != nil {
			c.url = found[1]
		}
		return found != nil
	})
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	for _, do := range []func(context.Context) error{c.follow, c.ask} {
		c.wg.Go(func() {
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
				if err := do(ctx); err != nil && ctx.Err() == nil {
					c.failures.Add(1)
				}
			}
		})
	}
	s.t.Cleanup(c.end)
	return c
}

func (c *viewClients) end() {
	c.cancel()
	c.wg.Wait()
	c.client.CloseIdleConnections()
}

func (c *viewClients) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.client.Do(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return answer, err
}

// follow reads server-sent events for half a minute, as a page does that is then closed.
func (c *viewClients) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := c.get(ctx, "api/v1/events")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "event: board") {
			c.boards.Add(1)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil // the half minute is over
			}
			return err
		}
	}
}

func (c *viewClients) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, path := range []string{"api/v1/plazas", "api/v1/plazas/4005", "api/v1/plazas/4005/windows",
		"api/v1/verification"} {
		answer, err := c.get(ctx, path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			return err
		}
		c.answers.Add(1)
	}
	return nil
}
