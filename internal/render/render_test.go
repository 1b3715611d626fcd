package render

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// viewFixture is a board of four plazas at 10:23:02 on Thursday 2022-02-10.
type viewFixture struct {
	t *testing.T
	o Options
	b *board.Board
	// of plaza 4856
	history board.History
	now     toll.Minute
	wall    toll.WallTime
}

func newViewFixture(t *testing.T) *viewFixture {
	t.Helper()
	zone := toll.NewZone(time.UTC)
	at, err := toll.WallTimeFromDate(2022, 2, 10, 10, 23, 2)
	if err != nil {
		t.Fatal(err)
	}
	now := zone.Minute(at)
	busy := &toll.State{Events: 1_234_567, Earliest: at - 86400, Latest: at,
		Types: types(1_000_000, 234_567), Minutes: toll.Panes{List: []toll.Pane{
			{Start: now - 59, Types: types(80, 0)}, {Start: now - 14, Types: types(10, 10),
				Late: 3}, {Start: now - 1, Types: types(30, 10)},
			{Start: now, Types: types(1, 0)}, {Start: now + 90, Types: types(7, 0)},
		}}}
	quiet := &toll.State{Events: 3, Earliest: at - 3*86400, Latest: at - 2*86400, Types: types(3, 0)}
	rows := int64(1_234_660)
	return &viewFixture{t: t, o: Options{Order: board.ByTotal}, now: now, wall: at,
		b: &board.Board{
			At: now.Time().Add(3*time.Minute + 2*time.Second), Location: time.UTC,
			StreamTime: new(now.Time()), Watermark: new(now.Time().Add(-time.Second)),
			Plazas: []board.Plaza{
				{ID: 4856, Location: time.UTC, Counts: busy,
					Check: board.Check{TableCount: 1_234_567, StoredRows: &rows, InFlight: 93,
						Status: board.InFlight}},
				{ID: 4000, Location: time.UTC, Counts: quiet,
					Check: board.Check{TableCount: 3, Status: board.NotVerified}},
				{ID: board.NullPlaza, Location: time.UTC, Counts: new(toll.State),
					Check: board.Check{Status: board.Mismatch}},
			},
		}}
}

func types(cars, trucks int64) []toll.TypeCount {
	return []toll.TypeCount{{Type: "car", Count: cars}, {Type: "tr\x1bck", Count: trucks}}
}

