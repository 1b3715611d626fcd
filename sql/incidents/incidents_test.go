package incidents_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// turn inserts a transition of a plaza, as the results do; the flow is that of its measure.
func turn(t *testing.T, s *dbtest.Store, plaza int16, at, from, to string, flow float64) {
	t.Helper()
	m := dbtest.MinuteOf(t, "2022-02-10 "+at)
	dbtest.Exec(t, s, `INSERT INTO toll_transition (toll_plaza_id, detected_minute, since_minute,
		detected, since, from_state, to_state, why, measure, epoch, published, stored_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 1, NOW(6))`, plaza, m, m-2, m.Time(), (m - 2).Time(), from,
		to, "why "+to, fmt.Sprintf(`{"flow_per_hour": %v}`, flow))
	dbtest.Exec(t, s, `DELETE FROM toll_congestion WHERE toll_plaza_id = ?`, plaza)
	dbtest.Exec(t, s, `INSERT INTO toll_congestion (toll_plaza_id, state, since, why, assessed,
		assessed_until, vehicles_15m, flow_per_hour, demand, usual_weeks, assessment, updated_at)
		VALUES (?, ?, NOW(), '', NOW(), 0, 0, 0, 0, 0, '{}', NOW(6))`, plaza, to)
}

// quarter inserts a window of a quarter of an hour.
func quarter(t *testing.T, s *dbtest.Store, plaza int16, start string, flow float64) {
	t.Helper()
	m := dbtest.MinuteOf(t, "2022-02-10 "+start)
	dbtest.Exec(t, s, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute,
		window_start, window_end, whole, epoch, revision, events, late, too_late, result_too_late,
		by_type, flow_per_hour, reason, published, stored_at)
		VALUES (?, '15m', ?, ?, ?, ?, 1, 1, 1, 1, 0, 0, 0, '{}', ?, 'watermark', 1, NOW(6))`,
		plaza, m, m+toll.Quarter, m.Time(), (m + toll.Quarter).Time(), flow)
}

// fill inserts three incidents, two of which have ended.
func fill(t *testing.T, s *dbtest.Store) {
	t.Helper()
	dbtest.Exec(t, s, `INSERT INTO toll_plaza VALUES (7, 'Bridge', 'A 1', 1, 2, 600, '')`)
	turn(t, s, 7, "07:00", "no_data", "free", 300)
	turn(t, s, 7, "08:08", "free", "above_usual", 900)
	turn(t, s, 7, "08:13", "above_usual", "saturated", 1210)
	turn(t, s, 7, "09:14", "saturated", "busy", 400)
	turn(t, s, 7, "09:20", "busy", "free", 380)
	turn(t, s, 7, "09:30", "free", "no_data", 0)
	quarter(t, s, 7, "07:45", 2000) // before it began
	quarter(t, s, 7, "08:30", 1444)
	quarter(t, s, 7, "09:00", 3000) // a part of it is after the end
	turn(t, s, -5, "08:08", "no_data", "below_usual", 40)
	quarter(t, s, -5, "08:15", 12)
	turn(t, s, -5, "08:50", "below_usual", "no_data", 0)
	turn(t, s, 7, "10:02", "no_data", "above_usual", 950)
}

func TestIncidents(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		fill(t, s)
		minute := func(at string) *toll.Minute { return new(dbtest.MinuteOf(t, "2022-02-10 "+at)) }
		berlin, err := time.LoadLocation(dbtest.Identity.Timezone)
		if err != nil {
			t.Fatal(err)
		}
		clock := func(m toll.Minute) string { return m.Time().In(berlin).Format("15:04") }
		list := func(q incidents.Query) string {
			t.Helper()
			page, more, err := s.Incidents(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, i := range page {
				end := "…"
				if i.Ended != nil {
					end = clock(*i.Ended)
				}
				fmt.Fprintf(&out, "%v %s-%s %v %s peak %v at %s %s\n", i.Plaza, clock(i.Began), end, i.States,
					i.Why, i.Peak.FlowPerHour, clock(i.Peak.At), i.Name)
			}
			if more {
				out.WriteString("more\n")
			}
			return out.String()
		}
		const (
			open = "7 10:00-… [above usual] why above_usual peak 950 at 10:02 Bridge\n"
			rush = "7 08:06-09:12 [above usual saturated] why saturated peak 1444 at 08:45 Bridge\n"
			jam  = "-5 08:06-08:48 [below usual] why below_usual peak 12 at 08:30 \n"
		)
		for _, c := range []struct {
			q    incidents.Query
			want string
		}{
			{incidents.Query{Limit: 9}, open + rush + jam},
			{incidents.Query{Limit: 2}, open + rush + "more\n"},
			{incidents.Query{Limit: 3}, open + rush + jam},
			{incidents.Query{Limit: 1, Before: &incidents.Position{Began: *minute("08:06"), Plaza: 7}}, jam},
			{incidents.Query{Limit: 9, Plaza: new(int16(-5))}, jam},
			{incidents.Query{Limit: 9, Road: "A 1"}, open + rush},
			{incidents.Query{Limit: 9, Road: "a 1"}, ""},
			{incidents.Query{Limit: 9, Open: true}, open},
			{incidents.Query{Limit: 9, State: new(traffic.AboveUsual)}, open + rush},
			{incidents.Query{Limit: 9, State: new(traffic.Saturated)}, rush},
			{incidents.Query{Limit: 9, To: minute("10:00")}, rush + jam},
			{incidents.Query{Limit: 9, From: minute("09:00")}, open + rush},
			{incidents.Query{Limit: 9, From: minute("09:14"), To: minute("10:01")}, open},
			{incidents.Query{Limit: 9, ID: &traffic.IncidentID{Plaza: 7, Detected: *minute("08:08")}}, rush},
			{incidents.Query{Limit: 9, ID: &traffic.IncidentID{Plaza: 7, Detected: *minute("08:13")}}, ""},
		} {
			if got := list(c.q); got != c.want {
				t.Errorf("%+v: got\n%swant\n%s", c.q, got, c.want)
			}
		}
	})
}

func TestMain(m *testing.M) { dbtest.Main(m) }
