package sql

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// StoredWindows returns the kinds of windows that a database has results of, and the zones that
// plazas' windows align to: nil as long as no process has fixed them.
func (s *Store) StoredWindows(ctx context.Context,
	database *time.Location) ([]toll.WindowKind, *toll.ZoneSet, error) {
	meta, err := s.Meta(ctx)
	if err != nil || meta.Windows == "" {
		return nil, nil, err
	}
	kinds, err := toll.ParseWindows(meta.Windows)
	if err != nil {
		return nil, nil, fmt.Errorf("read the windows that the database has: %w", err)
	}
	plazas, err := s.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, nil, err
	}
	zones, err := PlazaZones(plazas, database)
	if err != nil {
		return nil, nil, err
	}
	return kinds, toll.NewZoneSet(toll.NewZone(database), zones), nil
}

// PlazaZones returns the zones of the plazas that have another than the database's.
func PlazaZones(plazas []toll.Plaza, database *time.Location) (map[int16]*toll.Zone, error) {
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