// congested adds what process found out: plaza 4856 is saturated, 4000 has less than usual.
func (f *viewFixture) congested() {
	end := f.now - 1
	usual := &traffic.Usual{Median: 350.4, MAD: 20, N: 4}
	over, under := &f.b.Plazas[0], &f.b.Plazas[1]
	over.Describe(toll.Plaza{ID: 4856, Name: "Junc\x1btion", Road: "M2", PositionKm: 8.5, Lanes: 2})
	over.Assessment = &traffic.Assessment{
		State: traffic.Saturated, Since: end - 9, Until: end, First: end - 9000,
		Why: "throughput 1,420 pc/h is 109 % of the capacity of 1,300 pc/h (2 lanes); how long the " +
			"queue is can't be told from crossings\x07",
		Last: traffic.Measure{
			Plaza: 4856, End: end, Count15: 342, FlowPerHour: 1368, HeadwaySeconds: new(2.63),
			HeavyShare: new(0.038), PHF: new(0.912),
			Throughput: 1420, Lanes: 2, Capacity: new(1300.0), VC: new(1.0992), Usual: usual, Z: new(-0.28),
		},
	}
	change := func(from, to traffic.State, since, detected toll.Minute, m traffic.Measure) {
		f.history.Changes = append(f.history.Changes, board.Change{From: from, To: to,
			Since: since.Time(), Detected: detected.Time(), Measure: m})
	}
	change(traffic.Busy, traffic.Saturated, end-9, end-7,
		traffic.Measure{FlowPerHour: 1288, VC: new(1.0), Z: new(2.06)})
	change(traffic.Free, traffic.Busy, end-30, end-28,
		traffic.Measure{FlowPerHour: 992, VC: new(0.7599)})
	change(traffic.NoData, traffic.Free, end-8997, end-8995, traffic.Measure{FlowPerHour: 12})
	change(traffic.Free, traffic.NoData, end-9999, end-9995, traffic.Measure{})
	under.Assessment = &traffic.Assessment{
		State: traffic.BelowUsual, Since: end - 2*1440, Until: end,
		Why: "1 vehicle in 15 min, usual are 40 (z −6.2)",
		Last: traffic.Measure{Plaza: 4000, End: end, Count15: 1, FlowPerHour: 4, Throughput: 4,
			Usual: &traffic.Usual{Median: 40, N: 5}, Z: new(-6.2)},
	}
	window := func(kind string, start, length int64, revision, events, late, tooLate int64, whole bool,
		reason toll.CloseReason) {
		from, until := toll.Minute(start), toll.Minute(start+length)
		f.history.RecentWindows = append(f.history.RecentWindows, board.Window{
			Kind: kind, Start: from.Time(), End: until.Time(), Count: events,
			ByType:      board.ByType(types(events, 0)),
			FlowPerHour: toll.FlowPerHour(events, time.Duration(length)*time.Minute),
			Final:       whole && revision > 0, Revision: revision, Reason: reason,
			OnTime: events - late, Late: late, TooLate: tooLate,
		})
	}
	n := int64(f.now)
	day := n - 623 // midnight
	for i := range int64(4) {
		window("1m", n-2-i, 1, 1, 23+i, 0, 0, true, toll.ClosedByWatermark)
	}
	window("15m", n-23, 15, 2, 1_345, 12, 1, true, toll.ClosedByIdle)
	window("15m", day-15, 15, 0, 0, 0, 3, true, "")
	window("da\x1by", day, 615, 41, 23_456, 130, 0, false, toll.ClosedByWatermark)
	window("da\x1by", day-1440, 1440, 97, 43_456, 130, 4, true, toll.ClosedByEnd)
	over.Counts.Late, over.Counts.LateQuarter, over.Counts.TooLate, over.Counts.Ahead,
		over.Counts.Lead = 1_215, 3, 1, 80, 9*3600-40
}

func (f *viewFixture) text(b *board.Board, width int) string {
	f.t.Helper()
	b.Derive()
	if b.History != nil {
		return Plaza(b, width)
	}
	o := f.o
	o.Width = width
	return Plazas(b, o)
}

func (f *viewFixture) compare(name string, b *board.Board, width int, want string) {
	f.t.Helper()
	got := f.text(b, width)
	if got != want {
		f.t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
	if strings.ContainsAny(got, "\x1b\x07") {
		f.t.Errorf("%s: control characters in %q", name, got)
	}
	for line := range strings.Lines(got) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > max(width, 80) {
			f.t.Errorf("%s: %d columns: %s", name, n, line)
		}
	}
}

// one returns a board of one plaza.
func (f *viewFixture) one(plaza int) *board.Board {
	b := *f.b
	b.History = &board.History{}
	for _, p := range f.b.Plazas {
		if p.ID == plaza {
			b.Plazas = []board.Plaza{p}
		}
	}
	if plaza == 4856 {
		b.History = &f.history
	}
	return &b
}

