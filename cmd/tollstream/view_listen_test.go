package main

import (
	"bufio"
	"bytes"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// listening is a live view that runs.
type listening struct {
	t      *testing.T
	url    string
	client *http.Client
	stop   func()
	ended  chan error
}

// listen serves the live view of a pipeline until stop or the end of the test.
func (p *testbed) listen(t *testing.T, args ...string) *listening {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listening{t: t, stop: stop, ended: make(chan error, 1),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}}
	reader, writer := io.Pipe()
	go func() {
		code, stderr := p.command(ctx, "", writer,
			append([]string{"view", "--listen", "127.0.0.1:0", "--log-level", "error"}, args...)...)
		_ = writer.Close()
		if code != 0 || stderr != "" {
			l.ended <- fmt.Errorf("exit status %d: %s", code, stderr)
		}
		close(l.ended)
	}()
	t.Cleanup(func() {
		stop()
		l.client.CloseIdleConnections()
		<-l.ended
	})
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err, <-l.ended)
	}
	l.url = strings.TrimSpace(strings.TrimPrefix(line, "view at "))
	return l
}

// get returns what is served at a path, which must answer with a status.
func (l *listening) get(status int, path string) string {
	l.t.Helper()
	got, body := l.ask(path)
	if got != status {
		l.t.Fatalf("%s: status %d, want %d: %s", path, got, status, body)
	}
	return body
}

func (l *listening) ask(path string) (status int, body string) {
	l.t.Helper()
	answer, err := l.client.Get(l.url + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		l.t.Fatalf("%s: status %d: %s %v", path, answer.StatusCode, text, err)
	}
	return answer.StatusCode, string(text)
}

// until gets JSON again and again until it is as wanted.
func (l *listening) until(path string, wanted func(map[string]any) bool) map[string]any {
	l.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		status, body := l.ask(path)
		switch {
		case status == http.StatusOK:
			if v := decodeJSON(l.t, body); wanted(v) {
				return v
			}
		// as on a busy machine, while there are no figures yet
		case status != http.StatusServiceUnavailable:
			l.t.Fatalf("%s: status %d: %s", path, status, body)
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s stays %s", path, body)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// text returns the rows of a query, a line each.
func (p *testbed) text(query string) string {
	p.t.Helper()
	db, err := dbsql.Open("mysql", p.Connection().DSN)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		p.t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		p.t.Fatal(err)
	}
	var b strings.Builder
	for rows.Next() {
		cells := make([]dbsql.NullString, len(names))
		into := make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			p.t.Fatal(err)
		}
		for i := range cells {
			fmt.Fprint(&b, cells[i].String, " ")
		}
		b.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		p.t.Fatal(err)
	}
	return b.String()
}

