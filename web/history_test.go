package web

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

// TestRanges asks for the same stretch in every form, on a plaza whose clock is six hours behind
// the database's and was set forward on March 8.
func TestRanges(t *testing.T) {
	source := newNetwork(2).source()
	d := *source.plazas[4000]
	d.Plaza.ID = 4001 // America/Chicago
	source.plazas[4001] = &d
	r := start(t, source, nil)
	r.awaitBoard()
	for _, c := range []struct {
		query    string
		from, to string
	}{
		{"from=2026-03-02&to=2026-03-03", "2026-03-02T00:00:00-06:00", "2026-03-03T00:00:00-06:00"},
		{"from=2026-03-02T06:15&to=2026-03-02T07:00:30", "2026-03-02T06:15:00-06:00",
			"2026-03-02T07:00:30-06:00"},
		{"from=2026-03-02T12:15:00Z&to=2026-03-02T14:00:00%2B01:00", "2026-03-02T06:15:00-06:00",
			"2026-03-02T07:00:00-06:00"},
		{"to=2026-03-02T14:00:00+01:00&from=2026-03-02", "2026-03-02T00:00:00-06:00",
			"2026-03-02T07:00:00-06:00"},
		{"from=2026-03-08&to=2026-03-09", "2026-03-08T00:00:00-06:00", "2026-03-09T00:00:00-05:00"},
		{"from=2026-03-08T02:30&to=2026-03-08T03:30", "2026-03-08T03:00:00-05:00",
			"2026-03-08T03:30:00-05:00"},
	} {
		var got struct{ From, To string }
		a := r.Want(200, r.Get("/api/v1/plazas/4001/flow?"+c.query))
		if err := json.Unmarshal(a.Body, &got); err != nil || got.From != c.from || got.To != c.to {
			t.Errorf("%s: %s to %s, %v, want %s to %s", c.query, got.From, got.To, err, c.from, c.to)
		}
	}
	for query, want := range map[string]string{
		"from=2026-03-03&to=2026-03-02":                       "to: want a time after from",
		"from=2026-03-03&to=2026-03-03":                       "to: want a time after from",
		"from=yesterday":                                      "from: want a time as 2026-03-02T06:00",
		"to=2026-02-30":                                       "to: want a time",
		"from=1815-06-18":                                     "from 1970 to 2999",
		"to=9999-12-31T23:59:59Z":                             "from 1970 to 2999",
		"from=2026-03-02&to=2026-03-11":                       "up to 8 days after from",
		"since=1":                                             "since: is unknown",
		"from=2026-03-02T06:00&from=2026-03-02T06:00":         "occurs 2 times",
		"from=" + strings.Repeat("2026-03-02T06:00:00Z", 100): "from: want a time",
	} {
		a := r.Want(400, r.Get("/api/v1/plazas/4001/flow?"+query))
		if !strings.Contains(string(a.Body), want) {
			t.Errorf("%s: %s, want %q", query, a.Body, want)
		}
	}
}

// TestTransitionPages goes through changes page by page within a range.
func TestTransitionPages(t *testing.T) {
	source := newNetwork(1).source()
	var want []string
	d := source.plazas[4000]
	d.Changes = nil
	for i := range 20 {
		at := epoch.Add(-time.Duration(i) * time.Hour)
		d.Changes = append(d.Changes, board.Change{Since: at, Detected: at, Why: fmt.Sprint(i)})
		if i >= 3 && i < 15 {
			want = append(want, fmt.Sprint(i))
		}
	}
	r := start(t, source, nil)
	r.awaitBoard()
	var got []string
	query := "limit=5&from=" + epoch.Add(-14*time.Hour).Format(time.RFC3339) + "&to=" +
		epoch.Add(-2*time.Hour).Format(time.RFC3339)
	for next := new(""); next != nil; {
		var page struct {
			Transitions []struct{ Why string }
			Next        *string
		}
		a := r.Want(200, r.Get("/api/v1/plazas/4000/transitions?"+query+"&before="+*next))
		if err := json.Unmarshal(a.Body, &page); err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Transitions {
			got = append(got, c.Why)
		}
		next = page.Next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestWindowsCSV reads a file of several parts, and one that the source cuts off.
func TestWindowsCSV(t *testing.T) {
	source := newNetwork(1).source()
	source.windows = nil
	const windows = 2*windowsAtOnce + 17
	for i := range windows {
		source.windows = append(source.windows, board.Window{Kind: "1m", Count: int64(i),
			Start:  epoch.Add(-time.Duration(i) * time.Minute),
			End:    epoch.Add(-time.Duration(i-1) * time.Minute),
			ByType: map[string]int64{`=cmd|"x"`: int64(i)}, Reason: "=1+1", TooLate: 1})
	}
	r := start(t, source, nil)
	r.awaitBoard()
	a := r.Want(200, r.Get("/api/v1/plazas/4000/windows.csv?kind=1m&to=2026-03-02T07:16"))
	rows, err := csv.NewReader(strings.NewReader(string(a.Body))).ReadAll()
	if err != nil || len(rows) != windows+1 {
		t.Fatalf("%d rows, %v, want %d", len(rows), err, windows+1)
	}
	if got, want := fmt.Sprint(rows[0], rows[2]),
		"[kind start end count flow_per_hour final revision reason on_time late too_late completeness "+
			"by_type] [1m 2026-03-02T07:14:00+01:00 2026-03-02T07:15:00+01:00 1 0 false 0 '=1+1 0 0 1 0.5 "+
			`{"=cmd|\"x\"":1}]`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i, row := range rows[1:] {
		if row[3] != fmt.Sprint(i) {
			t.Fatalf("row %d has %s", i, row)
		}
	}
	if got := a.Header.Get("Content-Disposition"); got !=
		`attachment; filename="plaza-4000-windows-20260223T0716-20260302T0716.csv"` {
		t.Error(got)
	}
	part := r.Want(200,
		r.Get("/api/v1/plazas/4000/windows.csv?from=2026-03-02T07:00&to=2026-03-02T07:10"))
	if n := strings.Count(string(part.Body), "\r\n"); n != 11 {
		t.Errorf("%d lines of ten minutes", n)
	}

	source.set(func(f *fakeSource) { f.cutOff = errors.New("gone away") })
	resp, err := r.HTTP.Get(r.Base + "/api/v1/plazas/4000/windows.csv?to=2026-03-02T07:16")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a file that was cut off looks whole")
	}
}
