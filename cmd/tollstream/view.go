package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
)

func (a *app) viewCommand() *cli.Command {
	return &cli.Command{
		Name:  "view",
		Usage: "shows the congestion at each plaza, with the verification",
		Description: `Without --plaza it lists all plazas, the busiest first, and how they stand: saturated, busy, free, below
			usual. With it, one plaza: its congestion with since when and why, vehicles by type, in the last minute, quarter of an
			hour and hour of event time, minute by minute, the windows that closed last, and how many vehicles came late. The
			counts come from the group table, windows and congestion from the tables toll_window and toll_congestion; beside
			them stands what the rows in livetolldata say.

			Event time is that of the events themselves. The stream's time is the median of the plazas' latest minutes, so a few
			wrong clocks don't move it. A window is final once the watermark has passed its end. One plaza is shown by its own
			clock, where the plazas file names its timezone.

			A count of rows that takes longer than 3 s is cut off; the optional indexes in sql/indexes.sql make it fast.

			On a terminal, --watch fills the screen with a table that stays live: the keys ↑ ↓ and Enter open a plaza, a letter sorts, /
			filters, Space stands still, ? explains all of it, q quits. What needs someone to look comes first, unless --sort says
			otherwise. With --plain, and where there is no terminal, it prints what it would print once, every second.

			With --listen it serves all of that as a page that stays live, until interrupted: with an API for JSON and CSV at
			/api/v1, metrics for Prometheus at /metrics, and /healthz and /readyz. Only this machine reaches 127.0.0.1. At
			another address everyone does who reaches the machine, so it needs --token-file, or --allow-anyone. With
			--metrics-listen the metrics and probes have an address of their own too. The log and metrics settings are for --listen
			alone.`,
		UsageText: "tollstream view\ntollstream view --sort vc --top 10\ntollstream view --plaza 4856\ntollstream view --watch\ntollstream view --plaza 4856 --watch\ntollstream view --json\ntollstream view --listen 127.0.0.1:8080",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "plaza", Usage: "this plaza alone"},
			&cli.StringFlag{Name: "sort", Value: sortTotal,
				Usage: "`ORDER` of the plazas, the highest first: total, flow, vc (demand by capacity) or deviation (from what is usual, either way)"},
			&cli.IntFlag{Name: "top", Usage: "the first `K` plazas alone"},
			&cli.BoolFlag{Name: "watch",
				Usage: "go on until quit: on a terminal as a full screen with keys, elsewhere as lines every second"},
			&cli.BoolFlag{Name: "plain", Usage: "with --watch, print lines on a terminal too"},
			&cli.BoolFlag{Name: "deep",
				Usage: "compare the checksums of the rows too, however long that takes"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON; with --watch one line a second"},
		}, slices.Concat(listenFlags(), viewMetricsFlags(), endpoint.Flags(), command.LogFlags())...),
		Action: func(c *cli.Context) error {
			s, err := viewSettingsFrom(c)
			if err != nil {
				return err
			}
			listen, metrics, err := listenConfigFrom(c)
			if err != nil {
				return err
			}
			if listen != nil {
				return a.viewListen(c, *listen, metrics)
			}
			if s.watch && a.fullScreen(s) {
				return a.watchScreen(c, s)
			}
			r, err := a.readerFrom(c)
			if err != nil {
				return err
			}
			defer r.Close()
			v := newViewer(r, s)
			defer v.Close()
			if s.watch {
				return a.watch(c.Context, v)
			}
			return a.view(c.Context, v)
		},
	}
}

// Orders of the plazas.
const (
	sortTotal     = "total"
	sortFlow      = "flow"
	sortVC        = "vc"
	sortDeviation = "deviation"
)

type viewSettings struct {
	plaza             *int16 // nil for all
	sort              string // of all plazas: sortTotal …
	sorted            bool   // whether sort was asked for
	top               int    // how many of them, 0 for all
	watch, deep, json bool
	plain             bool // lines, and no full screen
}

func viewSettingsFrom(c *cli.Context) (viewSettings, error) {
	s := viewSettings{
		sort: c.String("sort"), sorted: c.IsSet("sort"), top: c.Int("top"), watch: c.Bool("watch"),
		deep: c.Bool("deep"), json: c.Bool("json"),
		plain: c.Bool("plain"),
	}
	if s.plain && !s.watch {
		return s, hint.Usagef("--plain is for --watch")
	}
	switch s.sort {
	case sortTotal, sortFlow, sortVC, sortDeviation:
	default:
		return s, hint.Usagef("--sort: %q is not one of total, flow, vc, deviation", s.sort)
	}
	if c.IsSet("top") && s.top < 1 {
		return s, hint.Usagef("--top: %d is not above 0", s.top)
	}
	if !c.IsSet("plaza") {
		return s, nil
	}
	for _, name := range []string{"sort", "top"} {
		if c.IsSet(name) {
			return s, hint.Usagef("--%s is for all plazas, not for one", name)
		}
	}
	n := c.Int("plaza")
	if n < toll.MinPlaza || n > toll.MaxPlaza {
		return s, hint.Usagef("--plaza: %d is not between %d and %d", n, toll.MinPlaza, toll.MaxPlaza)
	}
	plaza := int16(n)
	s.plaza = &plaza
	return s, nil
}

