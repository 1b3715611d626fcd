package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tollstream/sql"
	"tollstream/toll"
)

func (a *app) viewCommand() *cli.Command {
	return &cli.Command{
		Name:  "view",
		Usage: "shows the congestion at each plaza beside the proof of the figures",
		Description: `Without --plaza it lists all plazas, the busiest first; with it, one plaza: vehicles by type, in the last
			minute, quarter of an hour and hour of event time, and minute by minute. The figures come from the group table;
			beside them stands what the rows in livetolldata say.

			Event time is that of the events themselves. The stream's time is the median of the plazas' latest minutes, so a few
			wrong clocks don't move it. A window is final once the watermark has passed its end.

			A count of rows that takes longer than 3 s is cut off; the optional indexes in sql/indexes.sql make it fast.`,
		UsageText: "tollstream view\ntollstream view --plaza 4856\ntollstream view --plaza 4856 --watch\ntollstream view --json",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "plaza", Usage: "this plaza alone"},
			&cli.BoolFlag{Name: "watch", Usage: "go on, and show it anew every second until interrupted"},
			&cli.BoolFlag{Name: "deep", Usage: "compare the checksums of the rows too, however long that takes"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON; with --watch one line a second"},
		}, connectionFlags()...),
		Action: func(c *cli.Context) error {
			s := viewSettings{watch: c.Bool("watch"), deep: c.Bool("deep"), json: c.Bool("json")}
			if c.IsSet("plaza") {
				n := c.Int("plaza")
				if n < toll.MinPlaza || n > toll.MaxPlaza {
					return usagef("--plaza: %d is not between %d and %d", n, toll.MinPlaza, toll.MaxPlaza)
				}
				plaza := int16(n)
				s.plaza = &plaza
			}
			r, err := a.readerFrom(c)
			if err != nil {
				return err
			}
			defer r.Close()
			v := newViewer(r, s)
			if s.watch {
				return a.watch(c.Context, v)
			}
			return a.view(c.Context, v)
		},
	}
}

type viewSettings struct {
	plaza             *int16 // nil for all
	watch, deep, json bool
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
		return writeJSON(a.stdout, v.json(b))
	}
	return v.write(a.stdout, b, screenOf(a.stdout))
}

// board is what the view shows, as it was at one moment.
type board struct {
	plazas   []plazaBoard // the busiest first, or the one that was asked for
	known    []int16      // all plazas of the group table, ascending
	events   int64        // counted by the group table at the plazas
	location *time.Location

	now       toll.Minute // the stream's time, see toll.StreamTime
	watermark time.Time
	started   bool // whether there are any events, and so now and watermark

	rowsAt time.Time // when the rows were counted last, zero for never
	fresh  bool      // whether that was for this board
}

// plazaBoard is what the view shows of one plaza.
type plazaBoard struct {
	plaza int         // -32769 stands for NULL
	state *toll.State // never nil
	check sql.PlazaCheck
	rows  *sql.PlazaCheck // the last one for which rows were counted
}

// unknown reports whether nothing is known of the plaza.
func (p *plazaBoard) unknown() bool {
	rows := p.check.StoredRows
	return p.state.Events == 0 && p.check.InFlight == 0 && p.check.Baseline == 0 && (rows == nil || *rows == 0) && len(p.check.Problems) == 0
}

// status returns the verdict on a plaza. Where its rows were not counted this time, the verdict of the last count
// stands.
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

// status returns the verdict on all plazas shown, how many events are in flight, and the plazas that are not right.
func (b *board) status() (status string, inFlight int64, wrong []string) {
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
	// countShare is how much longer than a count took the next one waits, in watch: counting then takes at most a
	// twentieth of the database's time.
	countShare = 20
)

// viewer makes boards.
type viewer struct {
	*reader
	settings viewSettings
	zone     *toll.Zone
	checker  *sql.PlazaChecker

	counted   map[int]*sql.PlazaCheck // by plaza, of the last count of rows
	countedAt time.Time
	countTook time.Duration
}

func newViewer(r *reader, s viewSettings) *viewer {
	return &viewer{reader: r, settings: s, zone: toll.NewZone(r.con.location), checker: r.store.PlazaChecker()}
}

// read reads the group table first and then the database, whose snapshot then holds all that is merged.
func (v *viewer) read(ctx context.Context) (*board, error) {
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
	// A state from before a rebuild counts as empty.
	var epoch uint64
	for _, p := range progress {
		epoch = max(epoch, p.Epoch)
	}
	maps.DeleteFunc(states, func(_ int16, s *toll.State) bool { return s.Epoch < epoch })

	b := &board{location: v.con.location, known: slices.Sorted(maps.Keys(states)), rowsAt: v.countedAt}
	b.now, b.started = toll.StreamTime(states, v.zone)
	b.watermark, _ = toll.Watermark(states, v.zone)
	for _, check := range checks {
		p := plazaBoard{plaza: check.Plaza, check: check, rows: v.counted[check.Plaza]}
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
	slices.SortStableFunc(b.plazas, func(p, q plazaBoard) int {
		return cmp.Or(cmp.Compare(q.state.Events, p.state.Events), cmp.Compare(p.plaza, q.plaza))
	})
	return b, nil
}

// check checks the plazas against the database. In watch, rows are not counted every time where that takes long.
func (v *viewer) check(ctx context.Context, states map[int16]*toll.State) ([]sql.PlazaCheck, error) {
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
	v.countedAt, v.countTook = time.Now(), time.Since(began)
	v.counted = map[int]*sql.PlazaCheck{}
	for i := range checks {
		v.counted[checks[i].Plaza] = &checks[i]
	}
	return checks, nil
}

// rollingMinutes are the lengths of the windows that are shown.
var rollingMinutes = []int{1, 15, 60}

// knownShown is how many plazas an error names.
const knownShown = 20

func unknownPlaza(plaza int16, known []int16) error {
	err := fmt.Errorf("no vehicle has passed plaza %d", plaza)
	if len(known) == 0 {
		return withHint(err, "no plaza has events yet: run tollstream emit, and tollstream process")
	}
	var names []string
	for _, k := range known[:min(len(known), knownShown)] {
		names = append(names, strconv.Itoa(int(k)))
	}
	hint := "the plazas are " + strings.Join(names, ", ")
	if more := len(known) - len(names); more > 0 {
		hint += fmt.Sprintf(" and %s more; tollstream view lists them", number(int64(more)))
	}
	return withHint(err, hint)
}

// nullPlaza is how the store names rows without a plaza, which only others insert.
const nullPlaza = toll.MinPlaza - 1

func plazaName(plaza int) string {
	if plaza == nullPlaza {
		return "NULL"
	}
	return strconv.Itoa(plaza)
}
