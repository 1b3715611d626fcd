// Package emit sends events to the topic: simulated ones, or the lines of a file. What is
// acknowledged is in the topic exactly once.
package emit

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/emitter"
	"github.com/tollstream/tollstream/topology/kafka"
)

const (
	// startRate is how fast event time advances from Start where events are not paced.
	startRate = 10
	// minRateTime is how long a run must take for its events per second to mean anything.
	minRateTime = 10 * time.Millisecond
	// grace is how long an interrupted run waits for acknowledgements.
	grace = 5 * time.Second
)

// Config is what [Run] emits, and where to.
type Config struct {
	Cluster  kafka.Cluster
	Topic    string
	Location *time.Location // of event times
	Format   codecs.Format  // of the records; Auto is a file's own, and CSV for simulated events

	Count   int64   // ends after so many events; 0: no end
	Rate    float64 // events per second; 0: as fast as possible
	Verbose bool    // print a sentence for each event
	Observe func(*toll.Event)
	// Progress is kept up to date; nil for none.
	Progress *Progress

	// Simulated events.
	Plazas  []int16
	Seed    uint64
	Start   time.Time // zero: now
	Profile *Profile  // nil: evenly, by Rate

	// Lines of a file.
	From    string           // name; - for Stdin, "" for simulated events
	Mapping *mapping.Mapping // of the file; nil for the course's form, or its header row
	Raw     bool             // send lines that are no events, too
	SkipBad bool             // lines that were left out are no failure

	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// feed yields the events to emit.
type feed interface {
	// next returns one record, io.EOF at the end. It may wait until the record is due, and then calls
	// beforeWait.
	next(ctx context.Context, beforeWait func()) (item, error)
	// done returns the progress, in the unit of its length, and the length, 0 for unknown.
	done() (at, length int64)
}

// item is one record to emit. It is valid until the next one.
type item struct {
	event   *toll.Event // nil for a payload that is none
	payload []byte      // nil: encode the event in the emitter's format
	headers goka.Headers
}

// Run emits until ctx, the feed or Count ends.
func Run(ctx context.Context, cfg Config) (err error) {
	con := newConsole(cfg.Stderr)
	f, format, err := open(ctx, &cfg, con)
	if err != nil {
		return err
	}
	if c, ok := f.(io.Closer); ok {
		defer func() { err = cmp.Or(err, c.Close()) }()
	}
	e, err := emitter.New(ctx, emitter.Config{
		Cluster: cfg.Cluster, Topic: cfg.Topic, Format: format, Location: cfg.Location,
		OnAway: func(err error) {
			cfg.Progress.away(err)
			con.warn("waiting for Kafka: %v", err)
		},
		OnBack: func() {
			cfg.Progress.away(nil)
			con.warn("Kafka accepts events again")
		},
	})
	if err != nil {
		return err
	}
	cfg.Progress.connected(e)
	r := run{cfg: &cfg, feed: f, emitter: e, con: con, pace: newPacer(cfg.Rate),
		out: bufio.NewWriter(cfg.Stdout)}
	return r.run(ctx)
}

// open returns the feed, and the format in which the emitter is to write.
func open(ctx context.Context, cfg *Config, con *console) (feed, codecs.Format, error) {
	if cfg.From != "" {
		f, err := openFile(ctx, cfg, con)
		if err != nil {
			return nil, 0, err
		}
		return f, f.format(), nil
	}
	if cfg.Profile != nil {
		f, err := openProfile(cfg)
		return f, cfg.Format, err
	}
	clock := simulate.Live(func() time.Time { return time.Now().In(cfg.Location) })
	if !cfg.Start.IsZero() {
		rate := cfg.Rate
		if rate == 0 {
			rate = startRate
		}
		clock = simulate.Steady(cfg.Start, rate)
	}
	return &steadyFeed{generator: simulate.New(cfg.Plazas, cfg.Seed, clock), count: cfg.Count},
		cfg.Format, nil
}

// steadyFeed is the feed of simulated events at an even rate.
type steadyFeed struct {
	generator *simulate.Generator
	count, n  int64
	event     toll.Event
}

func (s *steadyFeed) next(context.Context, func()) (item, error) {
	s.generator.Next(&s.event)
	s.n++
	return item{event: &s.event}, nil
}

func (s *steadyFeed) done() (at, length int64) { return s.n, s.count }

// run is one run of emit.
type run struct {
	cfg     *Config
	feed    feed
	emitter *emitter.Emitter
	con     *console
	pace    *pacer
	started time.Time
	out     *bufio.Writer // sentences
}

func (r *run) run(ctx context.Context) error {
	started := time.Now()
	r.started = started
	err := r.emitAll(ctx)
	if err == nil {
		err = r.emitter.Flush(ctx)
	}
	interrupted := ctx.Err() != nil
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if closeErr := r.emitter.Close(closing); err == nil || interrupted {
		err = closeErr
	}
	if outErr := r.out.Flush(); err == nil && outErr != nil {
		err = fmt.Errorf("print: %w", outErr)
	}
	r.con.end()
	return r.report(time.Since(started), interrupted, err)
}

// emitAll emits until the feed or the count ends. It returns nil when ctx ends it.
func (r *run) emitAll(ctx context.Context) error {
	show := r.showProgress // once, as it is allocated
	for n := int64(0); r.cfg.Count == 0 || n < r.cfg.Count; n++ {
		if !r.pace.wait(ctx, n, show) {
			return nil
		}
		it, err := r.feed.next(ctx, show)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.emitOne(ctx, it)
		}
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if n%1024 == 0 {
			r.showStatus()
		}
	}
	return nil
}

