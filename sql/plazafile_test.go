package sql_test

import (
	"reflect"
	"testing"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
)

func TestPlazaFile(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := t.Context()
		dbtest.WantPermanent(t, func() error { _, err := s.ConfiguredPlazas(ctx); return err }(),
			"tollstream init")
		x := dbtest.NewWindowed(t, s, "15m")
		set := func(plazas ...toll.Plaza) error { return s.SetPlazas(ctx, plazas) }
		want := []toll.Plaza{{ID: -3, Timezone: "Asia/Kolkata"},
			{ID: 4856, Name: "Höhe €", Road: "A 9", PositionKm: 12.5, Lanes: 14, CapacityPerLane: 650.5}}
		for range 2 {
			if err := set(want[1], want[0]); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ConfiguredPlazas(ctx); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v", got, err)
			}
		}
		// As long as there are no windows any timezone will do.
		if err := set(toll.Plaza{ID: -3, Timezone: "Asia/Tokyo"},
			toll.Plaza{ID: 5, Timezone: "Asia/Tokyo"}); err != nil {
			t.Fatal(err)
		}
		for _, plaza := range []int16{-3, 4856} {
			x.Store(0, dbtest.Pass(plaza, "2022-02-10 10:00", "car", 1, toll.OnTime))
			x.StoreResults(x.Results(), x.Closing(plaza, "2022-02-10 11:00"))
		}
		if err := set(toll.Plaza{ID: -3, Timezone: "Asia/Tokyo"},
			toll.Plaza{ID: 4856, Timezone: "Europe/Berlin", Lanes: 3}); err != nil {
			t.Errorf("the same timezones: %v", err)
		}
		dbtest.WantPermanent(t, set(toll.Plaza{ID: 4856, Timezone: "UTC"}),
			"plaza -3 to Asia/Tokyo, not Europe/Berlin; plaza 4856 to Europe/Berlin, not UTC",
			"tollstream reset --yes")
		if got, err := s.ConfiguredPlazas(ctx); err != nil || len(got) != 2 || got[1].Lanes != 3 {
			t.Errorf("after a refusal: %+v, %v", got, err)
		}
		if _, err := s.Reset(ctx, dbtest.Identity, sql.ResetOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := set(toll.Plaza{ID: 4856, Timezone: "UTC"}); err != nil {
			t.Errorf("after a reset: %v", err)
		}
		if err := set(); err != nil {
			t.Error(err)
		}
		if got, err := s.ConfiguredPlazas(ctx); err != nil || len(got) != 0 {
			t.Errorf("none: %+v, %v", got, err)
		}
	})
}