// TestViewText holds what is shown to its exact form, in 80 columns.
func TestViewText(t *testing.T) {
	f := newViewFixture(t)
	f.compare("all", f.b, 80, `MISMATCH at 1 plaza: NULL (details: tollstream verify)
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock; watermark 10:22:59

plaza  flow/h      total  1 min  15 min  1 h        last  verdict        car
──────────────────────────────────────────────────────────────────────────────
 4856     244  1,234,567      1      61  141    10:23:02  93 in flight   81%
 4000       0          3      0       0    0  2022-02-08  not verified  100%
 NULL       0          0      0       0    0           -  MISMATCH         -

flow/h: vehicles an hour, by the last 15 minutes
1 min, 15 min, 1 h: vehicles in that time up to the stream's time
`)
	f.compare("little room", f.b, 70, `MISMATCH at 1 plaza: NULL (details: tollstream verify)
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock; watermark 10:22:59

plaza  flow/h      total  15 min  1 h        last  verdict
─────────────────────────────────────────────────────────────────
 4856     244  1,234,567      61  141    10:23:02  93 in flight
 4000       0          3       0    0  2022-02-08  not verified
 NULL       0          0       0    0           -  MISMATCH

flow/h: vehicles an hour, by the last 15 minutes
15 min, 1 h: vehicles in that time up to the stream's time
`)
	f.compare("one", f.one(4856),
		80, `plaza 4856: 1,234,567 vehicles, the last at 2022-02-10 10:23:02 UTC
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock

car       1,000,000   81.0 %  ████████████████████████████████████████
tr\x1bck    234,567   19.0 %  ██████████

last minute      10:23–10:24     1 vehicle  so far
last 15 minutes  10:09–10:24   61 vehicles  so far
last hour        09:24–10:24  141 vehicles  so far

·█············································▂············▄
vehicles per minute, 09:23 to 10:23; the most are 80
7 vehicles later than the stream's time: this plaza's clock is ahead,
or most other plazas are quiet

every vehicle came on time

in flight: some are stored and not yet counted; all else is exact
  group table   1,234,567  counted
  in flight            93  stored and not yet counted
  livetolldata  1,234,660  rows
  checksum              -  not compared (--deep does)
`)
	f.congested()
	f.compare("all, congested", f.b, 80, `MISMATCH at 1 plaza: NULL (details: tollstream verify)
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock; watermark 10:22:59
1 saturated, 1 below usual
1,215 late, 3 late for minutes, 1 too late
80 ran ahead, at plaza 4856 (view --plaza shows by how much)

plaza  name          state          flow/h  of cap.      total  verdict
──────────────────────────────────────────────────────────────────────────────
 4856  Junc\x1btion  ▲ saturated     1,368    109 %  1,234,567  93 in flight
 4000                ▼ below usual       4        -          3  not verified
 NULL                  -                 0        -          0  MISMATCH

flow/h: vehicles an hour, by the last 15 minutes
of cap.: throughput over capacity
`)
	f.compare("all, wide", f.b, 140, `MISMATCH at 1 plaza: NULL (details: tollstream verify)
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock; watermark 10:22:59
1 saturated, 1 below usual
1,215 late, 3 late for minutes, 1 too late
80 ran ahead, at plaza 4856 (view --plaza shows by how much)

plaza  name          road       state          flow/h  of cap.     z      total  1 min  15 min  1 h        last  verdict        car
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 4856  Junc\x1btion  M2 km 8.5  ▲ saturated     1,368    109 %  −0.3  1,234,567      1      61  141    10:23:02  93 in flight   81%
 4000                           ▼ below usual       4        -  −6.2          3      0       0    0  2022-02-08  not verified  100%
 NULL                             -                 0        -     -          0      0       0    0           -  MISMATCH         -

flow/h: vehicles an hour, by the last 15 minutes
of cap.: throughput over capacity
z: how far the flow is from usual at this hour; beyond 3 either way is rare
1 min, 15 min, 1 h: vehicles in that time up to the stream's time
`)
	f.compare("one, congested", f.one(4856),
		80, `plaza 4856: 1,234,567 vehicles, the last at 2022-02-10 10:23:02 UTC
Junc\x1btion, M2 km 8.5, 2 lanes
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock

saturated since 10:13 (9 min): throughput 1,420 pc/h is 109 % of the capacity of
1,300 pc/h (2 lanes); how long the queue is can't be told from crossings\a
  flow         1,368  vehicles/h, 10:07–10:22
  of capacity    109  %, throughput of 1,420 pc/h over a capacity of 1,300 pc/h
  headway        2.6  s from one vehicle to the next
  heavy share    3.8  % of the vehicles
  PHF           0.91  peak-hour factor of the hour to 10:22
  usual          350  vehicles in 15 min, by 4 weeks; now 342, z −0.3

           since  change            flow then
─────────────────────────────────────────────────────────────────────────────
           10:13  busy → saturated  1,288 vehicles/h, 100 % of cap., z +2.1
           09:52  free → busy       992 vehicles/h, 75 % of cap.
2022-02-04 04:25  no data → free    12 vehicles/h

car       1,000,000   81.0 %  ████████████████████████████████████████
tr\x1bck    234,567   19.0 %  ██████████

last minute      10:23–10:24     1 vehicle  so far
last 15 minutes  10:09–10:24   61 vehicles  so far
last hour        09:24–10:24  141 vehicles  so far

·█············································▂············▄
vehicles per minute, 09:23 to 10:23; the most are 80
7 vehicles later than the stream's time

kind                     window  vehicles  flow/h  late  too late  rev
────────────────────────────────────────────────────────────────────────
1m                  10:21–10:22        23   1,380     0         0    1
1m                  10:20–10:21        24   1,440     0         0    1
1m                  10:19–10:20        25   1,500     0         0    1
15m                 10:00–10:15     1,345   5,380    12         1    2
15m      2022-02-09 23:45–24:00         0       0     0         3    -
da\x1by             00:00–10:15    23,456   2,288   130         0   41
da\x1by              2022-02-09    43,456   1,811   130         4   97

1,233,348 of 1,234,567 vehicles came on time
  late              1,215  up to 2 hours: in all windows, closed ones too
  late for minutes      3  up to 2 days: in windows of whole quarters
  too late              1  in no window
  ran ahead            80  the last of them by 8 h 59 min
  as if its clock ran on UTC+09:00 (Asia/Tokyo, Asia/Seoul), not on UTC

in flight: some are stored and not yet counted; all else is exact
  group table   1,234,567  counted
  in flight            93  stored and not yet counted
  livetolldata  1,234,660  rows
  checksum              -  not compared (--deep does)
`)
	contains(t, f.text(f.one(4856), 100),
		"kind                     window  vehicles  flow/h  late  too late  complete  rev  final\n",
		"1m                  10:21–10:22        23   1,380     0         0     100 %    1  by "+
			"watermark\n",
		"15m                 10:00–10:15     1,345   5,380    12         1    99.9 %    2  by idle\n",
		"15m      2022-02-09 23:45–24:00         0       0     0         3     0.0 %    -  -\n",
		"da\\x1by             00:00–10:15    23,456   2,288   130         0     100 %   41  so far\n",
		"da\\x1by              2022-02-09    43,456   1,811   130         4    99.9 %   97  by end of "+
			"stream\n")
	f.compare("one below usual", f.one(4000),
		80, `plaza 4000: 3 vehicles, the last at 2022-02-08 10:23:02 UTC
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock

below usual since 2022-02-08 10:22 (2 days): 1 vehicle in 15 min, usual are 40
(z −6.2)
  flow          4  vehicles/h, 10:07–10:22
  of capacity   -  not known: the plazas file names no lanes
  usual        40  vehicles in 15 min, by 5 weeks; now 1, z −6.2

car       3  100.0 %  ████████████████████████████████████████
tr\x1bck  0    0.0 %  

last minute      10:23–10:24  0 vehicles  so far
last 15 minutes  10:09–10:24  0 vehicles  so far
last hour        09:24–10:24  0 vehicles  so far

every vehicle came on time

not verified: rows not read
  group table   3  counted
  in flight     0  stored and not yet counted
  livetolldata  ?
  checksum      -  not compared (--deep does)
  the optional indexes in sql/indexes.sql make the count fast
`)

	// Judged long ago; a plaza some of whose minutes are dropped; a clock that no timezone explains.
	old := &f.b.Plazas[0]
	old.Assessment.Since, old.Assessment.Until, old.Assessment.Last.End = f.now-99, f.now-90, f.now-90
	old.Counts.Minutes.From = f.now - 30
	old.Counts.Lead = 400 * 86400
	f.b.Plazas[1].Timezone = "America/Chicago"
	f.b.Plazas[1].Location = time.FixedZone("CST", -6*3600)
	f.b.DeadLetters = 40
	f.b.RecentRejects = board.RecentRejects{Records: 4000, Rejected: 40}
	if got := strings.Join(lateness(f.b), "\n"); strings.Contains(got, "REJECTED") {
		t.Errorf("one in a hundred is shown as many:\n%s", got)
	}
	f.b.RecentRejects = board.RecentRejects{Records: 4000, Rejected: 41, High: true}
	f.compare("all, some not judged", f.b, 80, `MISMATCH at 1 plaza: NULL (details: tollstream verify)
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock; watermark 10:22:59
1 below usual, 1 not judged
1,215 late, 3 late for minutes, 1 too late
80 ran ahead, at plaza 4856 (view --plaza shows by how much)
REJECTED: 41 of the last 4,000 records
40 dead letters: tollstream dead-letters

plaza  name          state          flow/h      total  verdict
─────────────────────────────────────────────────────────────────────
 4856  Junc\x1btion    saturated*      244  1,234,567  93 in flight
 4000                ▼ below usual       4          3  not verified
 NULL                  -                 0          0  MISMATCH

flow/h: vehicles an hour, by the last 15 minutes
*: judged up to an earlier time only; tollstream view --plaza shows which
`)
	f.compare("one, not judged", f.one(4856),
		80, `plaza 4856: 1,234,567 vehicles, the last at 2022-02-10 10:23:02 UTC
Junc\x1btion, M2 km 8.5, 2 lanes
event time Thu 2022-02-10 10:23 UTC, 3 min behind the clock

saturated since 08:44 (9 min), judged up to 08:53 only: throughput 1,420 pc/h is
109 % of the capacity of 1,300 pc/h (2 lanes); how long the queue is can't be
told from crossings\a
  flow         1,368  vehicles/h, 08:38–08:53
  of capacity    109  %, throughput of 1,420 pc/h over a capacity of 1,300 pc/h
  headway        2.6  s from one vehicle to the next
  heavy share    3.8  % of the vehicles
  PHF           0.91  peak-hour factor of the hour to 08:53
  usual          350  vehicles in 15 min, by 4 weeks; now 342, z −0.3

           since  change            flow then
─────────────────────────────────────────────────────────────────────────────
           10:13  busy → saturated  1,288 vehicles/h, 100 % of cap., z +2.1
           09:52  free → busy       992 vehicles/h, 75 % of cap.
2022-02-04 04:25  no data → free    12 vehicles/h

car       1,000,000   81.0 %  ████████████████████████████████████████
tr\x1bck    234,567   19.0 %  ██████████

last minute      10:23–10:24    1 vehicle  so far
last 15 minutes  10:09–10:24  61 vehicles  so far
last hour        09:24–10:24   ? vehicles  not kept
7 vehicles later than the stream's time

kind                     window  vehicles  flow/h  late  too late  rev
────────────────────────────────────────────────────────────────────────
1m                  10:21–10:22        23   1,380     0         0    1
1m                  10:20–10:21        24   1,440     0         0    1
1m                  10:19–10:20        25   1,500     0         0    1
15m                 10:00–10:15     1,345   5,380    12         1    2
15m      2022-02-09 23:45–24:00         0       0     0         3    -
da\x1by             00:00–10:15    23,456   2,288   130         0   41
da\x1by              2022-02-09    43,456   1,811   130         4   97

1,233,348 of 1,234,567 vehicles came on time
  late              1,215  up to 2 hours: in all windows, closed ones too
  late for minutes      3  up to 2 days: in windows of whole quarters
  too late              1  in no window
  ran ahead            80  the last of them by 400 days
  no timezone explains a clock that is ahead as far as that

in flight: some are stored and not yet counted; all else is exact
  group table   1,234,567  counted
  in flight            93  stored and not yet counted
  livetolldata  1,234,660  rows
  checksum              -  not compared (--deep does)
`)
	f.compare("one elsewhere", f.one(4000), 80,
		`plaza 4000: 3 vehicles, the last at 2022-02-08 04:23:02 CST
event time Thu 2022-02-10 04:23 CST, 3 min behind the clock

below usual since 2022-02-08 04:22 (2 days): 1 vehicle in 15 min, usual are 40
(z −6.2)
  flow          4  vehicles/h, 04:07–04:22
  of capacity   -  not known: the plazas file names no lanes
  usual        40  vehicles in 15 min, by 5 weeks; now 1, z −6.2

car       3  100.0 %  ████████████████████████████████████████
tr\x1bck  0    0.0 %  

last minute      04:23–04:24  0 vehicles  so far
last 15 minutes  04:09–04:24  0 vehicles  so far
last hour        03:24–04:24  0 vehicles  so far

every vehicle came on time

not verified: rows not read
  group table   3  counted
  in flight     0  stored and not yet counted
  livetolldata  ?
  checksum      -  not compared (--deep does)
  the optional indexes in sql/indexes.sql make the count fast
`)

	// Cut off, and before that counted and wrong.
	f = newViewFixture(t)
	f.b.StreamTime = nil
	f.b.Plazas[1].Check.Note = "counting the rows was cut off after 3s"
	f.compare("cut off", f.one(4000), 80, `plaza 4000: 3 vehicles, the last at 2022-02-08 10:23:02 UTC

car       3  100.0 %  ████████████████████████████████████████
tr\x1bck  0    0.0 %  

every vehicle came on time

not verified: rows not read
  group table   3  counted
  in flight     0  stored and not yet counted
  livetolldata  ?  counting the rows was cut off after 3s
  checksum      -  not compared (--deep does)
  the optional indexes in sql/indexes.sql make the count fast
`)
	rows, bad := int64(1_234_660), false
	b := f.one(4000)
	b.Plazas[0].Check.Note, b.RowsAt = "", time.Now().Add(-4*time.Second)
	b.Plazas[0].Counted = &board.Check{StoredRows: &rows, ChecksumOK: &bad, Status: board.Mismatch,
		Problems: []board.Problem{{Text: "plaza 4000: too\nmany"}}}
	contains(t, f.text(b, 80), "MISMATCH\n", "1,234,660  rows, counted 4.0", "WRONG",
		"  plaza 4000: too; many\n")
}

