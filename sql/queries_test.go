package sql_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
)

// wantResults is what each query gives of the rows of stream.fill; a count of rows where they are
// many.
var wantResults = map[string]string{
	"top10": "10 rows",
	"busiest": "[[4856 15 2022-02-10 10:00:00 2022-02-10 10:01:03] [4000 5 2022-02-10 10:00:00 " +
		"2022-02-10 10:00:02] [-7 1 2022-02-10 10:01:00 2022-02-10 10:01:00]]",
	"by_type": "[[car 9] [Lkw-Größe € 7] [CAR 5]]",
	"last_hour": "[[4856 15 2022-02-10 10:00:00 2022-02-10 10:01:03] [4000 5 2022-02-10 10:00:00 " +
		"2022-02-10 10:00:02] [-7 1 2022-02-10 10:01:00 2022-02-10 10:01:00]]",
	"indexes": "7 rows",
	"congestion": "[[4000 Höhe saturated 2022-02-10 10:12:00 1.13 2900 725 NULL NULL 12.5 0.92 " +
		"2022-02-10 10:30:00 why]" +
		" [3 NULL below_usual 2022-02-10 09:12:00 NULL 40 10 35.5 -4.2 NULL NULL 2022-02-10 " +
		"10:30:00 why]" +
		" [4856 NULL busy 2022-02-10 10:15:00 0.8 1000 250 NULL NULL 0 0.5 2022-02-10 10:30:00 why]" +
		" [2 NULL free 2022-02-10 10:15:00 NULL 1200 300 NULL NULL 0 0.5 2022-02-10 10:30:00 why]]",
	"history": `[[4000 2022-02-10 10:00:00 2022-02-10 10:15:00 12 48 {"car":12} 10 2 1 3 watermark] [4000 2022-02-10 10:15:00 2022-02-10 10:30:00 8 32 {"car":8} 8 0 0 1 idle]]`,
	"incidents": "[[4000 Höhe 2022-02-10 10:10:00 2022-02-10 10:12:00 NULL saturated " +
		"why saturated NULL]" +
		" [3 NULL 2022-02-10 09:10:00 2022-02-10 09:12:00 2022-02-10 09:58:00 below_usual " +
		"why below_usual Ada]]",
	"journeys": "[]", // no vehicle is at two plazas
	"origins":  "[[other other 2]]",
	"late":     "[[4000 1m 5 0 2 28.57 1] [4000 15m 21 2 1 13.64 3]]",
}

