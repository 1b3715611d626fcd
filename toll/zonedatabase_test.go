package toll

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/testkit"
)

// allZones returns the locations of the time zone database, each once. Links to others are left
// out.
func allZones(t *testing.T) []*time.Location {
	t.Helper()
	distinct := map[string]string{} // content, name
	for _, root := range []string{"/usr/share/zoneinfo", "/var/db/timezone/zoneinfo"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "posix" || d.Name() == "right"): // the same ones again
				return fs.SkipDir
			case d.IsDir():
				return nil
			}
			content, err := os.ReadFile(path)
			name, _ := filepath.Rel(root, path)
			if _, loadable := time.LoadLocation(name); err == nil && loadable == nil &&
				bytes.HasPrefix(content, []byte("TZif")) {
				if had := distinct[string(content)]; had == "" || name < had {
					distinct[string(content)] = name
				}
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	testkit.NeedService(t, "the time zone database (tzdata)", len(distinct) >= 250)
	var all []*time.Location
	for _, name := range slices.Sorted(maps.Values(distinct)) {
		all = append(all, zoneOf(t, name).Location())
	}
	return all
}

// transition is a change of a zone's clock.
type transition struct {
	at            int64 // Unix seconds
	before, after int64 // seconds east of UTC
}

func transitions(loc *time.Location, from, to time.Time) []transition {
	var all []transition
	clock := wallClock{loc: loc}
	last := clock.at(from.Unix())
	for last.to < to.Unix() {
		next := clock.at(last.to)
		if next.offset != last.offset {
			all = append(all, transition{next.from, last.offset, next.offset})
		}
		last = next
	}
	return all
}

// In every zone, around every change of its clock, whatever a plaza's own zone is: a window's
// minutes hold a wall time exactly where the window's wall times do. That is what SQL over
// livetolldata asks.
func TestWallTimesOfWindowsInAllZones(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	var kinds []*WindowKind
	for _, text := range windowKinds {
		kinds = append(kinds, kindOf(t, text))
	}
	zones := allZones(t)
	from, to := time.Date(1840, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2101, 1, 1, 0, 0, 0, 0,
		time.UTC)
	skipped, repeated := 0, 0
	var windows []Window
	for _, loc := range zones {
		z := NewZone(loc)
		gaps := z.Skipped(Window{Start: MinuteAt(from.Unix()), End: MinuteAt(to.Unix())})
		for _, c := range transitions(loc, from, to) {
			low, high := c.at+min(c.before, c.after), c.at+max(c.before, c.after)
			walls := []WallTime{WallTime(low - 1), WallTime(low), WallTime(high - 1), WallTime(high),
				WallTime(low + random.Int64N(high-low))}
			for range 3 {
				walls = append(walls, WallTime(low-7200+random.Int64N(high-low+14400)))
			}
			slices.Sort(walls)
			plaza := z.Clone()
			if random.IntN(2) == 0 {
				plaza = NewZone(zones[random.IntN(len(zones))])
			}
			last := int64(low) - 3*86400
			for _, w := range walls {
				unix, shown := z.Instant(w)
				if again, _ := NewZone(loc).Instant(w); again != unix {
					t.Fatalf("%s, %s: %d as remembered, %d afresh", loc, w, unix, again)
				}
				at, next := z.Wall(time.Unix(unix, 0)), z.Wall(time.Unix(unix+1, 0))
				if shown != (at == w) || !shown && (at >= w || next <= w) {
					t.Fatalf("%s, %s is %s, shown %v, before %s", loc, w, at, shown, next)
				}
				if slices.ContainsFunc(gaps, func(g [2]WallTime) bool {
					return w >= g[0] && w < g[1]
				}) == shown {
					t.Fatalf("%s, %s: shown %v, skipped %v", loc, w, shown, gaps)
				}
				if unix < last {
					t.Fatalf("%s, %s is before an earlier wall time", loc, w)
				}
				last = unix
				if !shown {
					skipped++
				} else if z.Wall(time.Unix(unix+high-low, 0)) == w {
					repeated++
				}
				m := z.Minute(w)
				if z.Since(m) > w || z.Since(m+1) <= w {
					t.Fatalf("%s, %s: its minute is from %s to %s", loc, w, z.Since(m), z.Since(m+1))
				}
				k := kinds[random.IntN(len(kinds))]
				windows = k.Covering(plaza, m, windows[:0])
				if len(windows) == 0 {
					t.Fatalf("%s, %s, %s is in no window", loc, w, k.Name)
				}
				near := m + Minute(random.Int32N(4*60)) - 2*60
				windows = k.Covering(plaza, near, windows)
				for _, window := range windows {
					start, end := z.Since(window.Start), z.Since(window.End)
					if inside := m >= window.Start && m < window.End; inside != (w >= start && w < end) {
						t.Fatalf("%s, %s, plaza in %s: window %s is %s to %s; is the event in it? %v", loc, w,
							plaza.Location(), showWindows([]Window{window}), start, end, inside)
					}
				}
			}
		}
	}
	t.Logf("%d zones; %d skipped and %d repeated times", len(zones), skipped, repeated)
	if skipped < 1000 || repeated < 1000 {
		t.Errorf("%d skipped and %d repeated times, want many", skipped, repeated)
	}
}

// Since the year 1973 the clocks of all zones are whole minutes from UTC; see rowscan.go of package
// sql.
func TestOffsetsAreWholeMinutes(t *testing.T) {
	for _, loc := range allZones(t) {
		for _, c := range transitions(loc, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2101, 1, 1, 0, 0, 0, 0, time.UTC)) {
			if c.after%60 != 0 && c.at > time.Date(1972, 12, 30, 0, 0, 0, 0, time.UTC).Unix() {
				t.Errorf("%s: %d s east of UTC from %s on", loc, c.after, time.Unix(c.at, 0).UTC())
			}
		}
	}
}