// TestViewListen compares what the live view shows with what the database says.
func TestViewListen(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	p.windows.Lateness, p.windows.LatenessSet = 5*time.Minute, true
	p.windows.Plazas = []toll.Plaza{
		{ID: 4010, Name: "Forest", Road: "M1", PositionKm: 68, Lanes: 1, CapacityPerLane: 500,
			Timezone: "Asia/Kolkata"},
		{ID: 4011, Name: "Lake", Lanes: 4}, {ID: 4099, Name: "Silent"},
	}
	l := p.listen(t)
	if v := decodeJSON(t, l.get(200, "api/v1/plazas")); len(v["plazas"].([]any)) != 0 ||
		v["stream_time"] != nil {
		t.Errorf("before the first event: %v", v)
	}
	l.get(404, "api/v1/plazas/4010")

	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	event := func(at time.Time, n int, typ string, plaza int) string {
		return fmt.Sprintf("%s,%d,%s,%d\n", at.Format(time.ANSIC), n, typ, plaza)
	}
	// A week before, and today.
	var lines strings.Builder
	for n := range 60 * 2 {
		lines.WriteString(event(start.Add(-7*24*time.Hour+time.Duration(n)*30*time.Second), n, "car",
			4010))
	}
	for n := range 40 * 6 {
		for plaza := 4010; plaza <= 4012; plaza++ {
			lines.WriteString(event(start.Add(time.Duration(n)*10*time.Second), n,
				[]string{"car", "truck"}[n%2], plaza))
		}
	}
	var out bytes.Buffer
	if code, stderr := p.command(t.Context(), "rubbish\n", &out, "emit", "--from", "-",
		"--raw"); code != 0 {
		t.Fatal(stderr)
	}
	p.events(lines.String())
	board := l.until("api/v1/plazas", func(v map[string]any) bool {
		verdict, plazas := v["verification"].(map[string]any), v["plazas"].([]any)
		return len(plazas) == 4 && verdict["status"] == "exact" && verdict["rows"] == 840. &&
			v["watermark"] != nil
	})
	if board["stream_time"] != "2026-03-02T07:39:00Z" || board["timezone"] != "UTC" ||
		board["stale"] != false {
		t.Errorf("%v", board)
	}
	var rows, states, want strings.Builder
	for _, row := range board["plazas"].([]any) {
		row := row.(map[string]any)
		if row["total"] == 0. {
			if row["id"] != 4099. || row["state"] != "no_data" || row["name"] != "Silent" {
				t.Errorf("%v", row)
			}
			continue
		}
		fmt.Fprintln(&rows, row["id"], row["total"], "")
		fmt.Fprintf(&states, "%v %v %.2f \n", row["id"], row["state"], row["flow_per_hour"])
		var before any // the first event, where nothing is known
		if row["id"] == 4010. {
			before = 0. // it had one a week ago
		}
		if n := row["sparkline"].([]any); len(n) != 48 || n[47] != 60. || n[46] != 90. || n[45] != 90. ||
			n[44] != before {
			t.Errorf("sparkline %v", n)
		}
	}
	if got, want := rows.String(),
		p.text(
			`SELECT toll_plaza_id, COUNT(*) FROM livetolldata GROUP BY toll_plaza_id ORDER BY toll_plaza_id`); got != want {
		t.Errorf("plazas\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(
		p.text(
			`SELECT toll_plaza_id, state, flow_per_hour FROM toll_congestion ORDER BY toll_plaza_id`)) {
		var plaza int
		var state string
		var flow float64
		if _, err := fmt.Sscan(line, &plaza, &state, &flow); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "%d %s %.2f \n", plaza, state, flow)
	}
	if got := states.String(); got != want.String() {
		t.Errorf("states\n%s\nwant\n%s", got, want.String())
	}

	detail := decodeJSON(t, l.get(200, "api/v1/plazas/4010"))
	if detail["timezone"] != "Asia/Kolkata" || detail["name"] != "Forest" ||
		detail["position_km"] != 68. || detail["vc"] != 1.08 || detail["state"] != "saturated" ||
		detail["usual"] != nil {
		t.Errorf("%v", detail)
	}
	// 40 minutes to the stream's time, and the same 40 minutes a week before.
	if detail["day_so_far"] != 240. || detail["day_so_far_last_week"] != 80. {
		t.Errorf("day so far %v, a week before %v", detail["day_so_far"], detail["day_so_far_last_week"])
	}
	counts := func(list any) (all []string) {
		for _, point := range list.([]any) {
			point := point.(map[string]any)
			if n := point["count"]; n != nil && n != 0. {
				all = append(all, fmt.Sprint(point["start"].(string)[11:16], " ", n, " ", point["capacity"]))
			}
		}
		return all
	}
	if got, want := fmt.Sprint(counts(detail["quarters"])),
		"[12:30 90 125 12:45 90 125 13:00 60 125]"; got != want {
		t.Errorf("quarters %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(counts(detail["last_week"])),
		"[12:30 30 125 12:45 30 125 13:00 30 125 13:15 30 125]"; got != want {
		t.Errorf("last week %s, want %s", got, want)
	}
	quarters := detail["quarters"].([]any)
	if first, last := quarters[0].(map[string]any),
		quarters[len(quarters)-1].(map[string]any); len(quarters) != 96 || first["count"] != 0. ||
		last["count"] != nil ||
		first["start"] != "2026-03-02T00:00:00+05:30" {
		t.Errorf("%d quarters, %v to %v", len(quarters), first, last)
	}
	if changes := detail["changes"].([]any); len(changes) < 2 ||
		changes[0].(map[string]any)["to"] != "saturated" {
		t.Errorf("changes %v", changes)
	}
	if windows := detail["recent_windows"].([]any); len(windows) < 20 {
		t.Errorf("%d recent windows", len(windows))
	}
	l.get(200, "api/v1/plazas/4099")

	// All windows of a kind, in pages, are those of the table.
	var windows strings.Builder
	for next := ""; ; {
		page := decodeJSON(t, l.get(200, "api/v1/plazas/4010/windows?kind=15m&limit=2"+next))
		if got := fmt.Sprint(page["kinds"]); got != "[1m 5m/1m 15m 1h day]" {
			t.Errorf("kinds %s", got)
		}
		for _, w := range page["windows"].([]any) {
			w := w.(map[string]any)
			at, err := time.Parse(time.RFC3339, w["start"].(string))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&windows, at.Unix()/60, w["count"], w["revision"], "")
		}
		if page["next"] == nil {
			break
		}
		next = "&before=" + page["next"].(string)
	}
	if got, want := windows.String(),
		p.text(
			`SELECT start_minute, events, revision FROM toll_window WHERE toll_plaza_id = 4010
				AND kind = '15m' ORDER BY start_minute DESC`); got != want || got == "" {
		t.Errorf("windows\n%s\nwant\n%s", got, want)
	}

	// The past, by the plaza's clock, is that of the tables.
	week := decodeJSON(t, l.get(200, "api/v1/plazas/4010/flow?from=2026-02-23&to=2026-02-24"))
	if got, want := fmt.Sprint(counts(week["quarters"])),
		fmt.Sprint(counts(detail["last_week"])); got !=
		want || week["from"] != "2026-02-23T00:00:00+05:30" {
		t.Errorf("flow from %v: %s, want %s", week["from"], got, want)
	}
	part := decodeJSON(t, l.get(200,
		"api/v1/plazas/4010/flow?from=2026-03-02T12:40&to=2026-03-02T13:01"))
	if got := fmt.Sprint(counts(part["quarters"])); got != "[12:45 90 125 13:00 60 125]" {
		t.Errorf("flow of a part: %s", got)
	}
	if cars := part["quarters"].([]any)[0].(map[string]any)["passenger_cars"]; cars != 135. {
		t.Errorf("%v passenger cars", cars)
	}
	for path, query := range map[string]string{
		"transitions?limit=500": `SELECT COUNT(*) FROM toll_transition WHERE toll_plaza_id = 4010`,
		"transitions?limit=500&from=2026-03-02T12:50&to=2026-03-02T13:00": `SELECT COUNT(*)
			FROM toll_transition WHERE toll_plaza_id = 4010
			AND detected >= '2026-03-02 07:20' AND detected < '2026-03-02 07:30'`,
		"windows?limit=500&kind=5m/1m&from=2026-03-02T12:35&to=2026-03-02T12:50": `SELECT COUNT(*)
			FROM toll_window WHERE toll_plaza_id = 4010 AND kind = '5m/1m'
			AND window_start >= '2026-03-02 07:05' AND window_start < '2026-03-02 07:20'`,
	} {
		name, _, _ := strings.Cut(path, "?")
		list := decodeJSON(t, l.get(200, "api/v1/plazas/4010/"+path))[name].([]any)
		if got := fmt.Sprint(len(list)); got != strings.TrimSpace(p.text(query)) {
			t.Errorf("%s: %s, want %s", path, got, p.text(query))
		}
	}
	rowsSent := strings.Count(l.get(200, "api/v1/plazas/4010/windows.csv?from=2026-02-01"), "\r\n")
	if got, want := fmt.Sprint(rowsSent-1), strings.TrimSpace(
		p.text(`SELECT COUNT(*) FROM toll_window WHERE toll_plaza_id = 4010`)); got != want {
		t.Errorf("%s windows as CSV, want %s", got, want)
	}

	letters := decodeJSON(t, l.get(200, "api/v1/dead-letters"))
	if all := letters["dead_letters"].([]any); letters["total"] != 1. || len(all) != 1 ||
		all[0].(map[string]any)["payload"] != "rubbish" || letters["next"] != nil {
		t.Errorf("%v", letters)
	}
	contains(t, l.get(200, "metrics"), "\ntollstream_view_events 840\n",
		"\ntollstream_view_rows 840\n", "\ntollstream_view_in_flight 0\n",
		`tollstream_view_verification{status="exact"} 1`,
		`tollstream_view_verification{status="mismatch"} 0`,
		`tollstream_view_plazas{state="saturated"} 1`,
		`tollstream_view_plaza_vc_ratio{plaza="4010"} 1.08`,
		`tollstream_view_plaza_flow_vehicles_per_hour{plaza="4012"} 360`,
		"\ntollstream_view_watermark_age_seconds ", "\ntollstream_web_streams ", "\ngo_goroutines ",
		"\nprocess_open_fds ")
	l.get(200, "readyz")
	l.get(200, "healthz")
	contains(t, l.get(200, ""), "<!doctype html>")

	// A row without a plaza, which only someone else can have inserted, and then a deleted one.
	p.execute(
		`INSERT INTO livetolldata (timestamp, vehicle_id, vehicle_type, toll_plaza_id)
			VALUES ('2026-03-02 07:00:00', 1, 'car', NULL)`)
	mismatch := func(v map[string]any) bool { return v["status"] == "mismatch" }
	verdict := l.until("api/v1/verification", mismatch)
	contains(t, fmt.Sprint(verdict["problems"]), "plaza NULL")
	p.execute(`DELETE FROM livetolldata WHERE toll_plaza_id IS NULL`)
	l.until("api/v1/verification", func(v map[string]any) bool { return v["status"] == "exact" })
	p.execute(`DELETE FROM livetolldata WHERE toll_plaza_id = 4011 LIMIT 1`)
	verdict = l.until("api/v1/verification", mismatch)
	contains(t, fmt.Sprint(verdict["problems"]), "plaza 4011", "1 row was deleted")
	for _, row := range verdict["plazas"].([]any) {
		row := row.(map[string]any)
		want := "exact"
		if row["id"] == 4011. {
			want = "mismatch"
		}
		if row["status"] != want {
			t.Errorf("%v, want %s", row, want)
		}
	}

	// With a stream that is open it ends soon.
	stream, err := l.client.Get(l.url + "api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil {
		t.Error(line, err)
	}
	began := time.Now()
	l.stop()
	if err := <-l.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second { // a stream never ends by itself
		t.Errorf("it took %v to end", took)
	} else {
		t.Logf("ended after %v", took)
	}
}

// TestViewListenAway takes the database away, and gives it back.
// TestJourneysListen has vehicles that drive from one plaza to the next, each with its own id.
func TestJourneysListen(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	l := p.listen(t)
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	var lines strings.Builder
	for n := range 240 {
		for i, plaza := range []int{4006, 4007} {
			at := start.Add(time.Duration(10*n+i*(150+n%7)) * time.Second)
			fmt.Fprintf(&lines, "%s,%d,car,%d\n", at.Format(time.ANSIC), 1000+n, plaza)
		}
	}
	p.events(lines.String())
	l.until("api/v1/plazas", func(v map[string]any) bool { return len(v["plazas"].([]any)) == 2 })
	j := l.until("api/v1/journeys", func(map[string]any) bool { return true })
	sections, _ := j["sections"].([]any)
	if j["status"] != "journeys" || len(sections) != 1 {
		t.Fatalf("%v", j)
	}
	if s := sections[0].(map[string]any); s["from"] != 4006. || s["to"] != 4007. ||
		s["median_seconds"] != 153. || s["usual_seconds"] != 153. || s["slow"] != false ||
		s["vehicles"].(float64) < 80 {
		t.Errorf("%v", s)
	}
	through := l.until("api/v1/plazas/4007/journeys", func(map[string]any) bool { return true })
	origin := through["origins"].([]any)[0].(map[string]any)
	if through["vehicles"].(float64) < 200 || origin["plaza"] != 4006. || origin["share"] != 1. {
		t.Errorf("%v", through)
	}
	l.get(404, "api/v1/plazas/4010/journeys")
}

func TestViewListenAway(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	p.events(testEvents)
	l := p.listen(t)
	l.until("api/v1/verification", func(v map[string]any) bool {
		return v["status"] == "exact" && v["rows"] == 6.
	})
	p.execute(`RENAME TABLE toll_meta TO toll_meta_away`)
	l.until("api/v1/verification", func(v map[string]any) bool { return v["stale"] == true })
	l.get(503, "readyz")
	l.get(200, "healthz")
	p.execute(`RENAME TABLE toll_meta_away TO toll_meta`)
	l.until("api/v1/verification", func(v map[string]any) bool {
		return v["stale"] == false && v["status"] == "exact"
	})
	var board struct{ Plazas []json.RawMessage }
	if err := json.NewDecoder(bytes.NewBufferString(l.get(200, "api/v1/plazas"))).Decode(
		&board); err != nil || len(board.Plazas) != 3 {
		t.Errorf("%d plazas, %v", len(board.Plazas), err)
	}
}