// view prints what there is once.
func (a *app) view(ctx context.Context, v *viewer) error {
	b, err := v.read(ctx)
	if err != nil {
		return err
	}
	if v.settings.plaza != nil && b.plazas[0].unknown() {
		return unknownPlaza(*v.settings.plaza, b.known)
	}
	if v.settings.json {
		return text.WriteJSON(a.stdout, v.json(b))
	}
	return v.write(a.stdout, b, screenOf(a.stdout))
}

// viewBoard is what the view shows, as it was at one moment.
type viewBoard struct {
	// the first in the order that was asked for, or the one that was asked for
	plazas   []plazaBoard
	known    []int16          // all plazas of the group table, ascending
	events   int64            // counted by the group table at the plazas
	letters  int64            // records that are no events: dead letters; of a board of all plazas
	recent   toll.RejectShare // of the last records of the topic; likewise
	location *time.Location

	now       toll.Minute      // the stream's time, see toll.StreamTime
	watermark time.Time        // zero where it is not known
	backlog   topology.Backlog // of the topic
	started   bool             // whether there are any events, and so now
	skews     []toll.Skew      // how far other clocks are ahead of this machine's
	// the kinds of windows that are counted, as [toll.FormatWindows] writes them
	kinds string

	rowsAt time.Time // when the rows were counted last, zero for never
	fresh  bool      // whether that was for this board
}

// plazaBoard is what the view shows of one plaza.
type plazaBoard struct {
	plaza int         // -32769 stands for NULL
	state *toll.State // never nil
	check sql.PlazaCheck
	rows  *sql.PlazaCheck // the last one for which rows were counted

	about      toll.Plaza          // what the plazas file says of it; zero for nothing
	location   *time.Location      // of its clock
	congestion *traffic.Assessment // nil where it was never assessed

	// Of a board of one plaza.
	windows     []sql.StoredWindow   // of each kind the newest first, the kinds by length
	transitions []traffic.Transition // the newest first
}

// unknown reports whether nothing is known of the plaza.
func (p *plazaBoard) unknown() bool {
	rows := p.check.StoredRows
	return p.state.Events == 0 && p.check.InFlight == 0 && p.check.Baseline == 0 &&
		p.check.Pruned == 0 && (rows == nil || *rows == 0) && len(p.check.Problems) == 0
}

// status returns the verdict on a plaza. Where its rows were not counted this time, the verdict of
// the last count stands.
func (p *plazaBoard) status() string {
	if p.rows != nil && p.rows.Status == sql.Mismatch {
		return sql.Mismatch
	}
	return p.check.Status
}

// problems returns what is wrong at the plaza.
func (p *plazaBoard) problems() []sql.Problem {
	if len(p.check.Problems) == 0 && p.rows != nil {
		return p.rows.Problems
	}
	return p.check.Problems
}

// status returns the verdict on all plazas shown, how many events are in flight, and the plazas
// that are not right.
func (b *viewBoard) status() (status string, inFlight int64, wrong []string) {
	status = sql.Exact
	for i := range b.plazas {
		p := &b.plazas[i]
		inFlight += p.check.InFlight
		switch p.status() {
		case sql.Mismatch:
			status = sql.Mismatch
			wrong = append(wrong, plazaName(p.plaza))
		case sql.InFlight:
			if status == sql.Exact {
				status = sql.InFlight
			}
		}
	}
	return status, inFlight, wrong
}

// Bounds of how long rows are counted.
const (
	deepLimit = 24 * time.Hour // of --deep: for ever, in effect
	// countShare is how much longer than a count took the next one waits, in watch: counting then
	// takes at most a twentieth of the database's time.
	countShare = 20
)

// viewer makes boards.
type viewer struct {
	*reader
	settings viewSettings
	zone     *toll.Zone
	checker  *sql.PlazaChecker
	marks    *topology.WatermarkReader
	// holds one while marks is read: by one at a time, even after a context has ended
	marking chan struct{}

	counted   map[int]*sql.PlazaCheck // by plaza, of the last count of rows
	countedAt time.Time
	countTook time.Duration
	letters   int64 // as the last count of rows found them

	about   map[int16]toll.Plaza // what the plazas file says
	aboutAt time.Time            // when that was read
}