// showProgress shows the progress before a pause.
func (r *run) showProgress() {
	_ = r.out.Flush() // a failure shows at the end
	r.showStatus()
}

// showStatus shows what was emitted so far, unless each event has a sentence.
func (r *run) showStatus() {
	if r.cfg.Verbose {
		return
	}
	r.con.progress(func() string {
		events, took := r.emitter.Stats().Acknowledged, time.Since(r.started)
		status := fmt.Sprintf("emit: %s", text.Count(events, "event"))
		if at, length := r.feed.done(); length > 0 {
			status = fmt.Sprintf("emit: %s of it, %s", text.Percent(at, length),
				text.Count(events, "event"))
		}
		if took >= minRateTime {
			status += fmt.Sprintf(" · %s events/s", text.Rate(events, took))
		}
		return status + " · " + took.Round(time.Second).String()
	})
}

func (r *run) emitOne(ctx context.Context, it item) error {
	e := it.event
	var err error
	switch {
	case e == nil:
		return r.emitter.EmitRaw(ctx, "", it.payload, it.headers)
	case it.payload != nil:
		err = r.emitter.EmitRaw(ctx, r.emitter.Key(e.Plaza), it.payload, it.headers)
	default:
		err = r.emitter.Emit(ctx, e)
	}
	if err == nil && r.cfg.Observe != nil {
		r.cfg.Observe(e)
	}
	if err == nil && r.cfg.Verbose {
		_, err = fmt.Fprintf(r.out, "%s %s %d passed plaza %d\n", e.Time.Format(time.TimeOnly),
			text.Escape(e.Type), e.Vehicle, e.Plaza)
	}
	return err
}

// report prints what was emitted, and decides how the run ends.
func (r *run) report(took time.Duration, interrupted bool, err error) error {
	stats := r.emitter.Stats()
	if stats.Acknowledged > 0 || err == nil {
		line := fmt.Sprintf("emitted %s in %s", text.Count(stats.Acknowledged, "event"),
			text.Seconds(took))
		if took >= minRateTime {
			line += fmt.Sprintf(", %s events/s", text.Rate(stats.Acknowledged, took))
		}
		r.con.print("%s", line)
	}
	open := stats.Emitted - stats.Acknowledged - stats.Failed
	file, isFile := r.feed.(*fileFeed)
	switch {
	case open > 0:
		return toll.Permanent("each of them may or may not be in the topic",
			"%s not acknowledged within %v", text.Count(open, "event"), grace)
	case stats.Failed > 0:
		return fmt.Errorf("%s not sent: %w", text.Count(stats.Failed, "event"), err)
	case err != nil:
		return err
	case interrupted && (isFile || r.cfg.Count > 0 || r.cfg.Profile.ends()):
		return errors.New("interrupted before the end")
	}
	if !isFile {
		return nil
	}
	if r.cfg.Raw && file.bad > 0 {
		r.con.print("of them %s, sent as they are", badLines(file.bad))
	}
	left := file.leftOut()
	if left != nil && r.cfg.SkipBad {
		r.con.print("%v", left)
		return nil
	}
	return left
}

// badLines counts lines that are no events.
func badLines(n int64) string {
	if n == 1 {
		return "1 line that is no event"
	}
	return text.Count(n, "line") + " that are no events"
}

