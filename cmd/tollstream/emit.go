package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lovoo/goka"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

const (
	defaultRate   = 10
	defaultPlazas = "4000-4010,4856"
	// startRate is how fast event time advances from --start where events are not paced.
	startRate = 10
	// worthARate is how long a run must take for its events per second to mean anything.
	worthARate = 10 * time.Millisecond
	// emitGrace is how long an interrupted emit waits for what is on its way.
	emitGrace = 5 * time.Second
)

func (a *app) emitCommand() *cli.Command {
	return &cli.Command{
		Name:  "emit",
		Usage: "sends simulated events, or those of a file",
		Description: `Sends events of vehicles that pass toll plazas to the topic, keyed by plaza, until it is interrupted or
			--count is reached. What is acknowledged is in the topic exactly once; while Kafka is away emit waits.

			With --from it sends the lines of a CSV or NDJSON file, plain or gzipped, and keeps their times. CSV fields may be
			quoted as in RFC 4180. Lines that are no events are reported and left out, which makes the exit status 1, or 0
			with --skip-bad; --raw sends them too, as they are. Lines of more than 4 MiB are always left out.
			` + profileDescription,
		UsageText: `tollstream emit
			tollstream emit --count 100000 --rate 0
			tollstream emit --plazas 4856 --rate 2 --verbose
			tollstream emit --seed 1 --start "2022-02-10 10:23:02" --count 1000
			tollstream emit --from tolldata.csv.gz
			tollstream emit --profile day
			tollstream emit --profile day --speed 60x --days 1 --start 2026-03-02
			tollstream emit --profile day --speed 60x --incident 4007,+7h30m,20m,blockage --labels labels.ndjson`,
		Flags: slices.Concat([]cli.Flag{
			&cli.Int64Flag{Name: "count", Usage: "stop after `N` events"},
			&cli.Float64Flag{Name: "rate", EnvVars: env("rate"), Value: defaultRate,
				Usage: "events per second; 0 is as fast as it goes, which is the default for files"},
			&cli.StringFlag{Name: "plazas", EnvVars: env("plazas"), Value: defaultPlazas,
				Usage: "simulated plazas, a `LIST` of numbers and ranges"},
			&cli.StringFlag{Name: "format", EnvVars: env("format"),
				Usage: "`FORMAT` of the records: csv, json or protobuf; simulated events are csv by default, files stay as they are"},
			&cli.Uint64Flag{Name: "seed",
				Usage: "the same `N`, --start, --rate and --count make the same events; with --profile, the same plazas, --peak and --incident"},
			&cli.StringFlag{Name: "start",
				Usage: "`TIME` of the first simulated event, as 2022-02-10 10:23:02 or RFC 3339; it advances by 1/rate each, 0.1 s with --rate 0. Without it events happen now"},
			&cli.StringFlag{Name: "from", Usage: "send the lines of `FILE`, - for standard input"},
			&cli.BoolFlag{Name: "raw", Usage: "with --from: send bad lines too, without a key"},
			&cli.BoolFlag{Name: "skip-bad", Usage: "with --from: exit with 0 although lines were left out"},
			&cli.BoolFlag{Name: "verbose", Usage: "print a sentence for each vehicle"},
		}, profileFlags(), connectionFlags()),
		Action: func(c *cli.Context) error {
			s, err := emitSettingsFrom(c)
			if err != nil {
				return err
			}
			return a.emit(c.Context, s)
		},
	}
}

// emitSettings is what an emit command line asks for.
type emitSettings struct {
	connection
	count   int64 // 0: no end
	rate    float64
	plazas  []int16
	seed    uint64
	start   time.Time // zero: now
	format  codecs.Format
	from    string
	raw     bool
	skipBad bool
	verbose bool
	profile *profileSettings // nil: without
}

