package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
)

// windowSettings say which windows are closed, and by what their congestion is judged.
type windowSettings struct {
	kinds       []toll.WindowKind
	lateness    time.Duration
	asked       struct{ kinds, lateness bool } // whether someone asked for these
	plazas      []toll.Plaza
	equivalents traffic.Equivalents
}

// defaultWindowSettings are those of a process that was not told otherwise.
func defaultWindowSettings() windowSettings {
	kinds, err := toll.ParseWindows(toll.DefaultWindows)
	if err != nil {
		panic(err)
	}
	return windowSettings{kinds: kinds, lateness: toll.DefaultLateness,
		equivalents: traffic.DefaultEquivalents()}
}

// windowFlags returns the flags that [windowSettingsFrom] reads.
func windowFlags() []cli.Flag {
	const category = "Windows"
	return []cli.Flag{
		&cli.StringFlag{Name: "windows", EnvVars: env("windows"), Value: toll.DefaultWindows,
			Category: category,
			Usage:    "`KINDS` of windows, SIZE or SIZE/HOP, and day for the day so far; settled by the first process of a database"},
		&cli.DurationFlag{Name: "lateness", EnvVars: env("lateness"), Value: toll.DefaultLateness,
			Category: category,
			Usage:    "`TIME` that an event may be behind the newest of its partition and still be on time; settled with the windows"},
		&cli.DurationFlag{Name: "idle", EnvVars: env("idle"), Value: toll.DefaultIdle, Category: category,
			Usage: "`TIME` after which a partition without records no longer holds the watermark back"},
		plazasFileFlag(category),
		&cli.StringFlag{Name: "equivalents", EnvVars: env("equivalents"),
			Value: traffic.DefaultEquivalents().String(), Category: category,
			Usage: "passenger cars that one vehicle of a type counts for, `TYPE=NUMBER,…`; a type that is not named counts as 1"},
	}
}

func plazasFileFlag(category string) cli.Flag {
	return &cli.StringFlag{Name: "plazas-file", EnvVars: env("plazas-file"), Category: category,
		Usage: "CSV `FILE` with the plazas' names, roads, lanes, capacities and timezones"}
}

func windowSettingsFrom(c *cli.Context) (windowSettings, error) {
	s := defaultWindowSettings()
	text := setting(c, "windows", toll.DefaultWindows)
	var err error
	if s.kinds, err = toll.ParseWindows(text); err != nil {
		return s, hint.Usagef("--windows: %v", err)
	}
	// however they are listed, they are the same
	slices.SortStableFunc(s.kinds, func(a, b toll.WindowKind) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Hop, b.Hop))
	})
	s.lateness = c.Duration("lateness")
	s.asked.kinds, s.asked.lateness = c.IsSet("windows") &&
		c.String("windows") != "", c.IsSet("lateness")
	if text := setting(c, "equivalents", ""); text != "" {
		if s.equivalents, err = traffic.ParseEquivalents(text); err != nil {
			return s, hint.Usagef("--equivalents: %v", err)
		}
	}
	s.plazas, err = readPlazasFile(setting(c, "plazas-file", ""))
	return s, err
}

// readPlazasFile reads a plazas file; no name is no file.
func readPlazasFile(name string) ([]toll.Plaza, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read --plazas-file: %w", err)
	}
	defer f.Close()
	plazas, err := codecs.ReadPlazas(f)
	if err != nil {
		return nil, fmt.Errorf("read --plazas-file %s: %w", name, err)
	}
	return plazas, nil
}

// openResults settles what windows there are, and returns where their results are stored.
func (p *process) openResults(ctx context.Context, store *sql.Store,
	topicID string) (topology.Results, error) {
	w := &p.windows
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	text, lateness := toll.FormatWindows(w.kinds), w.lateness
	if meta.Windows != "" && !w.asked.kinds {
		text = meta.Windows
	}
	if meta.Windows != "" && !w.asked.lateness {
		lateness = meta.Lateness
	}
	text, seconds, err := store.SettleWindows(ctx, text, int(lateness/time.Second), w.asked.kinds ||
		w.asked.lateness)
	if err != nil {
		return nil, err
	}
	if p.cfg.Windows, err = toll.ParseWindows(text); err != nil {
		return nil, toll.Permanent("toll_meta.windows is damaged; restore the database",
			"read the windows that the database has: %w", err)
	}
	p.cfg.Lateness = time.Duration(seconds) * time.Second
	if w.plazas != nil {
		if err := store.SetPlazas(ctx, w.plazas); err != nil {
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
	if p.cfg.PlazaZones, err = plazaZones(configured, p.con.location); err != nil {
		return nil, err
	}
	return store.Results(topicID, sql.ResultsConfig{
		Windows: p.cfg.Windows, Location: p.con.location, Plazas: plazas, PlazaZones: p.cfg.PlazaZones,
		Equivalents: w.equivalents,
	}), nil
}

// storedWindows returns the kinds of windows that a database has results of, and the zones that
// plazas' windows align to: nil for no process yet, which settles them.
func storedWindows(ctx context.Context, store *sql.Store,
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
