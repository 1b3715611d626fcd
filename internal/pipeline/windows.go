package pipeline

import (
	"context"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/closing"
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
	Holidays              traffic.Holidays // nil for none
	// The plazas of the simulator, which are stored where none are configured and these are all that
	// there are; nil for never.
	Simulated []toll.Plaza
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
func (p *pipeline) openResults(ctx context.Context) (closing.Results, error) {
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
	text, seconds, err := store.RecordWindows(ctx, text, int(lateness/time.Second),
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
	if t.PlazaZones, err = sql.PlazaZones(configured, t.Zone.Location()); err != nil {
		return nil, err
	}
	cfg := results.Config{
		Windows: t.Windows, Location: t.Zone.Location(), Plazas: plazas, PlazaZones: t.PlazaZones,
		Equivalents: w.Equivalents, Holidays: w.Holidays, Notify: p.cfg.Notify != nil,
	}
	var made closing.Results = store.Results(t.TopicID, cfg)
	if len(configured) == 0 && len(w.Simulated) > 0 {
		made = &simulated{Results: made, p: p, cfg: cfg, cursors: store.Writer(t.TopicID).Cursors}
	}
	return made, nil
}