func TestFull(t *testing.T) {
	for x, want := range map[float64]string{0: "0 %", 0.998: "99 %", 1: "100 %", 0.29: "29 %",
		1.0999: "109 %", 12.34: "1,234 %"} {
		if got := Full(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
}

// TestLastEvent shows times by the clock of the plaza, and dates where these are not those that it
// shows now: 23:30 in UTC is 00:30 of the next day further east.
func TestLastEvent(t *testing.T) {
	now := time.Date(2026, 3, 2, 23, 30, 0, 0, time.UTC)
	b := &board.Board{Location: time.UTC, StreamTime: &now}
	east := time.FixedZone("east", 3600)
	for _, c := range []struct {
		clock *time.Location
		ago   time.Duration
		want  string
	}{
		{time.UTC, 5 * time.Minute, "23:25:00"}, {time.UTC, 24 * time.Hour, "2026-03-01"},
		{east, 5 * time.Minute, "00:25:00"}, {east, time.Hour, "2026-03-02"},
	} {
		p := &board.Plaza{Location: c.clock, LastEvent: new(now.Add(-c.ago))}
		if got := LastEvent(b, p); got != c.want {
			t.Errorf("%v ago in %v: %s, want %s", c.ago, c.clock, got, c.want)
		}
	}
	if got := LastEvent(b, &board.Plaza{Location: east}); got != "-" {
		t.Errorf("no event: %s", got)
	}
	const note = "last: by each plaza's own clock\n"
	f := newViewFixture(t)
	f.congested()
	f.b.Derive()
	if got := Plazas(f.b, Options{Width: 200}); strings.Contains(got, note) {
		t.Errorf("all plazas have the clock of the board:\n%s", got)
	}
	f.b.Plazas[0].Location = east
	if got := Plazas(f.b, Options{Width: 200}); !strings.Contains(got, note) {
		t.Errorf("a plaza has a clock of its own:\n%s", got)
	}
}

func TestViewSort(t *testing.T) {
	f := newViewFixture(t)
	f.congested()
	f.b.Plazas[2] = board.Plaza{ID: 12, Location: time.UTC, Counts: &toll.State{Events: 5},
		Check: board.Check{Status: board.Exact}}
	f.b.Plazas = append(f.b.Plazas,
		board.Plaza{ID: board.NullPlaza, Location: time.UTC, Counts: new(toll.State)})
	f.b.Derive()
	for order, want := range map[string]string{
		board.ByTotal:     "4856 12 4000 NULL",
		board.ByFlow:      "4856 4000 12 NULL",
		board.ByVC:        "4856 12 4000 NULL", // the others have none
		board.ByDeviation: "4000 4856 12 NULL",
	} {
		f.b.Sort(order)
		var got []string
		for i := range f.b.Plazas {
			got = append(got, PlazaName(f.b.Plazas[i].ID))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", order, got, want)
		}
	}
	f.o.Order, f.o.Top = board.ByDeviation, 1
	f.b.Sort(board.ByDeviation)
	text := f.text(f.b, 80)
	contains(t, text, "1 saturated, 1 below usual, 1 not judged\n", " 4000  ▼ below usual", "  −6.2  ",
		"and 3 plazas more\n", "z: how far")
	if strings.Contains(text, " 4856  ") {
		t.Errorf("more than the first one:\n%s", text)
	}
	if n := len(PlazasJSON(f.b, f.o).(boardJSON).Plazas); n != 1 {
		t.Errorf("%d plazas in JSON", n)
	}
}

func TestViewJSON(t *testing.T) {
	f := newViewFixture(t)
	f.congested()
	chicago, err := time.LoadLocation("America/Chicago")
	if err != nil {
		t.Fatal(err)
	}
	f.b.Plazas[0].Location = chicago
	one := f.one(4856)
	one.Derive()
	text, err := json.Marshal(PlazaJSON(one))
	if err != nil {
		t.Fatal(err)
	}
	v := decodeJSON(t, text)
	for key, want := range map[string]any{
		"plaza": 4856., "name": "Junc\x1btion", "road": "M2", "lanes": 2., "late": 1215.,
		"late_quarter": 3., "too_late": 1., "ahead": 80., "lead_seconds": 32360.,
		"last_event": "2022-02-10T04:23:02-06:00", "watermark": "2022-02-10T04:22:59-06:00",
		"congestion": map[string]any{
			"state": "saturated", "since": "2022-02-10T04:13:00-06:00", "until": "2022-02-10T04:22:00-06:00",
			"why": "throughput 1,420 pc/h is 109 % of the capacity of 1,300 pc/h (2 lanes); " +
				"how long the queue is can't be told from crossings\x07",
			"flow_per_hour": 1368., "vc": 1.0992, "phf": 0.912, "heavy_share": 0.038,
			"headway_seconds": 2.63, "demand": 1420., "capacity": 1300., "capacity_wrong": false,
			"usual": map[string]any{"median": 350.4, "mad": 20., "weeks": 4.}, "z": -0.28,
		},
	} {
		if !reflect.DeepEqual(v[key], want) {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	if first := v["transitions"].([]any)[1]; !reflect.DeepEqual(first, map[string]any{
		"from": "free", "to": "busy", "since": "2022-02-10T03:52:00-06:00",
		"detected": "2022-02-10T03:54:00-06:00", "why": "",
	}) {
		t.Errorf("%v", first)
	}
	var got []string
	for _, w := range v["windows"].([]any) {
		w := w.(map[string]any)
		got = append(got, fmt.Sprint(w["kind"], " ", w["start"], " ", w["count"], " ", w["on_time"], " ",
			w["late"], " ", w["too_late"], " ", w["final"], " ", w["revision"], " ", w["reason"]))
	}
	want := []string{
		"rolling 2022-02-10T04:23:00-06:00 1 1 0 0 false 1 ",
		"rolling 2022-02-10T04:09:00-06:00 61 58 3 0 false 1 ",
		"rolling 2022-02-10T03:24:00-06:00 141 138 3 0 false 1 ",
		"1m 2022-02-10T04:21:00-06:00 23 23 0 0 true 1 watermark",
		"1m 2022-02-10T04:20:00-06:00 24 24 0 0 true 1 watermark",
		"1m 2022-02-10T04:19:00-06:00 25 25 0 0 true 1 watermark",
		"1m 2022-02-10T04:18:00-06:00 26 26 0 0 true 1 watermark",
		"15m 2022-02-10T04:00:00-06:00 1345 1333 12 1 true 2 idle",
		"15m 2022-02-09T17:45:00-06:00 0 0 0 3 false 0 ",
		"da\x1by 2022-02-09T18:00:00-06:00 23456 23326 130 0 false 41 watermark",
		"da\x1by 2022-02-08T18:00:00-06:00 43456 43326 130 4 true 97 end of stream",
	}
	if !slices.Equal(got, want) {
		t.Errorf("windows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// What is not known is null.
	f.b.Plazas[0].Assessment.Last = traffic.Measure{Plaza: 4856, End: f.now - 1}
	f.b.Watermark = nil
	f.b.Derive()
	if text, err = json.Marshal(PlazasJSON(f.b, f.o)); err != nil {
		t.Fatal(err)
	}
	v = decodeJSON(t, text)
	first := v["plazas"].([]any)[0].(map[string]any)
	congestion := first["congestion"].(map[string]any)
	for _, key := range []string{"vc", "phf", "heavy_share", "headway_seconds", "capacity", "usual",
		"z"} {
		if got, there := congestion[key]; got != nil || !there {
			t.Errorf("%s: %v, %v", key, got, there)
		}
	}
	if v["watermark"] != nil || first["windows"] != nil || first["transitions"] != nil ||
		v["plazas"].([]any)[2].(map[string]any)["congestion"] != nil {
		t.Errorf("%s", text)
	}
}

func TestExplainLead(t *testing.T) {
	for _, c := range []struct {
		zone  string
		month int
		lead  time.Duration
		want  string
	}{
		{"UTC", 2, 9 * time.Hour,
			"9 h: as if its clock ran on UTC+09:00 (Asia/Tokyo, Asia/Seoul), not on UTC"},
		{"UTC", 2, 5*time.Hour + 43*time.Minute + 10*time.Second,
			"5 h 43 min: as if its clock ran on UTC+05:45 (Asia/Kathmandu), not on UTC"},
		{"UTC", 2, time.Hour - 40*time.Second,
			"59 min: as if its clock ran on UTC+01:00 (Europe/Berlin, Europe/Paris), not on UTC"},
		{"UTC", 7, time.Hour,
			"1 h: as if its clock ran on UTC+01:00 (Europe/London, Africa/Lagos), not on UTC"},
		{"America/Chicago", 2, 6 * time.Hour,
			"6 h: as if its clock ran on UTC+00:00 (UTC, Europe/London), not on America/Chicago"},
		{"America/Chicago", 7, 2 * time.Hour,
			"2 h: as if its clock ran on UTC-03:00 (America/Halifax, America/Sao_Paulo), " +
				"not on America/Chicago"},
		{"UTC", 2, 7*time.Hour + 15*time.Minute,
			"7 h 15 min: as if its clock ran on UTC+07:15, not on UTC"},
		{"UTC", 2, 11 * time.Minute, "11 min: as if its clock ran on UTC+00:15, not on UTC"},
		{"UTC", 2, 52*time.Minute + 30*time.Second,
			"53 min: no timezone explains a clock that is ahead as far as that"},
		{"UTC", 2, 15 * time.Hour, "15 h: no timezone explains a clock that is ahead as far as that"},
		{"UTC", 2, 24*365*time.Hour + 3*time.Hour,
			"365 days 3 h: no timezone explains a clock that is ahead as far as that"},
		{"UTC", 2, math.MaxInt64,
			"24,855 days 3 h: no timezone explains a clock that is ahead as far as that"},
	} {
		location, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		b := board.Board{Location: location,
			StreamTime: new(time.Date(2022, time.Month(c.month), 10, 10, 0, 0, 0, time.UTC))}
		length, zone := explainLead(&b, int64(c.lead/time.Second))
		if got := strings.TrimPrefix(length, "the last of them by ") + ": " + zone; got != c.want {
			t.Errorf("%v: %s\nwant %s", c.lead, got, c.want)
		}
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

func decodeJSON(t *testing.T, text []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