func newViewer(r *reader, s viewSettings) *viewer {
	return &viewer{reader: r, settings: s, zone: toll.NewZone(r.con.Location),
		checker: r.store.PlazaChecker(),
		marks:   topology.NewWatermarkReader(r.con.Cluster, r.con.Topic), marking: make(chan struct{}, 1)}
}

// Close ends the connection that tells the watermark. The reader is its owner's to close.
func (v *viewer) Close() { _ = v.marks.Close() }

// read reads the group table first and then the database, whose snapshot then holds all that is
// merged.
func (v *viewer) read(ctx context.Context) (*viewBoard, error) {
	states, err := v.states(ctx)
	if err != nil {
		return nil, err
	}
	if !v.settings.watch {
		v.stop()
	}
	checks, err := v.check(ctx, states)
	if err != nil {
		return nil, err
	}
	progress, err := v.store.Progress(ctx)
	if err != nil {
		return nil, err
	}
	meta, err := v.store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	// A state from before a rebuild counts as empty.
	var epoch uint64
	for _, p := range progress {
		epoch = max(epoch, p.Epoch)
	}
	maps.DeleteFunc(states, func(_ int16, s *toll.State) bool { return s.Epoch < epoch })

	b := &viewBoard{location: v.con.Location, known: slices.Sorted(maps.Keys(states)),
		rowsAt:  v.countedAt,
		letters: v.letters, kinds: meta.Windows}
	if v.settings.plaza == nil {
		if b.recent, err = v.store.RecentRejects(ctx); err != nil {
			return nil, err
		}
	}
	b.now, b.started = toll.StreamTime(states, v.zone)
	if b.watermark, b.backlog, err = v.position(ctx, progress, &meta); err != nil {
		return nil, err
	}
	now, _, err := clocks.NewReader(v.store, meta.Lateness, toll.DefaultIdle).Read(ctx,
		cursorsOf(progress))
	if err != nil {
		return nil, err
	}
	if !b.watermark.IsZero() {
		now.Event = b.watermark
	}
	b.skews = now.Skews()
	for _, check := range checks {
		p := plazaBoard{plaza: check.Plaza, check: check, rows: v.counted[check.Plaza],
			location: b.location}
		if check.Plaza >= toll.MinPlaza && check.Plaza <= toll.MaxPlaza {
			p.state = states[int16(check.Plaza)]
		}
		if p.state == nil {
			p.state = new(toll.State)
		}
		b.fresh = b.fresh || check.StoredRows != nil
		b.events += p.state.Events
		b.plazas = append(b.plazas, p)
	}
	if err := v.readCongestion(ctx, b); err != nil {
		return nil, err
	}
	if v.settings.plaza != nil {
		return b, v.readWindows(ctx, &b.plazas[0], &meta)
	}
	b.sort(v.settings.sort)
	return b, nil
}

// position returns how far the stream has come: its watermark, as far as what is stored tells it,
// zero for none; and what of the topic waits to be stored.
func (v *viewer) position(ctx context.Context, progress []sql.PartitionProgress,
	meta *sql.Meta) (watermark time.Time, backlog topology.Backlog, err error) {
	lateness := meta.Lateness
	if meta.Windows == "" { // no process has settled it
		lateness = toll.DefaultLateness
	}
	cursors := cursorsOf(progress)
	select {
	case v.marking <- struct{}{}:
	case <-ctx.Done():
		return time.Time{}, backlog, ctx.Err()
	}
	type progressed struct {
		mark    toll.Watermark
		backlog topology.Backlog
	}
	p, err := await(ctx, func() (p progressed, err error) {
		defer func() { <-v.marking }()
		if p.mark, err = v.marks.Read(ctx, cursors, lateness, toll.DefaultIdle); err == nil {
			p.backlog, err = v.marks.Backlog(ctx, cursors)
		}
		return p, err
	})
	if err != nil {
		return time.Time{}, backlog, noAnswer(err)
	}
	if p.mark.Known {
		watermark = time.Unix(p.mark.Time, 0).UTC()
	}
	return watermark, p.backlog, nil
}

// cursorsOf returns the cursors of what the database has stored.
func cursorsOf(progress []sql.PartitionProgress) []toll.Cursor {
	cursors := make([]toll.Cursor, len(progress))
	for i, p := range progress {
		cursors[i] = toll.Cursor{Partition: p.Partition, Next: p.Next, Epoch: p.Epoch, Chain: p.Chain,
			Clock: p.Clock}
	}
	return cursors
}

// aboutEvery is how often what the plazas file says is read anew; it changes when a process starts.
const aboutEvery = 10 * time.Second

