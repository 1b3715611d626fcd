package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
)

// TestDetection simulates four weeks at four plazas, with labelled incidents in the last of them,
// and scores what was noticed: how long after its onset each was certain, and how often there was
// an alarm without one.
func TestDetection(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	dir := t.TempDir()
	plazas, labels := filepath.Join(dir, "plazas.csv"), filepath.Join(dir, "labels.json")
	if err := os.WriteFile(plazas, []byte(strings.TrimSpace(`
id,name,lanes,vehicles_per_day,heavy_share
1,North,3,12000,0.08
2,East,2,8000,0.10
3,South,2,6000,0.05
4,West,4,16000,0.12
`)), 0o600); err != nil {
		t.Fatal(err)
	}
	const days = 29 // from a Monday on: four weeks of history before the last day
	args := []string{"emit", "--profile", "day", "--speed", "max", "--days", "29", "--start",
		"2026-03-02", "--seed", "7",
		"--plazas-file", plazas, "--labels", labels}
	for _, incident := range []string{
		"1,2026-03-24 08:10,1h30m,blockage", "1,2026-03-26 13:00,1h,surge,4",
		"1,2026-03-28 15:20,45m,blockage,0.2",
		"2,2026-03-23 17:05,2h,blockage", "2,2026-03-27 11:30,1h,surge,4",
		"3,2026-03-25 07:40,1h,blockage",
		"3,2026-03-29 12:00,1h,surge,5", "4,2026-03-23 09:00,40m,blockage",
		"4,2026-03-26 18:00,1h,blockage,0.3", "4,2026-03-30 10:00,1h,surge,3.5",
	} {
		args = append(args, "--incident", incident)
	}
	w.must("init", "--partitions", "4")
	w.must(args...)
	w.must("process", "--until-end", "--plazas-file", plazas)
	if v := w.verify("--deep"); v.Status != "exact" {
		t.Fatalf("verify: %+v", v)
	}
	w.windowsEqualSQL()

	alarms := w.alarms()
	var delays []time.Duration
	missed := 0
	text, err := os.ReadFile(labels)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l simulate.Label
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		wanted := map[string][]string{simulate.Blockage: {"below_usual"},
			simulate.Surge: {"above_usual", "busy", "saturated"}}[l.Kind]
		found := false
		for i := range alarms {
			a := &alarms[i]
			if a.plaza != l.Plaza || a.detected.Before(l.Start) || a.detected.After(l.End.Add(endNoticed)) {
				continue
			}
			a.explained = true
			if !found && slices.Contains(wanted, a.to) {
				found = true
				delays = append(delays, a.detected.Sub(l.Start))
			}
		}
		if !found {
			missed++
			t.Logf("missed: %+v", l)
		}
	}
	if len(delays) == 0 {
		t.Fatal("no incident was noticed")
	}
	slices.Sort(delays)
	falseAlarms, falseBusy := 0, 0
	for _, a := range alarms {
		switch {
		case a.explained:
		case a.to == "busy":
			falseBusy++
		default:
			falseAlarms++
			t.Logf("false alarm: %+v", a)
		}
	}
	plazaDays := float64(4 * days)
	t.Logf(
		"detected %d of %d incidents; onset delay: median %v, longest %v; false alarms: "+
			"%d (%.3f a plaza and day), and %d times busy (%.3f)",
		len(delays), len(delays)+missed, delays[len(delays)/2], delays[len(delays)-1], falseAlarms,
		float64(falseAlarms)/plazaDays, falseBusy, float64(falseBusy)/plazaDays)
	if missed > 0 || delays[len(delays)/2] > 15*time.Minute || delays[len(delays)-1] > 25*time.Minute {
		t.Errorf("an incident was missed or noticed late")
	}
	if float64(falseAlarms) > 0.1*plazaDays {
		t.Errorf("too many false alarms")
	}
}

// endNoticed is how long after an incident its end may still be noticed.
const endNoticed = 45 * time.Minute

// alarm is a change of congestion to a state that calls for something.
type alarm struct {
	plaza     int16
	to        string
	detected  time.Time
	explained bool
}

// alarms returns what toll_transition holds, but for the ends.
func (w *world) alarms() []alarm {
	w.t.Helper()
	rows, err := w.sql.Query(`SELECT toll_plaza_id, to_state, CAST(detected AS CHAR)
		FROM toll_transition
		WHERE to_state IN ('busy', 'saturated', 'below_usual', 'above_usual') ORDER BY detected`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []alarm
	for rows.Next() {
		var a alarm
		var detected string
		if err := rows.Scan(&a.plaza, &a.to, &detected); err != nil {
			w.t.Fatal(err)
		}
		if a.detected, err = time.Parse(time.DateTime, detected); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}
