package main

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

func TestParseKeep(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90d": 90 * day, "48h": 48 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute,
		"400d": 400 * day, "10m": 10 * time.Minute,
	} {
		got, err := parseKeep(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := parseKeep(keepText(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %v, %v", text, keepText(got), again, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5h", "1.5d", "90", "9999999d", "99999999h",
		"a week"} {
		if got, err := parseKeep(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestPruneBefore(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2022, 2, 10, 23, 30, 0, 0, time.UTC) // 8:30 of the next day there
	resolve := func(text string, clocks toll.Clocks) (toll.WallTime, error) {
		b, err := parseBefore(text)
		if err != nil {
			return 0, err
		}
		return b.resolve(tokyo, clocks)
	}
	agree := toll.Clocks{Event: now, Record: now, Server: now, Own: now}
	for text, want := range map[string]string{
		"2022-02-10": "2022-02-10 00:00:00", "2022-02-10 10:00": "2022-02-10 10:00:00",
		"2022-02-11T08:30":    "2022-02-11 08:30:00",
		"2022-02-10 10:00:05": "2022-02-10 10:00:05", " 1d ": "2022-02-10 08:30:00",
		"36h": "2022-02-09 20:30:00",
	} {
		if got, err := resolve(text, agree); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"": "missing", "0": "is no time",
		"yesterday": "is no time", "2022-02-30": "is no time", "2022-02-11 08:31": "is in the future"} {
		if got, err := resolve(text, agree); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}

	// One wrong clock, whichever it is, makes nothing older.
	ahead, behind := now.AddDate(1, 0, 0), now.AddDate(-1, 0, 0)
	for name, c := range map[string]struct {
		clocks toll.Clocks
		want   string
	}{
		"this machine ahead": {toll.Clocks{Event: now, Record: now, Server: now, Own: ahead},
			"2022-02-10 08:30:00"},
		"MySQL ahead": {toll.Clocks{Event: now, Record: now, Server: ahead, Own: now},
			"2022-02-10 08:30:00"},
		"event time ahead": {toll.Clocks{Event: ahead, Record: now, Server: now, Own: now},
			"2022-02-10 08:30:00"},
		"a replay": {toll.Clocks{Event: behind, Record: now, Server: now, Own: now},
			"2021-02-10 08:30:00"},
		"no events yet": {toll.Clocks{Server: ahead, Own: now}, "2022-02-10 08:30:00"},
	} {
		if got, err := resolve("1d", c.clocks); err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", name, got, err, c.want)
		}
	}
	for name, clocks := range map[string]toll.Clocks{
		"this machine ahead": {Event: now, Record: now, Server: now,
			Own: ahead}, "MySQL ahead": {Server: ahead, Own: now},
	} {
		if got, err := resolve("2022-02-12", clocks); err == nil ||
			!strings.Contains(err.Error(), "is in the future") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestUpkeep compacts what a process stored, through Kafka's topics and the codecs: all is exact
// before and after, and a rebuild counts the same from what is left.
func TestUpkeep(t *testing.T) {
	p := newPipeline(t, time.UTC)
	process := func() {
		t.Helper()
		p.expect(0, "process", "--until-end", "--batch-rows", "5", "--state-dir",
			filepath.Join(p.dir, "state"), "--instance", "a", "--log-level", "error")
	}
	verify := func() sql.Report {
		t.Helper()
		out, _ := p.expect(0, "verify", "--deep", "--json")
		var r sql.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Status != sql.Exact {
			t.Fatalf("got %+v", r)
		}
		return r
	}
	counts := func() string {
		t.Helper()
		out, _ := p.expect(0, "view", "--json")
		var v struct {
			Plazas []struct {
				Plaza, Total, Late, TooLate int64
				ByType                      map[string]int64 `json:"by_type"`
			}
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v", v)
	}
	var lines strings.Builder
	start := time.Date(2022, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 900 { // twelve days
		at := start.Add(time.Duration(i) * 20 * time.Minute)
		fmt.Fprintf(&lines, "%s,%d,%s,%d\n", at.Format("2006-01-02 15:04:05"), i,
			[]string{"car", "truck", "bus"}[i%3], 4000+i%4)
	}
	var b strings.Builder
	if code, stderr := p.command(t.Context(), lines.String(), &b, "emit", "--from", "-"); code != 0 {
		t.Fatalf("emit: %d\n%s", code, stderr)
	}
	process()
	before := verify()
	if before.Events != 900 || before.BatchRows < 150 {
		t.Fatalf("got %+v", before)
	}
	counted := counts()
	windows := p.number(`SELECT COUNT(*) FROM toll_window`)

	con := p.connection()
	log := slog.New(slog.DiscardHandler)
	store, err := con.openStore(sql.LoadAuto, log)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	meta, err := store.Meta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := &upkeep{con: con, settings: defaultUpkeepSettings(), kinds: defaultWindowSettings().kinds,
		clocks: newClockReader(store, meta.Lateness, time.Second),
		store:  store, writer: store.Writer(meta.TopicID),
		compactor: store.Compactor(meta.TopicID), stats: maintenance.NewStats(), log: log}
	marks := topology.NewWatermarkReader(con.cluster, con.topic)
	defer marks.Close()
	round := func() sql.Report {
		t.Helper()
		if err := u.round(t.Context(), marks, true, true); err != nil {
			t.Fatal(err)
		}
		return verify()
	}
	if r := round(); r.BatchRows != before.BatchRows {
		t.Errorf("young batches were compacted: %d rows of %d", r.BatchRows, before.BatchRows)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 30 MINUTE`)
	packed := round()
	if packed.BatchRows > 20 || packed.WindowsFolded != 0 || packed.Windows != before.Windows {
		t.Errorf("packed: %+v", packed)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 3 HOUR`)
	added := round()
	if added.BatchRows > 4 || added.Batches != before.Batches || added.WindowsFolded != 0 ||
		added.Windows != before.Windows || u.told != "" {
		t.Errorf("added up: %+v, %s", added, u.told)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_batch WHERE folded_minute > -2147483648`); n == 0 {
		t.Error("no minutes were added up")
	}
	if got := counts(); got != counted {
		t.Errorf("got %s, want %s", got, counted)
	}
	if out, _ := p.expect(0, "verify", "--deep"); !strings.Contains(out,
		"compacted into "+fmt.Sprint(added.BatchRows)+" rows") ||
		!strings.Contains(out, "checked, which are all") {
		t.Errorf("verify says:\n%s", out)
	}

	ran := func(step maintenance.Step, outcome maintenance.Outcome, want int64) {
		t.Helper()
		if got := u.stats.Read().Runs[maintenance.Run{Step: step, Outcome: outcome}]; got != want {
			t.Errorf("%s, %s: %d times, want %d", step, outcome, got, want)
		}
	}
	for _, step := range []maintenance.Step{maintenance.Join, maintenance.Rollup, maintenance.Expire} {
		ran(step, maintenance.Done, 3)
		ran(step, maintenance.Blocked, 0)
	}
	if got, want := u.stats.Read().Deleted["toll_batch"],
		before.BatchRows-added.BatchRows; got != want {
		t.Errorf("%d rows of toll_batch were deleted, want %d", got, want)
	}
	nowhere := topology.NewWatermarkReader(topology.Cluster{Brokers: []string{"127.0.0.1:1"},
		ClientID: "test"}, con.topic)
	defer nowhere.Close()
	if err := u.round(t.Context(), nowhere, true, true); err == nil {
		t.Error("a round went well without Kafka")
	}
	ran(maintenance.Join, maintenance.Done, 4) // which needs no watermark
	ran(maintenance.Rollup, maintenance.Failed, 1)
	ran(maintenance.Expire, maintenance.Failed, 1)

	p.expect(0, "rebuild", "--yes")
	process()
	if r := verify(); r.WindowsFolded != added.WindowsFolded {
		t.Errorf("after a rebuild: %+v", r)
	}
	if got := counts(); got != counted {
		t.Errorf("after a rebuild: %s, want %s", got, counted)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_window`); n != windows {
		t.Errorf("%d windows, want %d", n, windows)
	}

	p.expect(2, "prune", "--before", "2022-02-05")
	if out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--dry-run"); !strings.Contains(out,
		"holds 900 rows, 264 from before") {
		t.Errorf("prune says:\n%s", out)
	}
	out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--batch-rows", "100", "--yes")
	if !strings.Contains(out, "deleted 264 rows in ") {
		t.Errorf("prune says:\n%s", out)
	}
	if r := verify(); r.Pruned != 264 || r.Rows != 636 {
		t.Errorf("pruned: %+v", r)
	}
	if out, _ := p.expect(0, "view", "--plaza", "4000"); !strings.Contains(out,
		"rows deleted by tollstream prune") {
		t.Errorf("view says:\n%s", out)
	}
	p.execute(`DELETE FROM livetolldata LIMIT 1`)
	if out, _ := p.expect(1, "verify"); !strings.Contains(out, "1 row was deleted") {
		t.Errorf("verify says:\n%s", out)
	}
}

// number returns what a query counts.
func (p *pipeline) number(query string) (n int64) {
	p.t.Helper()
	db, err := dbsql.Open("mysql", p.connection().dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func TestUpkeepStats(t *testing.T) {
	u := &upkeep{stats: maintenance.NewStats()}
	began := time.Now()
	u.ran(t.Context(), maintenance.Join, nil, "")
	u.ran(t.Context(), maintenance.Rollup, nil, "plaza 1 is behind")
	u.ran(t.Context(), maintenance.Expire, errors.New("no answer"), "")
	ended, end := context.WithCancel(t.Context())
	end()
	u.ran(ended, maintenance.Join, context.Canceled, "")
	c := u.stats.Read()
	if at := c.LastSuccess[maintenance.Join]; at.Before(began) || at.After(time.Now()) {
		t.Errorf("joined at %v", at)
	}
	maps.DeleteFunc(c.Runs, func(_ maintenance.Run, n int64) bool { return n == 0 })
	if want := map[maintenance.Run]int64{{Step: maintenance.Join, Outcome: maintenance.Done}: 1,
		{Step: maintenance.Rollup, Outcome: maintenance.Blocked}: 1,
		{Step: maintenance.Expire, Outcome: maintenance.Failed}:  1}; !maps.Equal(c.Runs, want) {
		t.Errorf("got %v, want %v", c.Runs, want)
	}
}

func TestFoldRounds(t *testing.T) {
	for keep, want := range map[time.Duration]int{0: 1, minKeepBatches: 1, 30 * time.Minute: 3,
		defaultKeepBatches: 10, 30 * day: 10} {
		if got := foldRounds(keep); got != want {
			t.Errorf("%v: added up after %d rounds, want %d", keep, got, want)
		}
	}
}

func TestUpkeepSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--keep-batches 5m", "--keep-batches is 5m, want at least 10m, or 0 for ever"},
		{"--keep-minutes 1d", "--keep-minutes is 1d, want at least 4d, or 0 for ever"},
		{"--keep-windows 30d", "--keep-windows is 30d, want at least 60d, or 0 for ever"},
		{"--keep-dead-letters 1d", "--keep-dead-letters is 1d, want at least 30d, or 0 for ever"},
		{"--keep-windows soon", `--keep-windows: "soon" is no time such as 90d, 48h or 0`},
	} {
		var out, stderr strings.Builder
		code := run(t.Context(), append([]string{"tollstream", "process"}, strings.Fields(c.args)...),
			strings.NewReader(""), &out, &stderr)
		if code != 2 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: %d, %s", c.args, code, stderr.String())
		}
	}
	if defaultKeepMinutes != toll.MinKeptMinutes ||
		sql.KeepWindows(&defaultWindowSettings().kinds[0], defaultKeepWindows) != 40*day {
		t.Error("the help says otherwise")
	}
}