// readCongestion adds how the plazas stand, and what the plazas file says of them.
func (v *viewer) readCongestion(ctx context.Context, b *viewBoard) error {
	if v.about == nil || time.Since(v.aboutAt) > aboutEvery {
		configured, err := v.store.ConfiguredPlazas(ctx)
		if err != nil {
			return err
		}
		v.about, v.aboutAt = map[int16]toll.Plaza{}, time.Now()
		for _, p := range configured {
			v.about[p.ID] = p
		}
	}
	congestion, err := v.store.Congestion(ctx)
	if err != nil {
		return err
	}
	for i := range b.plazas {
		p := &b.plazas[i]
		if p.plaza == nullPlaza {
			continue
		}
		if a, ok := congestion[int16(p.plaza)]; ok && a.Assessed() {
			p.congestion = &a
		}
		p.describe(v.about[int16(p.plaza)])
	}
	return nil
}

// describe adds what the plazas file says.
func (p *plazaBoard) describe(about toll.Plaza) {
	p.about = about
	if about.Timezone == "" {
		return
	}
	// process refuses one that it does not know
	if location, err := time.LoadLocation(about.Timezone); err == nil {
		p.location = location
	}
}

// How many of the last windows of a kind, and changes of congestion, are read; text shows fewer.
const (
	windowsRead     = 10
	transitionsRead = 10
)

// readWindows adds a plaza's windows that closed last, and the last changes of its congestion.
func (v *viewer) readWindows(ctx context.Context, p *plazaBoard, meta *sql.Meta) (err error) {
	if p.plaza == nullPlaza || meta.Windows == "" {
		return nil
	}
	if p.windows, err = v.store.Windows(ctx, int16(p.plaza), windowsRead); err != nil {
		return err
	}
	kinds, err := toll.ParseWindows(meta.Windows)
	if err != nil {
		return fmt.Errorf("read the windows that the database has: %w", err)
	}
	size := func(kind string) toll.Minute {
		if i := slices.IndexFunc(kinds, func(k toll.WindowKind) bool { return k.Name == kind }); i >= 0 {
			return kinds[i].Size
		}
		return math.MaxInt32
	}
	slices.SortStableFunc(p.windows, func(v, w sql.StoredWindow) int {
		return cmp.Or(cmp.Compare(size(v.Kind), size(w.Kind)), cmp.Compare(v.Kind, w.Kind))
	})
	p.transitions, err = v.store.Transitions(ctx, int16(p.plaza), transitionsRead)
	return err
}

// check checks the plazas against the database. In watch, rows are not counted every time where
// that takes long.
func (v *viewer) check(ctx context.Context, states map[int16]*toll.State) ([]sql.PlazaCheck,
	error) {
	o := sql.PlazaOptions{CountOnly: !v.settings.deep}
	if v.settings.deep {
		o.CountLimit = deepLimit
	}
	o.SkipRows = !v.countedAt.IsZero() && time.Since(v.countedAt) < countShare*v.countTook
	began := time.Now()
	var checks []sql.PlazaCheck
	var err error
	if plaza := v.settings.plaza; plaza != nil {
		var check *sql.PlazaCheck
		if check, err = v.checker.Plaza(ctx, *plaza, states[*plaza], o); err == nil {
			checks = []sql.PlazaCheck{*check}
		}
	} else {
		checks, err = v.checker.Plazas(ctx, states, o)
	}
	if err != nil || o.SkipRows {
		return checks, err
	}
	if v.settings.plaza == nil {
		if v.letters, err = v.store.CountDeadLetters(ctx, sql.DeadLetterFilter{}); err != nil {
			return nil, err
		}
	}
	v.countedAt, v.countTook = time.Now(), time.Since(began)
	v.counted = map[int]*sql.PlazaCheck{}
	for i := range checks {
		v.counted[checks[i].Plaza] = &checks[i]
	}
	return checks, nil
}

// rollingMinutes are the lengths of the windows that are shown.
var rollingMinutes = []int{1, 15, 60}

// rollingNames are their names in the table of all plazas.
var rollingNames = []string{"1 min", "15 min", "1 h"}

// knownShown is how many plazas an error names.
const knownShown = 20

func unknownPlaza(plaza int16, known []int16) error {
	err := fmt.Errorf("no vehicle has passed plaza %d", plaza)
	if len(known) == 0 {
		return hint.With(err, "no plaza has events yet: run tollstream emit, and tollstream process")
	}
	var names []string
	for _, k := range known[:min(len(known), knownShown)] {
		names = append(names, strconv.Itoa(int(k)))
	}
	advice := "the plazas are " + strings.Join(names, ", ")
	if more := len(known) - len(names); more > 0 {
		advice += fmt.Sprintf(" and %s more; tollstream view lists them", text.Number(more))
	}
	return hint.With(err, advice)
}

// nullPlaza is how the store names rows without a plaza, which only others insert.
const nullPlaza = toll.MinPlaza - 1

func plazaName(plaza int) string {
	if plaza == nullPlaza {
		return "NULL"
	}
	return strconv.Itoa(plaza)
}
