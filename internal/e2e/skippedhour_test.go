package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rangesEqualSQL compares each window with what its own range of time says of livetolldata, by SQL
// alone.
func (w *world) rangesEqualSQL() {
	w.t.Helper()
	rows, err := w.sql.Query(`SELECT w.toll_plaza_id, w.kind, CAST(w.window_start AS CHAR),
		CAST(w.window_end AS CHAR), w.events + w.too_late, COUNT(l.timestamp)
		FROM toll_window w LEFT JOIN livetolldata l
		ON l.toll_plaza_id = w.toll_plaza_id AND l.timestamp >= w.window_start
		AND l.timestamp < w.window_end
		GROUP BY w.toll_plaza_id, w.kind, w.start_minute, w.window_start, w.window_end, w.events,
		w.too_late`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	windows, bad := 0, 0
	for rows.Next() {
		var plaza, events, counted int
		var kind, start, end string
		if err := rows.Scan(&plaza, &kind, &start, &end, &events, &counted); err != nil {
			w.t.Fatal(err)
		}
		windows++
		if events != counted {
			bad++
			w.t.Logf("plaza %d, window %s %s to %s: %d events, but %d rows", plaza, kind, start, end, events,
				counted)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	if windows < 100 || bad > 0 {
		w.t.Errorf("%d of %d windows differ from SQL", bad, windows)
	}
}

// TestSkippedHour sends every quarter of a minute around a change of Berlin's clocks, the hour in
// spring that never occurs among them. Each window must be what SQL over livetolldata says, also
// those of plazas in other zones.
func TestSkippedHour(t *testing.T) {
	inParallel(t)
	for _, date := range []string{"2026-03-29", "2026-10-25"} {
		t.Run(date, func(t *testing.T) {
			w := newWorld(t)
			w.env = append(w.env, "TOLLSTREAM_TIMEZONE=Europe/Berlin")
			start, err := time.Parse(time.DateTime, date+" 00:30:00")
			if err != nil {
				t.Fatal(err)
			}
			var lines strings.Builder
			for at := start; at.Before(start.Add(5 * time.Hour)); at = at.Add(15 * time.Second) {
				fmt.Fprintf(&lines, "%s,%d,car,%d\n", at.Format(time.ANSIC), at.Unix()%1e6, 1+at.Unix()/15%4)
			}
			dir := t.TempDir()
			events, plazas := filepath.Join(dir, "events.csv"), filepath.Join(dir, "plazas.csv")
			for file, text := range map[string]string{
				events: lines.String(),
				plazas: "id,timezone\n2,America/New_York\n3,Australia/Lord_Howe\n4,Asia/Kathmandu\n",
			} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.must("init", "--partitions", "2")
			w.must("emit", "--from", events)
			w.must("process", "--until-end", "--plazas-file", plazas)
			if v := w.verify("--deep"); v.Status != "exact" || v.Rows != 5*60*4 {
				t.Fatalf("verify --deep: %+v", v)
			}
			w.rangesEqualSQL()
		})
	}
}
