package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
)

// Query selects what a report is about.
type Query struct {
	Period   Period
	Location *time.Location // of the database's clock
	Plaza    *int16         // nil for all
}

// maxIncidents bounds the incidents of a report.
const maxIncidents = 100_000

// Read reads a report.
func Read(ctx context.Context, store *sql.Store, q Query) (*Report, error) {
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOf(meta.Windows)
	if err != nil {
		return nil, err
	}
	r := &Report{Period: q.Period, Location: q.Location}
	if r.Made, err = store.Now(ctx); err != nil {
		return nil, err
	}
	// Before the windows are read: those that close meanwhile may be there as well.
	if r.ClosedUntil, err = closedUntil(ctx, store, meta.Lateness); err != nil {
		return nil, err
	}
	configured, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, err
	}
	about := map[int16]toll.Plaza{}
	for _, p := range configured {
		about[p.ID] = p
	}
	own, err := sql.PlazaZones(configured, q.Location)
	if err != nil {
		return nil, err
	}
	zones := toll.NewZoneSet(toll.NewZone(q.Location), own)
	k := known{closedUntil: r.ClosedUntil}
	if k.retiredBefore, err = store.RetiredBefore(ctx, kinds.hours); err != nil {
		return nil, err
	}
	byPlaza, err := readIncidents(ctx, store, q)
	if err != nil {
		return nil, err
	}
	within := func(plaza int16) toll.Window {
		if q.Plaza != nil && *q.Plaza != plaza {
			return toll.Window{}
		}
		zone := zones.Of(plaza)
		return toll.Window{Start: zone.Boundary(q.Period.From), End: zone.Boundary(q.Period.To)}
	}
	err = store.EachPlaza(ctx, kinds.hours, within, func(stored *results.PlazaPeriod,
		read results.ReadBetween) error {
		if q.Plaza != nil && *q.Plaza != stored.Plaza {
			return nil
		}
		p := Plaza{Plaza: about[stored.Plaza], Incidents: byPlaza[stored.Plaza]}
		p.ID = stored.Plaza
		zone := zones.Of(stored.Plaza)
		p.Location = zone.Location()
		k.first = stored.First
		p.ByHour = hours(q.Period, zone, stored.Windows, k)
		p.sum()
		if p.Peak != nil && kinds.quarters != "" {
			quarters, err := read(stored.Plaza, kinds.quarters, p.Peak.Window)
			if err != nil {
				return err
			}
			p.PHF = phf(p.Peak, quarters)
		}
		r.Plazas = append(r.Plazas, p)
		return nil
	})
	if err == nil && q.Plaza != nil && len(r.Plazas) == 0 {
		err = hint.With(fmt.Errorf("plaza %d is not known", *q.Plaza),
			"tollstream view lists the plazas")
	}
	return r, err
}

// kinds are the windows that a report reads.
type kinds struct {
	hours    string
	quarters string // empty where they are not kept
}

// kindsOf returns what a report reads of the kinds that a database has.
func kindsOf(windows string) (k kinds, err error) {
	if windows == "" {
		return k, hint.With(fmt.Errorf("no window has closed yet"), "run: tollstream process")
	}
	all, err := toll.ParseWindows(windows)
	if err != nil {
		return k, fmt.Errorf("read the windows that the database has: %w", err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(all, func(k toll.WindowKind) bool { return k.Name == name })
	}
	if has("15m") {
		k = kinds{hours: "15m", quarters: "15m"}
	}
	if has("1h") {
		k.hours = "1h"
	}
	if k.hours == "" {
		return k, hint.With(fmt.Errorf("a report needs windows of 1h or 15m; the database has %s",
			windows),
			"the first process of a database chooses them, by --windows")
	}
	return k, nil
}

// closedUntil returns the minute up to which windows have closed, nil where none has.
func closedUntil(ctx context.Context, store *sql.Store, lateness time.Duration) (*toll.Minute,
	error) {
	progress, err := store.Progress(ctx)
	if err != nil {
		return nil, err
	}
	c, _, err := clocks.Read(ctx, store, clocks.Cursors(progress), lateness, toll.DefaultIdle)
	if err != nil || c.Event.IsZero() {
		return nil, err
	}
	return new(toll.MinuteAt(c.Event.Unix())), nil
}

// readIncidents returns the incidents of the period on the database's clock, by plaza, ascending.
func readIncidents(ctx context.Context, store *sql.Store, q Query) (map[int16][]incidents.Incident,
	error) {
	zone := toll.NewZone(q.Location)
	ask := incidents.Query{Plaza: q.Plaza, Limit: 1000,
		From: new(zone.Boundary(q.Period.From)), To: new(zone.Boundary(q.Period.To))}
	all := map[int16][]incidents.Incident{}
	for n := 0; ; {
		page, more, err := store.Incidents(ctx, ask)
		if err != nil {
			return nil, err
		}
		for _, i := range page { // the newest first
			all[i.Plaza] = append(all[i.Plaza], i)
		}
		if n += len(page); !more {
			break
		}
		if n >= maxIncidents {
			return nil, hint.With(fmt.Errorf("more than %d incidents in the period", maxIncidents),
				"choose a shorter period, or one --plaza")
		}
		last := page[len(page)-1]
		ask.Before = &incidents.Position{Began: last.Began, Plaza: last.Plaza}
	}
	for _, own := range all {
		slices.Reverse(own)
	}
	return all, nil
}
