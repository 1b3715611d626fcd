package journeys_test

import (
	"fmt"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

// BenchmarkQuarter counts the last quarter of an hour, of which the vehicles' ways begin up to two
// hours earlier, in a table of twelve hours: of 12 plazas with 20 events a second, and of a
// national network of 1,000 plazas with 500. Trips are of five plazas, ten minutes apart.
func BenchmarkQuarter(b *testing.B) {
	for _, network := range []struct{ plazas, rate, hours int }{{12, 20, 12}, {1000, 500, 3}} {
		for _, engine := range []string{"mariadb", "mysql"} {
			s := fill(b, engine, network.plazas, network.rate, network.hours)
			for _, index := range []string{"", "(timestamp, toll_plaza_id)",
				"(timestamp, toll_plaza_id, vehicle_id)"} {
				if index != "" {
					dbtest.Exec(b, s, `CREATE INDEX tollstream_time ON livetolldata `+index)

				}
				dbtest.Exec(b, s, `ANALYZE TABLE livetolldata`)
				end := dbtest.WallTime(b, "2022-06-01 00:00") + toll.WallTime(network.hours*3600)
				w := journeys.Window{Start: end - 900, End: end}
				survey := s.Journeys()
				cost, err := survey.Cost(b.Context(), w.Scan())
				if err != nil {
					b.Fatal(err)
				}
				run := func(what string, count func() error) {
					b.Run(fmt.Sprintf("%d/%s/%s/%s", network.plazas, engine, index, what), func(b *testing.B) {
						b.ReportMetric(float64(cost.Rows), "rows-estimated")
						for b.Loop() {
							if err := count(); err != nil {
								b.Fatal(err)
							}
						}
					})
				}
				run("sections", func() error {
					c, err := survey.Sections(b.Context(), w, dbtest.Berlin, nil)
					if err == nil && c.Verdict() != journeys.HasJourneys {
						err = fmt.Errorf("%v", c.Verdict())
					}
					return err
				})
				run("trips", func() error {
					_, err := survey.Trips(b.Context(), w, nil, dbtest.Berlin)
					return err
				})
				run("departures", func() error {
					_, err := survey.Departures(b.Context(), w.End)
					return err
				})
				run("past", func() error {
					_, err := survey.Past(b.Context(), w, dbtest.Berlin)
					return err
				})
				if index != "" {
					dbtest.Exec(b, s, `DROP INDEX tollstream_time ON livetolldata`)
				}
			}
		}
	}
}

// fill stores rows at a rate per second, in the order of their times as a process does.
func fill(b *testing.B, engine string, plazas, rate, hours int) *dbtest.Store {
	b.Helper()
	s := dbtest.OpenEmpty(b, engine)
	dbtest.Initialize(b, s)
	digits := `(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
		UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)`
	// Row n is of leg n mod 5 of trip n div 5.
	for hour := range hours {
		dbtest.Exec(b, s, fmt.Sprintf(`INSERT INTO livetolldata
			SELECT '2022-06-01' + INTERVAL CAST(%[1]d * 3600 + n DIV %[2]d + n %% 5 * 600 + CRC32(n) %% 60
					AS SIGNED) SECOND, %[1]d * 3600 * %[2]d + n DIV 5, 'car', (n DIV 5 * 7 + n %% 5) %% %[3]d
			FROM (SELECT a.d + 10*b.d + 100*c.d + 1000*d.d + 10000*e.d + 100000*f.d + 1000000*g.d AS n
				FROM %[4]s a, %[4]s b, %[4]s c, %[4]s d, %[4]s e, %[4]s f, %[4]s g) numbers
			WHERE n < %[2]d * 3600 ORDER BY 1`, hour, rate, plazas, digits))
	}
	return s
}
