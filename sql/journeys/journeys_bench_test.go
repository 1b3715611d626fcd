package journeys_test

import (
	"fmt"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

// BenchmarkQuarter counts the last quarter of an hour, of which the vehicles' ways begin up to two
// hours earlier: of 12 plazas with 20 events a second, and of a national network of 1,000 plazas
// with 300, which takes minutes and is left out with -short. Trips are of five plazas, ten minutes
// apart.
func BenchmarkQuarter(b *testing.B) {
	for _, network := range []struct {
		name                string
		plazas, rate, hours int
	}{{"road", 12, 20, 6}, {"nation", 1000, 300, 3}} {
		if testing.Short() && network.plazas > 12 {
			continue
		}
		for _, engine := range []string{"mariadb", "mysql"} {
			b.Run(network.name+"/"+engine, func(b *testing.B) {
				s := fill(b, engine, network.plazas, network.rate, network.hours)
				end := dbtest.WallTime(b, "2022-06-01 00:00") + toll.WallTime(network.hours*3600)
				w := journeys.Window{Start: end - 900, End: end}
				quarter(b, s, w, "table")
				if _, _, err := s.Run(b.Context(), "indexes", nil); err != nil {
					b.Fatal(err)
				}
				quarter(b, s, w, "index")
			})
		}
	}
}

func quarter(b *testing.B, s *dbtest.Store, w journeys.Window, how string) {
	b.Helper()
	survey := s.Journeys()
	for _, count := range []struct {
		what string
		do   func() error
	}{
		{"sections", func() error {
			c, _, err := survey.Sections(b.Context(), w, dbtest.Berlin, nil)
			if err == nil && c.Verdict() != journeys.HasJourneys {
				err = fmt.Errorf("%v", c.Verdict())
			}
			return err
		}},
		{"trips", func() error {
			_, err := survey.Trips(b.Context(), w, nil, dbtest.Berlin)
			return err
		}},
		{"through", func() error {
			plaza := int16(7)
			_, err := survey.Trips(b.Context(), w, &plaza, dbtest.Berlin)
			return err
		}},
	} {
		b.Run(how+"/"+count.what, func(b *testing.B) {
			for b.Loop() {
				if err := count.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores rows at a rate per second, nearly in the order of their times, as a process does. Row
// n is of leg n mod 5 of trip n div 5.
func fill(b *testing.B, engine string, plazas, rate, hours int) *dbtest.Store {
	b.Helper()
	s := dbtest.OpenEmpty(b, engine)
	dbtest.Initialize(b, s)
	dbtest.Exec(b, s, `CREATE TABLE numbers WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL
		SELECT i + 1 FROM n WHERE i < 999) SELECT i FROM n`)
	for minute := range hours * 60 {
		dbtest.Exec(b, s, fmt.Sprintf(`INSERT INTO livetolldata
			SELECT '2022-06-01' + INTERVAL CAST(n DIV %[2]d + n %% 5 * 600 + CRC32(n) %% 60 AS SIGNED) SECOND,
				n DIV 5, 'car', (n DIV 5 * 7 + n %% 5) %% %[3]d
			FROM (SELECT (%[1]d * 60 + s.i) * %[2]d + r.i AS n FROM numbers s, numbers r
				WHERE s.i < 60 AND r.i < %[2]d) records ORDER BY 1`, minute, rate, plazas))
	}
	return s
}