// fillResults fills the tables of results as well.
func fillResults(t *testing.T, s *dbtest.Store) {
	t.Helper()
	window := func(plaza int16, kind, start, end string, revision, events, late, tooLate int,
		reason string) {
		dbtest.Exec(t, s, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute,
			window_start, window_end, whole, epoch, revision, events,
			late, too_late, result_too_late, by_type, flow_per_hour, reason, published, stored_at)
			VALUES (?, ?, ?, ?, ?, ?, 1, 7, ?, ?, ?, ?, 0, ?, ?, ?, 1, NOW(6))`, plaza, kind,
			dbtest.MinuteOf(t, start), dbtest.MinuteOf(t, end), start, end,
			revision, events, late, tooLate, fmt.Sprintf(`{"car":%d}`, events), 4*events, reason)
	}
	window(4000, "15m", "2022-02-09 23:45", "2022-02-10 00:00", 1, 1, 0, 0, "watermark")
	window(4000, "15m", "2022-02-10 10:00", "2022-02-10 10:15", 3, 12, 2, 1, "watermark")
	window(4000, "15m", "2022-02-10 10:15", "2022-02-10 10:30", 1, 8, 0, 0, "idle")
	window(4000, "1m", "2022-02-10 10:15", "2022-02-10 10:16", 1, 5, 0, 2, "idle")
	for _, c := range []struct{ plaza, since, detected, from, to string }{
		{"3", "2022-02-10 09:10", "2022-02-10 09:12", "free", "below_usual"},
		{"3", "2022-02-10 09:58", "2022-02-10 10:00", "below_usual", "free"},
		{"4000", "2022-02-10 10:03", "2022-02-10 10:05", "free", "busy"},
		{"4000", "2022-02-10 10:10", "2022-02-10 10:12", "busy", "saturated"},
	} {
		dbtest.Exec(t, s, `INSERT INTO toll_transition (toll_plaza_id, detected_minute, since_minute,
			detected, since, from_state, to_state, why, measure, epoch, published, stored_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, '{}', 0, 1, NOW(6))`, c.plaza,
			dbtest.MinuteOf(t, c.detected), dbtest.MinuteOf(t, c.since), c.detected, c.since, c.from, c.to,
			"why "+c.to)
	}
	dbtest.Exec(t, s, `INSERT INTO toll_incident_note (toll_plaza_id, detected_minute, noted_at,
		author, source, acknowledged, note) VALUES (3, ?, NOW(6), 'Ada', '', 1, '')`,
		dbtest.MinuteOf(t, "2022-02-10 09:12"))
	window(-7, "15m", "2022-02-11 10:15", "2022-02-11 10:30", 1, 8, 0, 0, "watermark")
	dbtest.Exec(t, s,
		`INSERT INTO toll_plaza (toll_plaza_id, name, road, position_km, lanes, capacity_per_lane,
			timezone) VALUES (4000, 'Höhe', 'A 9', 1.5, 4, 0, '')`)
	dbtest.Exec(t, s, `INSERT INTO toll_congestion (toll_plaza_id, state, since, why, assessed,
		assessed_until, vehicles_15m, flow_per_hour, heavy_share, phf, demand,
		capacity, vc, usual_15m, usual_weeks, z, assessment, updated_at) VALUES
		(2, 'free', '2022-02-10 10:15', 'why', '2022-02-10 10:30', 0, 300, 1200, 0, 0.5,
		0, NULL, NULL, NULL, 0, NULL, '{}', NOW(6)),
		(4856, 'busy', '2022-02-10 10:15', 'why', '2022-02-10 10:30', 0, 250, 1000, 0, 0.5, 0, 1300,
		0.8, NULL, 0, NULL, '{}', NOW(6)),
		(4000, 'saturated', '2022-02-10 10:12', 'why', '2022-02-10 10:30', 0, 725, 2900, 0.1253, 0.921, 0,
		2600, 1.1279, NULL, 0, NULL, '{}', NOW(6)),
		(3, 'below_usual', '2022-02-10 09:12', 'why', '2022-02-10 10:30', 0, 10, 40, NULL, NULL,
		40, NULL, NULL, 35.52, 8, -4.21, '{}', NOW(6))`)
}

// TestSettingsHaveTypes: of each setting it is known what it may be.
func TestSettingsHaveTypes(t *testing.T) {
	for _, q := range *sql.Queries {
		for _, name := range q.Settings {
			if _, ok := (*sql.Settings)[name]; !ok || sql.CheckSetting(name, "rubbish") == nil ||
				sql.CheckSetting(name, "") == nil {
				t.Errorf("%s: nothing says what %s may be", q.Name, name)
			}
		}
	}
	for _, good := range []string{"plaza=4856", "plaza=-7", "day=2022-02-10", "through=0",
		"until=2022-02-10 10:00:01", "changed=2022-10-30 02:00", "minutes=1440"} {
		name, value, _ := strings.Cut(good, "=")
		if err := sql.CheckSetting(name, value); err != nil {
			t.Error(err)
		}
	}
}

func TestQueries(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		dbtest.NewStream(t, s).Fill()
		fillResults(t, s)
		if len(s.Queries()) != len(wantResults) {
			t.Errorf("got %d queries, want %d", len(s.Queries()), len(wantResults))
		}
		for range 2 {
			for _, q := range s.Queries() {
				if q.Description == "" || strings.HasPrefix(q.Description, "-") {
					t.Errorf("%s: description %q", q.Name, q.Description)
				}
				columns, rows, err := s.Run(ctx, q.Name, nil)
				if err != nil {
					t.Errorf("%s: %v", q.Name, err)
					continue
				}
				got := fmt.Sprint(rows)
				if strings.HasSuffix(wantResults[q.Name], " rows") {
					got = text.Count(len(rows), "row")
				}
				if got != wantResults[q.Name] || len(columns) == 0 {
					t.Errorf("%s: got %s of %q, want %s", q.Name, got, columns, wantResults[q.Name])
				}
			}
		}
		_, rows, err := s.Run(ctx, "by_type", []string{"plaza=4000"})
		if err != nil || fmt.Sprint(rows) != "[[Lkw-Größe € 2] [car 2] [CAR 1]]" &&
			fmt.Sprint(rows) != "[[car 2] [Lkw-Größe € 2] [CAR 1]]" {
			t.Errorf("one plaza: %v, %v", rows, err)
		}
		if _, rows, _ = s.Run(ctx, "by_type", nil); len(rows) != 3 || rows[0][1] != "9" {
			t.Errorf("a setting stayed: %v", rows)
		}
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"plaza=-7"},
				`[[-7 2022-02-11 10:15:00 2022-02-11 10:30:00 8 32 {"car":8} 8 0 0 1 watermark]]`},
			{[]string{"plaza=4000", "day=2022-02-09"},
				`[[4000 2022-02-09 23:45:00 2022-02-10 00:00:00 1 4 {"car":1} 1 0 0 1 watermark]]`},
			{[]string{"day=2022-02-08"}, `[]`},
			{[]string{"plaza=1"}, `[]`},
		} {
			if _, rows, err := s.Run(ctx, "history", c.args); err != nil || fmt.Sprint(rows) != c.want {
				t.Errorf("history %q: %v, %v, want %s", c.args, rows, err, c.want)
			}
		}
		_, _, err = s.Run(ctx, "nothing", nil)
		dbtest.WantPermanent(t, err, `"nothing"`, "busiest, by_type")
		_, _, err = s.Run(ctx, "by_type", []string{"limit=1"})
		dbtest.WantPermanent(t, err, `"limit"`, "it has plaza")
	})
}

// The files run in the client as they are.
func TestQueriesInTheClient(t *testing.T) { dbtest.OnServers(t, testQueriesInTheClient) }

func testQueriesInTheClient(t *testing.T, s *dbtest.Store) {
	client, err := exec.LookPath("mariadb")
	if err != nil {
		client, err = exec.LookPath("mysql")
	}
	testkit.NeedService(t, "MariaDB's or MySQL's client", err == nil)
	c, err := mysql.ParseDSN(s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(c.Addr, ":")
	feed := func(name string) string {
		text, err := sql.QueryFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(client, "--no-defaults", "-h"+host, "-P"+port, "-u"+c.User,
			"--default-character-set=utf8mb4", c.DBName)
		cmd.Env = append(cmd.Environ(), "MYSQL_PWD="+c.Passwd)
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	feed("schema.sql")
	feed("schema.sql")
	if done := dbtest.Initialize(t, s); len(done) != 1 {
		t.Errorf("init after schema.sql: %q", done)
	}
	dbtest.NewStream(t, s).Fill()
	fillResults(t, s)
	dbtest.Exec(t, s, `INSERT INTO livetolldata WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL
		SELECT i + 1 FROM n WHERE i < 8) SELECT ADDTIME('2022-02-10 09:30', SEC_TO_TIME(60 * p + i)), i,
		'car', p FROM n, (SELECT 7 AS p UNION ALL SELECT 21) plazas`)
	for _, q := range s.Queries() {
		if out := feed(q.Name + ".sql"); strings.Count(out, "\n") < 2 {
			t.Errorf("%s: %q", q.Name, out)
		}
	}
}