func emitSettingsFrom(c *cli.Context) (*emitSettings, error) {
	con, err := connectionFrom(c)
	if err != nil {
		return nil, err
	}
	s := &emitSettings{
		connection: con,
		count:      c.Int64("count"), rate: c.Float64("rate"), seed: c.Uint64("seed"),
		from: c.String("from"), raw: c.Bool("raw"), skipBad: c.Bool("skip-bad"),
		verbose: c.Bool("verbose"),
	}
	if given(c, "count") && s.count < 1 {
		return nil, hint.Usagef("--count: %d is not above 0", s.count)
	}
	if s.rate < 0 || math.IsNaN(s.rate) || math.IsInf(s.rate, 0) {
		return nil, hint.Usagef("--rate: %v is not a rate of 0 or more", s.rate)
	}
	if s.plazas, err = parsePlazas(setting(c, "plazas", defaultPlazas)); err != nil {
		return nil, err
	}
	if s.format, err = codecs.ParseFormat(setting(c, "format", "")); err != nil {
		return nil, hint.Usagef("--format: %v", err)
	}
	if !given(c, "seed") {
		s.seed = rand.Uint64()
	}
	if text := c.String("start"); text != "" {
		if s.start, err = parseStart(text, con.location); err != nil {
			return nil, err
		}
	}
	if s.from == "" {
		if s.raw {
			return nil, hint.Usagef("--raw is for --from")
		}
		if s.skipBad {
			return nil, hint.Usagef("--skip-bad is for --from")
		}
		return s, s.addProfile(c, time.Now)
	}
	for _, name := range []string{"plazas", "seed", "start", "profile"} {
		if given(c, name) {
			return nil, hint.Usagef("--%s is for simulated events, not for --from", name)
		}
	}
	if !given(c, "rate") {
		s.rate = 0
	}
	return s, refuseProfileFlags(c)
}

func parseStart(text string, location *time.Location) (time.Time, error) {
	t, err := parseTime(text, location)
	if err != nil {
		return t, hint.Usagef("--start: %v", err)
	}
	return t, nil
}

// parseTime reads a time of event time.
func parseTime(text string, location *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05",
		"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		t, err := time.ParseInLocation(layout, text, location)
		if err != nil {
			continue
		}
		t = t.In(location)
		if !toll.WallTimeOf(t).Valid() {
			return t, fmt.Errorf("%q is outside the years 1000 to 9999", text)
		}
		return t, nil
	}
	return time.Time{},
		fmt.Errorf("%q is not a time such as 2022-02-10 10:23:02 or 2022-02-10T10:23:02+01:00", text)
}

// feed gives the events to emit.
type feed interface {
	// next gives one record: an event, or where it is to be sent as it is, a payload. It is io.EOF at
	// the end.
	next() (feedItem, error)
	// done returns how far it is, in the unit of its length, and the length, 0 for unknown.
	done() (at, length int64)
}

// feedItem is one record to emit. It is valid until the next one.
type feedItem struct {
	event   *toll.Event // nil for a payload that is none
	payload []byte      // nil: write the event in the format asked for
	headers goka.Headers
}

func (a *app) emit(ctx context.Context, s *emitSettings) error {
	con := newConsole(a.stderr)
	f, format, err := a.openFeed(ctx, s, con)
	if err != nil {
		return err
	}
	if c, ok := f.(io.Closer); ok {
		defer c.Close()
	}
	e, err := topology.NewEmitter(ctx, topology.EmitterConfig{
		Cluster: s.cluster, Topic: s.topic, Format: format, Location: s.location,
		OnAway: func(err error) { con.warn("waiting for Kafka: %v", err) },
		OnBack: func() { con.warn("Kafka takes events again") },
	})
	if err != nil {
		return err
	}
	run := emitRun{s: s, feed: f, emitter: e, con: con, pace: newPacer(s.rate),
		out: bufio.NewWriter(a.stdout)}
	switch f := f.(type) {
	case *fileFeed:
		f.counted.before = run.beforeSleep
	case *profileFeed:
		f.beforeSleep = run.beforeSleep
	}
	return run.run(ctx)
}

// openFeed returns what to emit, and the format in which the emitter is to write.
func (a *app) openFeed(ctx context.Context, s *emitSettings, con *console) (feed, codecs.Format,
	error) {
	if s.from != "" {
		f, err := openFile(ctx, s, a.stdin, con)
		if err != nil {
			return nil, 0, err
		}
		return f, f.format(), nil
	}
	if s.profile != nil {
		f, err := openProfile(ctx, s)
		return f, s.format, err
	}
	clock := simulate.Live(func() time.Time { return time.Now().In(s.location) })
	if !s.start.IsZero() {
		rate := s.rate
		if rate == 0 {
			rate = startRate
		}
		clock = simulate.Steady(s.start, rate)
	}
	return &simulated{generator: simulate.New(s.plazas, s.seed, clock), count: s.count}, s.format, nil
}