// console is stderr of a command that prints lines while a status line shows its progress. Several
// goroutines may use it, all but progress.
type console struct {
	line  *text.StatusLine
	shown time.Time // when the progress was shown last
}

func newConsole(w io.Writer) *console { return &console{line: text.NewStatusLine(w)} }

// warn prints a line about something that is wrong.
func (c *console) warn(format string, args ...any) { c.print("tollstream: "+format, args...) }

// print prints a line.
func (c *console) print(format string, args ...any) {
	fmt.Fprintf(c.line, "%s\n", text.OneLine(fmt.Sprintf(format, args...)))
}

// progressEvery is how often the progress is shown.
const progressEvery = 200 * time.Millisecond

// progress shows the progress of a run on a terminal now and then.
func (c *console) progress(describe func() string) {
	if !c.line.Shown() || time.Since(c.shown) < progressEvery {
		return
	}
	c.shown = time.Now()
	c.line.Set(describe())
}

// end clears the progress.
func (c *console) end() { c.line.Set("") }

// pacer spreads events over time: evenly, or each at a moment of its own.
type pacer struct {
	rate    float64       // a second; 0 doesn't wait
	catchUp time.Duration // how far it may be behind
	began   time.Time     // when event 0 was due
	now     func() time.Time
	sleep   func(context.Context, time.Duration) bool // false: ctx ended
	timer   *time.Timer
}

// maxCatchUp is how far a pacer falls behind before it stops catching up: after an outage the
// stream continues at its rate and not with a burst.
const maxCatchUp = time.Second

func newPacer(rate float64) *pacer {
	p := &pacer{rate: rate, catchUp: maxCatchUp, now: time.Now}
	p.sleep = p.sleepByTimer
	return p
}

// wait waits until event n is due and reports whether to go on. It calls beforeWait if it takes a
// while.
func (p *pacer) wait(ctx context.Context, n int64, beforeWait func()) bool {
	if p.rate == 0 {
		const checkEvery = 64 // ctx.Err costs a lock
		return n%checkEvery != 0 || ctx.Err() == nil
	}
	return p.waitUntil(ctx, p.offset(n), beforeWait)
}

// waitUntil is wait for an event that is due an offset after the first.
func (p *pacer) waitUntil(ctx context.Context, offset time.Duration, beforeWait func()) bool {
	now := p.now()
	if p.began.IsZero() {
		p.began = now
	}
	wait := p.began.Add(offset).Sub(now)
	if wait <= 0 {
		if -wait > p.catchUp {
			p.began = p.began.Add(-wait)
		}
		return ctx.Err() == nil
	}
	beforeWait()
	return p.sleep(ctx, wait)
}

func (p *pacer) sleepByTimer(ctx context.Context, wait time.Duration) bool {
	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	select {
	case <-p.timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// offset is how long after event 0 event n is due.
func (p *pacer) offset(n int64) time.Duration {
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}

// Progress is what other goroutines may know of a run: what it has sent, and what it waits for. A
// nil Progress is of no use to anyone, and does no harm.
type Progress struct {
	emitter atomic.Pointer[emitter.Emitter] // nil until Kafka has answered
	outage  atomic.Pointer[error]           // nil for none
}

func (p *Progress) connected(e *emitter.Emitter) {
	if p != nil {
		p.emitter.Store(e)
	}
}

// away notes an outage of Kafka, and with nil its end.
func (p *Progress) away(err error) {
	switch {
	case p == nil:
	case err == nil:
		p.outage.Store(nil)
	default:
		p.outage.Store(&err)
	}
}

// waits returns an error while the run waits for Kafka.
func (p *Progress) waits() error {
	if err := p.outage.Load(); err != nil {
		return fmt.Errorf("no answer from Kafka: %w", *err)
	}
	if p.emitter.Load() == nil {
		return errors.New("no answer from Kafka yet")
	}
	return nil
}

// Status returns a func that describes what was sent, at the rate since the last call, or what the
// run waits for.
func (p *Progress) Status(topic string, start time.Time) func(now time.Time) string {
	before, at := int64(0), start
	return func(now time.Time) string {
		sent := int64(0)
		if e := p.emitter.Load(); e != nil {
			sent = e.Stats().Acknowledged
		}
		rate := text.Rate(sent-before, now.Sub(at))
		before, at = sent, now
		if err := p.waits(); err != nil {
			return fmt.Sprintf("waiting: %v · %s sent", err, text.Number(sent))
		}
		return fmt.Sprintf("%s events/s · %s sent to topic %s", rate, text.Number(sent), topic)
	}
}
