package main

import (
	"bufio"
	"bytes"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
)

// pipeline is a stack with what the commands need to be run on it.
type testbed struct {
	*sandbox.Sandbox
	t       testing.TB
	dir     string
	windows pipeline.Windows // of process
}

func newPipeline(t testing.TB, location *time.Location) *testbed {
	t.Helper()
	quietLibraries()
	s, err := sandbox.Start(t.Context(), sandbox.Config{
		KafkaListen: "127.0.0.1:0", MySQLListen: "127.0.0.1:0", Location: location,
		Log:    slog.New(slog.DiscardHandler),
		Topics: kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &testbed{s, t, t.TempDir(), pipeline.DefaultWindows()}
}

// command runs a command line on the stack.
func (p *testbed) command(ctx context.Context, stdin string, stdout io.Writer,
	args ...string) (code int, stderr string) {
	args = append([]string{"tollstream"}, args...)
	con := p.Connection()
	name := args[1]
	switch name {
	case "sql", "report", "incidents": // without Kafka
	default:
		args = append(args, "--brokers", con.Cluster.Brokers[0])
	}
	if name != "emit" {
		args = append(args, "--mysql", con.DSN)
	}
	var b bytes.Buffer
	code = run(ctx, args, strings.NewReader(stdin), stdout, &b)
	return code, b.String()
}

// expect runs a command that must end with a code, and returns what it wrote.
func (p *testbed) expect(code int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	var b bytes.Buffer
	got, stderr := p.command(p.t.Context(), "", &b, args...)
	if got != code {
		p.t.Fatalf("%v: exit status %d, want %d\n%s%s", args, got, code, b.String(), stderr)
	}
	return b.String(), stderr
}

// events emits lines and processes them.
func (p *testbed) events(lines string) {
	p.t.Helper()
	p.emit(lines)
	p.process()
}

// emit sends events that wait in the topic then.
func (p *testbed) emit(lines string) {
	p.t.Helper()
	var b bytes.Buffer
	if code, stderr := p.command(p.t.Context(), lines, &b, "emit", "--from", "-", "--timezone",
		p.Connection().Location.String()); code != 0 {
		p.t.Fatalf("emit: %d\n%s%s", code, b.String(), stderr)
	}
}

// process runs the processor until the end of the topic.
func (p *testbed) process() {
	p.t.Helper()
	cfg := topology.DefaultConfig()
	con := p.Connection()
	cfg.Cluster, cfg.Topic, cfg.Group, cfg.Zone = con.Cluster, con.Topic, con.Group,
		toll.NewZone(con.Location)
	cfg.Instance, cfg.StateDir = "test", filepath.Join(p.dir, "state")
	cfg.Log, cfg.NewToken, cfg.Format = slog.New(slog.DiscardHandler), sql.NewToken, codecs.Auto
	store, err := con.OpenStore(cfg.Log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	if err := pipeline.Run(p.t.Context(), pipeline.Config{Topology: cfg, Store: store,
		Windows: p.windows, Retention: maintenance.DefaultRetention(), UntilEnd: true}); err != nil {
		p.t.Error(err)
	}
}

// execute runs a statement that harms the database.
func (p *testbed) execute(statement string) {
	p.t.Helper()
	db, err := dbsql.Open("mysql", p.Connection().DSN)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		p.t.Fatal(err)
	}
}

func decodeJSON(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func keys(m any) string {
	var names []string
	for k := range m.(map[string]any) {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// testEvents pass plaza 4856 within three minutes and 4000 an hour before.
const testEvents = `Thu Feb 10 09:20:00 2022,1,car,4000
Thu Feb 10 10:21:00 2022,2,car,4856
Thu Feb 10 10:21:59 2022,3,truck,4856
Thu Feb 10 10:23:02 2022,4,car,4856
Thu Feb 10 10:23:02 2022,4,car,4856
Thu Feb 10 10:23:03 2022,5,van,-7
`

func TestViewAndVerify(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t, berlin)

	// Nothing yet.
	out, _ := p.expect(0, "view")
	contains(t, out,
		"waiting for the first event; tollstream emit --profile day sends simulated ones\n")
	out, _ = p.expect(0, "view", "--json")
	if v := decodeJSON(t, out); len(v["plazas"].([]any)) != 0 || v["status"] != "exact" {
		t.Errorf("%v", v)
	}
	out, stderr := p.expect(1, "view", "--plaza", "4856")
	if out != "" {
		t.Errorf("stdout: %s", out)
	}
	contains(t, stderr, "tollstream: no vehicle has passed plaza 4856\n",
		"hint: no plaza has events yet")
	out, _ = p.expect(0, "verify")
	contains(t, out, "exact: nothing is stored yet\n")

	p.emit(testEvents)
	out, _ = p.expect(0, "view")
	contains(t, out, "waiting for the first event to be stored: the topic holds 6 events\n"+
		"NO PROCESS: no process has run yet; 6 events wait; start one with tollstream process\n"+
		"lag: 6 records of the topic\n")
	p.process()

	out, _ = p.expect(0, "verify")
	contains(t, out, "exact: each of 6 events is one row and counted once\n",
		"checksums of the rows not compared")
	out, _ = p.expect(0, "verify", "--deep", "--json")
	v := decodeJSON(t, out)
	for key, want := range map[string]any{"status": "exact", "events": 6., "rows": 6., "rejected": 0.,
		"merged": 6., "in_flight": 0., "deep": true} {
		if v[key] != want {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	if problems, ok := v["problems"].([]any); !ok || len(problems) != 0 {
		t.Errorf("problems: %v", v["problems"])
	}

	out, _ = p.expect(0, "view", "--sort", "total")
	contains(t, out, "exact: 6 vehicles at 3 plazas, each one row and counted once\n",
		"event time Thu 2022-02-10 10:23 CET, ", " behind the clock; watermark ")
	if at := strings.Index(out, "\n 4856 "); at < 0 || at > strings.Index(out, "\n 4000 ") ||
		at > strings.Index(out, "\n   -7 ") {
		t.Errorf("not the busiest first:\n%s", out)
	}
	out, _ = p.expect(0, "view", "--sort", "total", "--json")
	v = decodeJSON(t, out)
	plazas := v["plazas"].([]any)
	if len(plazas) != 3 || plazas[0].(map[string]any)["plaza"] != 4856. {
		t.Errorf("%v", plazas)
	}
	const plazaKeys = "ahead by_type congestion first_event last_event late late_quarter " +
		"lead_seconds plaza stream_time too_late total"
	if got, want := keys(plazas[0]), plazaKeys+" verification waiting watermark"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}

	out, _ = p.expect(0, "view", "--plaza", "4856", "--json")
	v = decodeJSON(t, out)
	if got, want := strings.NewReplacer("feed ", "", "notices ", "", "processing ",
		"").Replace(keys(v)),
		plazaKeys+" transitions verification waiting watermark windows"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	for key, want := range map[string]any{
		"plaza": 4856., "total": 4., "by_type": map[string]any{"car": 3., "truck": 1.},
		"first_event": "2022-02-10T10:21:00+01:00", "last_event": "2022-02-10T10:23:02+01:00",
		"stream_time": "2022-02-10T10:23:00+01:00",
	} {
		if !reflect.DeepEqual(v[key], want) {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	if _, err := time.Parse(time.RFC3339, v["watermark"].(string)); err != nil {
		t.Error(err)
	}
	var got []string
	for _, w := range v["windows"].([]any) {
		w := w.(map[string]any)
		if k := keys(w); k !=
			"by_type count end final flow_per_hour kind late on_time reason revision start too_late" {
			t.Errorf("keys %s", k)
		}
		if w["kind"] != "rolling" {
			continue
		}
		got = append(got, fmt.Sprint(w["start"], " ", w["end"], " ", w["count"], " ", w["flow_per_hour"],
			" ", w["final"], " ", w["revision"]))
	}
	if want := []string{
		"2022-02-10T10:23:00+01:00 2022-02-10T10:24:00+01:00 2 120 false 1",
		"2022-02-10T10:09:00+01:00 2022-02-10T10:24:00+01:00 4 16 false 1",
		"2022-02-10T09:24:00+01:00 2022-02-10T10:24:00+01:00 4 4 false 1",
	}; !slices.Equal(got, want) {
		t.Errorf("windows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := map[string]any{"table_count": 4., "stored_rows": 4., "baseline": 0., "pruned": 0.,
		"in_flight": 0., "checksum_ok": nil, "status": "exact"}; !reflect.DeepEqual(v["verification"],
		want) {
		t.Errorf("verification %v, want %v", v["verification"], want)
	}
	out, _ = p.expect(0, "view", "--plaza", "4856", "--deep", "--json")
	if ok := decodeJSON(t, out)["verification"].(map[string]any)["checksum_ok"]; ok != true {
		t.Errorf("checksum %v", ok)
	}
	out, _ = p.expect(0, "view", "--plaza=-7")
	contains(t, out, "plaza -7: 1 vehicle, the last at 2022-02-10 10:23:03 CET\n",
		"exact: each vehicle is one row and counted once\n")

	out, stderr = p.expect(1, "view", "--plaza", "1", "--json")
	if out != "" {
		t.Errorf("stdout: %s", out)
	}
	contains(t, stderr, "no vehicle has passed plaza 1\n", "hint: the plazas are -7, 4000, 4856\n")
	_, stderr = p.expect(1, "view", "--timezone", "UTC")
	contains(t, stderr, `serves timezone "Europe/Berlin", not "UTC"`)

	p.testWatch(t)

	// What is not stored yet.
	p.emit("Thu Feb 10 10:23:05 2022,6,car,4856\n")
	out, _ = p.expect(0, "view")
	contains(t, out, "exact: 6 vehicles", "\nlag: 1 record of the topic\n")
	out, _ = p.expect(0, "view", "--plaza", "4856")
	contains(t, out, "exact: each vehicle is one row and counted once\n", "lag ",
		"records of the topic, of any plaza, that are not stored yet\n")
	out, _ = p.expect(0, "view", "--json")
	if v := decodeJSON(t, out); v["waiting"] != 1. || v["total"] != 6. {
		t.Errorf("%s", out)
	}

	// A changed row: only the checksums show it.
	p.execute(`UPDATE livetolldata SET vehicle_id = 99 WHERE vehicle_id = 2`)
	p.expect(0, "verify")
	out, _ = p.expect(1, "verify", "--deep")
	contains(t, out, "MISMATCH: 1 problem\n", "plaza 4856: ")
	out, _ = p.expect(0, "view", "--plaza", "4856", "--deep")
	contains(t, out, "MISMATCH\n", "checksum")
	p.execute(`UPDATE livetolldata SET vehicle_id = 2 WHERE vehicle_id = 99`)

	// A deleted row.
	p.execute(`DELETE FROM livetolldata WHERE vehicle_id = 3`)
	out, _ = p.expect(1, "verify")
	contains(t, out, "MISMATCH: 1 problem\n", "1 row was deleted")
	out, _ = p.expect(1, "verify", "--json")
	if v := decodeJSON(t, out); v["status"] != "mismatch" || len(v["problems"].([]any)) != 1 {
		t.Errorf("%s, %v", v["status"], v["problems"])
	}
	for _, args := range [][]string{{"view", "--exit-code"},
		{"view", "--plaza", "4856", "--exit-code"}} {
		out, _ = p.expect(1, args...)
		contains(t, out, "MISMATCH", "what to do: ")
	}
	out, _ = p.expect(0, "view", "--plaza", "4000", "--exit-code")
	contains(t, out, "exact: ")
	out, _ = p.expect(0, "view")
	contains(t, out, "MISMATCH at 1 plaza: 4856")
	out, _ = p.expect(0, "view", "--plaza", "4856", "--json")
	if status := decodeJSON(t, out)["verification"].(map[string]any)["status"]; status != "mismatch" {
		t.Errorf("status %v", status)
	}

	// A state that counts as empty: the database was rebuilt.
	p.execute(`UPDATE toll_cursor SET epoch = epoch + 1`)
	out, _ = p.expect(0, "view", "--json")
	if v := decodeJSON(t, out); v["total"] != 0. || v["stream_time"] != nil || v["in_flight"] != 6. {
		t.Errorf("after a rebuild: %s", out)
	}
}

func TestVerdictExit(t *testing.T) {
	for status, want := range map[board.Status]int{board.Exact: 0, board.InFlight: 0,
		board.Mismatch: 1, board.NotVerified: 3} {
		if got := command.Report(io.Discard, verdictExit(status)); got != want {
			t.Errorf("%s: exit status %d, want %d", status, got, want)
		}
	}
}

// TestViewWindows looks at plazas of which windows have closed and were revised, and whose
// congestion was judged.
func TestViewWindows(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	p.windows.Lateness, p.windows.LatenessSet = 5*time.Minute, true
	p.windows.Plazas = []toll.Plaza{
		{ID: 4010, Name: "Forest", Road: "M1", PositionKm: 68, Lanes: 1, CapacityPerLane: 300,
			Timezone: "Asia/Kolkata"}, {ID: 4011, Name: "Lake", Lanes: 4},
	}
	event := func(at time.Time, n int, plaza int) string {
		return fmt.Sprintf("%s,%d,car,%d\n", at.Format(time.ANSIC), n, plaza)
	}
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	var lines strings.Builder
	for n := range 40 * 6 { // 40 minutes, 6 vehicles a minute at each plaza
		for plaza := 4010; plaza <= 4012; plaza++ {
			lines.WriteString(event(start.Add(time.Duration(n)*10*time.Second), n, plaza))
		}
	}
	p.events(lines.String())
	day := 24 * time.Hour
	p.events(event(start.Add(3*time.Minute), 1, 4010) + event(start.Add(-5*time.Hour), 2, 4010) +
		event(start.Add(-3*day), 3, 4010) +
		event(start.Add(9*time.Hour+39*time.Minute), 4, 4010) +
		event(start.Add(9*time.Hour+39*time.Minute), 5, 4010))

	out, _ := p.expect(0, "view", "--plaza", "4010")
	contains(t, out,
		"plaza 4010: 245 vehicles, the last at 2026-03-02 22:09:00 IST\nForest, M1 km 68, 1 lane\n",
		"saturated since 12:31 (33 min): throughput 360 pc/h is 120 % of the capacity of\n"+
			"300 pc/h (1 lane), which looks too low: check lanes and capacity_per_lane in the\n",
		"  flow          360  vehicles/h, 12:49–13:04\n  of capacity   120  %, "+
			"throughput of 360 pc/h over a capacity of 300 pc/h\n  headway      10.0  s from",
		"  usual           -  not known yet (needs 3 weeks)\n",
		"12:31  no data → saturated  360 vehicles/h, 120 % of cap.",
		"last minute      13:09–13:10    6 vehicles  so far\n",
		"1h     12:00–13:00       181     181     1         0    2  by watermark\n",
		"day     2026-02-27         0       0     0         1    -  -\n",
		"242 of 245 vehicles came on time\n")
	v := decodeJSON(t, first(p.expect(0, "view", "--plaza", "4010", "--json")))
	for key, want := range map[string]any{"late": 1., "late_quarter": 1., "too_late": 1., "ahead": 2.,
		"lead_seconds": 32350., "name": "Forest", "road": "M1",
		"lanes": 1., "watermark": "2026-03-02T13:04:50+05:30",
		"first_event": "2026-02-27T12:30:00+05:30"} {
		if v[key] != want {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	congestion := v["congestion"].(map[string]any)
	if congestion["state"] != "saturated" || congestion["since"] != "2026-03-02T12:31:00+05:30" ||
		congestion["until"] != "2026-03-02T13:04:00+05:30" || congestion["vc"] != 1.2 {
		t.Errorf("%v", congestion)
	}
	kinds := map[string]int{}
	for _, w := range v["windows"].([]any) {
		w := w.(map[string]any)
		kinds[w["kind"].(string)]++
		if w["kind"] != "rolling" && (w["revision"].(float64) < 1 && w["count"] != 0. ||
			w["on_time"].(float64)+w["late"].(float64) != w["count"]) {
			t.Errorf("%v", w)
		}
	}
	if kinds["rolling"] != 3 || kinds["1m"] != 10 || kinds["day"] < 2 {
		t.Errorf("%v", kinds)
	}

	out, _ = p.expect(0, "view", "--sort", "vc", "--top", "2")
	contains(t, out, "exact: 725 vehicles at 3 plazas", "event time Mon 2026-03-02 07:39 UTC, ",
		"; watermark 07:34:50\nnewest event ",
		" ago\n1 saturated, 2 free\n1 late, 1 late for minutes, 1 too late\n",
		"2 ran ahead, at plaza 4010 ", " 4010  Forest  ▲ saturated     360    120 %  wrong ",
		" 4011  Lake      free          360     13 % ", "and 1 plaza more\n")
	v = decodeJSON(t, first(p.expect(0, "view", "--sort", "vc", "--top", "1", "--json")))
	if plazas := v["plazas"].([]any); len(plazas) != 1 ||
		plazas[0].(map[string]any)["plaza"] != 4010. || plazas[0].(map[string]any)["windows"] != nil ||
		v["total"] != 725. {
		t.Errorf("%v", v)
	}

	out, _ = p.expect(0, "verify")
	contains(t, out, "exact: each of 725 events is one row and counted once\n",
		"  checked, of the last two days\n")
	out, _ = p.expect(0, "verify", "--deep")
	contains(t, out, "  checked, which are all\n")
	if v := decodeJSON(t, first(p.expect(0, "verify", "--json"))); v["windows"].(float64) < 250 ||
		v["windows_waiting"] != 0. {
		t.Errorf("%v windows, %v waiting", v["windows"], v["windows_waiting"])
	}
	p.execute(`UPDATE toll_window SET events = events + 1 WHERE toll_plaza_id = 4011 AND kind = '15m'`)
	out, _ = p.expect(1, "verify")
	contains(t, out, "MISMATCH: ", "plaza 4011")
}

func first(out, _ string) string { return out }

// testWatch watches for three updates and interrupts.
func (p *testbed) testWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		code, stderr := p.command(ctx, "", writer, "view", "--plaza", "4856", "--watch", "--json")
		writer.Close()
		if code != 0 || stderr != "" {
			ended <- fmt.Errorf("exit status %d: %s", code, stderr)
		}
		close(ended)
	}()
	lines := bufio.NewScanner(reader)
	for i := range 3 {
		if !lines.Scan() {
			t.Fatalf("ended after %d lines: %v", i, <-ended)
		}
		if v := decodeJSON(t, lines.Text()); v["total"] != 4. {
			t.Errorf("%s", lines.Text())
		}
	}
	cancel()
	_, _ = io.Copy(io.Discard, reader)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestViewWithoutTables runs the readers where init did not run.
func TestViewWithoutTables(t *testing.T) {
	t.Parallel()
	quietLibraries()
	broker, err := devstack.StartBroker(devstack.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	testkit.NeedDatabase(t, sandbox.Embedded, devstack.HasDatabase)
	database, err := devstack.StartDatabase(t.Context(),
		devstack.DatabaseConfig{Engine: sandbox.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	for _, command := range []string{"view", "verify"} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"tollstream", command, "--brokers", broker.Addr(), "--mysql",
			database.DSN()}, strings.NewReader(""), &stdout, &stderr)
		if code != 1 || stdout.Len() != 0 ||
			!strings.Contains(stderr.String(), "hint: run: tollstream init\n") {
			t.Errorf("%s: %d %s %s", command, code, stdout.String(), stderr.String())
		}
	}
}

// TestViewSpeed times the view of one of 1,000 plazas; set TOLLSTREAM_SPEED to run it.
func TestViewSpeed(t *testing.T) {
	if os.Getenv("TOLLSTREAM_SPEED") == "" {
		t.Skip("TOLLSTREAM_SPEED is not set")
	}
	p := newPipeline(t, time.UTC)
	var b bytes.Buffer
	if code, stderr := p.command(t.Context(), "", &b, "emit", "--plazas", "1-1000", "--count",
		"300000", "--rate", "0"); code != 0 {
		t.Fatal(stderr)
	}
	p.process()
	for range 5 {
		for _, args := range [][]string{{"view", "--plaza", "500"}, {"view"}, {"verify"}} {
			began := time.Now()
			p.expect(0, args...)
			t.Logf("%v took %v", args, time.Since(began))
		}
	}
}

var daysFile = flag.String("days", "",
	"write the board of simulated days to `FILE`, for the picture of internal/tui")

// TestSimulatedDays runs the pipeline on three Tuesdays, and a fourth up to 08:23 on which one
// plaza is blocked. It takes a minute.
func TestSimulatedDays(t *testing.T) {
	t.Parallel()
	if *daysFile == "" {
		t.Skip("it only serves to make the picture of internal/tui")
	}
	p := newPipeline(t, time.UTC)
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		t.Fatal(err)
	}
	p.windows.Plazas = plazas
	for _, day := range []string{"2026-03-03", "2026-03-10", "2026-03-17", "2026-03-24"} {
		args := []string{"emit", "--profile", "day", "--speed", "max", "--start", day, "--days", "1"}
		if day == "2026-03-24" {
			args = append(args[:len(args)-1], "0.3496", "--incident", "4003,+7h30m,50m,blockage,0.3",
				"--incident", "4010,+7h10m,70m,surge,3")
		}
		var out bytes.Buffer
		if code, stderr := p.command(t.Context(), "", &out, args...); code != 0 {
			t.Fatal(stderr)
		}
		p.process()
	}
	r, err := live.Open(t.Context(), live.Config{Connection: p.Connection(),
		Log: slog.New(slog.DiscardHandler), Silent: true, Repeated: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	r.Start()
	source := live.NewSource(nil)
	source.Open(r)
	b, err := source.Board(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := source.Plaza(t.Context(), 4007)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Board": b, "Detail": d})
	if err == nil {
		err = os.WriteFile(*daysFile, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