// simulated is the feed of made up events.
type simulated struct {
	generator *simulate.Generator
	count, n  int64
	event     toll.Event
}

func (s *simulated) next() (feedItem, error) {
	s.generator.Next(&s.event)
	s.n++
	return feedItem{event: &s.event}, nil
}

func (s *simulated) done() (at, length int64) { return s.n, s.count }

// emitRun is one run of emit.
type emitRun struct {
	s       *emitSettings
	feed    feed
	emitter *topology.Emitter
	con     *console
	pace    *pacer
	out     *bufio.Writer // sentences
}

func (r *emitRun) run(ctx context.Context) error {
	started := time.Now()
	if at, length := r.feed.done(); length > 0 && !r.s.verbose {
		r.con.startBar(length)
		r.con.moveBar(at)
	}
	err := r.emitAll(ctx)
	if err == nil {
		err = r.emitter.Flush(ctx)
	}
	interrupted := ctx.Err() != nil
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), emitGrace)
	defer cancel()
	if closeErr := r.emitter.Close(grace); err == nil || interrupted {
		err = closeErr
	}
	if outErr := r.out.Flush(); err == nil && outErr != nil {
		err = fmt.Errorf("print: %w", outErr)
	}
	r.con.stopBar()
	return r.report(time.Since(started), interrupted, err)
}

// emitAll emits until the feed or the count ends. It returns nil when ctx ends it.
func (r *emitRun) emitAll(ctx context.Context) error {
	for n := int64(0); r.s.count == 0 || n < r.s.count; n++ {
		if !r.pace.wait(ctx, n, r.beforeSleep) {
			return nil
		}
		item, err := r.feed.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.emitOne(ctx, item)
		}
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if n%1024 == 0 {
			at, _ := r.feed.done()
			r.con.moveBar(at)
		}
	}
	return nil
}

// beforeSleep shows what is done so far, since a pause follows.
func (r *emitRun) beforeSleep() {
	_ = r.out.Flush() // a failure shows at the end
	at, _ := r.feed.done()
	r.con.moveBar(at)
}

func (r *emitRun) emitOne(ctx context.Context, item feedItem) error {
	var err error
	switch {
	case item.event == nil:
		return r.emitter.EmitRaw(ctx, "", item.payload, item.headers)
	case item.payload != nil:
		err = r.emitter.EmitRaw(ctx, r.emitter.Key(item.event.Plaza), item.payload, item.headers)
	default:
		err = r.emitter.Emit(ctx, item.event)
	}
	if err == nil && r.s.verbose {
		e := item.event
		_, err = fmt.Fprintf(r.out, "%s %s %d passed plaza %d\n", e.Time.Format(time.TimeOnly),
			text.Escape(e.Type), e.Vehicle, e.Plaza)
	}
	return err
}

// report says what came of it, and decides how the command ends.
func (r *emitRun) report(took time.Duration, interrupted bool, err error) error {
	stats := r.emitter.Stats()
	if stats.Acknowledged > 0 || err == nil {
		said := fmt.Sprintf("emitted %s in %s", text.Count(stats.Acknowledged, "event"),
			text.Seconds(took))
		if took >= worthARate {
			said += fmt.Sprintf(", %s events/s", text.Rate(stats.Acknowledged, took))
		}
		r.con.say("%s", said)
	}
	open := stats.Emitted - stats.Acknowledged - stats.Failed
	file, isFile := r.feed.(*fileFeed)
	switch {
	case open > 0:
		return hint.With(fmt.Errorf("%s not acknowledged within %v", text.Count(open, "event"),
			emitGrace),
			"each of them may or may not be in the topic")
	case stats.Failed > 0:
		return fmt.Errorf("%s not sent: %w", text.Count(stats.Failed, "event"), err)
	case err != nil:
		return err
	case interrupted && (isFile || r.s.count > 0 || r.s.profile.ends()):
		return errors.New("interrupted before the end")
	}
	if !isFile {
		return nil
	}
	if r.s.raw && file.bad > 0 {
		r.con.say("of them %s that %s, sent as they are", text.Count(file.bad, "line"), isOrAre(file.bad))
	}
	left := file.leftOut()
	if left != nil && r.s.skipBad {
		r.con.say("%v", left)
		return nil
	}
	return left
}

func isOrAre(n int64) string {
	if n == 1 {
		return "is no event"
	}
	return "are no events"
}
