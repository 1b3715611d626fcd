package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
)

// Windows are the windows that are closed, and how their congestion is judged.
type Windows struct {
	Kinds    []toll.WindowKind
	Lateness time.Duration
	// Whether Kinds and Lateness were configured. What was not is as the database has it, and what was
	// must not differ from that.
	KindsSet, LatenessSet bool
	Plazas                []toll.Plaza // stored as configured; nil leaves the stored ones
	Equivalents           traffic.Equivalents
}

// DefaultWindows returns the windows of a process that is not configured otherwise.
func DefaultWindows() Windows {
	kinds, err := toll.ParseWindows(toll.DefaultWindows)
	if err != nil {
		panic(err)
	}
	return Windows{Kinds: kinds, Lateness: toll.DefaultLateness,
		Equivalents: traffic.DefaultEquivalents()}
}

// openResults fixes the windows of the database, and returns where their results are stored. It
// completes the topology's configuration.
func (p *pipeline) openResults(ctx context.Context) (topology.Results, error) {
	w, store := &p.cfg.Windows, p.cfg.Store
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	text, lateness := toll.FormatWindows(w.Kinds), w.Lateness
	if meta.Windows != "" && !w.KindsSet {
		text = meta.Windows
	}
	if meta.Windows != "" && !w.LatenessSet {
		lateness = meta.Lateness
	}
	text, seconds, err := store.SettleWindows(ctx, text, int(lateness/time.Second),
		w.KindsSet || w.LatenessSet)
	if err != nil {
		return nil, err
	}
	t := &p.cfg.Topology
	if t.Windows, err = toll.ParseWindows(text); err != nil {
		return nil, toll.Permanent("toll_meta.windows is damaged; restore the database",
			"read the windows that the database has: %w", err)
	}
	t.Lateness = time.Duration(seconds) * time.Second
	if w.Plazas != nil {
		if err := store.SetPlazas(ctx, w.Plazas); err != nil {
			return nil, err
		}
	}
	configured, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, err
	}
	plazas := map[int16]toll.Plaza{}
	for _, plaza := range configured {
		plazas[plaza.ID] = plaza
	}
	if t.PlazaZones, err = plazaZones(configured, t.Zone.Location()); err != nil {
		return nil, err
	}
	return store.Results(t.TopicID, results.Config{
		Windows: t.Windows, Location: t.Zone.Location(), Plazas: plazas, PlazaZones: t.PlazaZones,
		Equivalents: w.Equivalents,
	}), nil
}

// StoredWindows returns the kinds of windows that a database has results of, and the zones that
// plazas' windows align to: nil as long as no process has fixed them.
func StoredWindows(ctx context.Context, store *sql.Store,
	database *time.Location) ([]toll.WindowKind, *toll.ZoneSet, error) {
	meta, err := store.Meta(ctx)
	if err != nil || meta.Windows == "" {
		return nil, nil, err
	}
	kinds, err := toll.ParseWindows(meta.Windows)
	if err != nil {
		return nil, nil, fmt.Errorf("read the windows that the database has: %w", err)
	}
	plazas, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, nil, err
	}
	zones, err := plazaZones(plazas, database)
	if err != nil {
		return nil, nil, err
	}
	return kinds, toll.NewZoneSet(toll.NewZone(database), zones), nil
}

// plazaZones returns the zones of the plazas that have another than the database's.
func plazaZones(plazas []toll.Plaza, database *time.Location) (map[int16]*toll.Zone, error) {
	zones := map[int16]*toll.Zone{}
	for _, p := range plazas {
		if p.Timezone == "" || p.Timezone == database.String() {
			continue
		}
		location, err := time.LoadLocation(p.Timezone)
		if err != nil {
			return nil, toll.Permanent("correct its timezone in the plazas file", "plaza %d: %w", p.ID, err)
		}
		zones[p.ID] = toll.NewZone(location)
	}
	return zones, nil
}
