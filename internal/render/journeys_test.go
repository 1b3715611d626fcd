package render

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

var journeyWindow = board.JourneyWindow{From: time.Date(2026, 3, 2, 16, 53, 0, 0, time.UTC),
	Until: time.Date(2026, 3, 2, 17, 8, 0, 0, time.UTC), Status: board.HasJourneys}

func TestJourneys(t *testing.T) {
	j := &board.Journeys{JourneyWindow: journeyWindow, UsualWeeks: 4, Sections: []board.Section{
		{From: 4007, To: 4008, Vehicles: 5, MedianSeconds: new(3725.0)},
		{From: 4008, To: 4007, FromName: "City East", ToName: "Tunnel\x1b[2J", Vehicles: 1107,
			MedianSeconds: new(223.6), UsualSeconds: new(225.0), DelayHours: new(48.6),
			OverdueLow: new(int64(0)), OverdueHigh: new(int64(0))},
		{From: 4006, To: 4007, FromName: "City West", ToName: "Tunnel", Vehicles: 129,
			MedianSeconds: new(1829.0), UsualSeconds: new(155.0), SpeedKmh: new(8.9),
			DelayHours: new(6.0), OverdueLow: new(int64(195)), OverdueHigh: new(int64(1253)), Slow: true},
		{From: 4008, To: 4009, OverdueLow: new(int64(3)), OverdueHigh: new(int64(3)), Slow: true},
	}}
	j.Sort()
	for width, want := range map[int]string{120: `
2026-03-02 16:53 to 17:08 UTC: 1,241 journeys on 4 sections, 2 slow

from  name         to  name           vehicles    min:s  usual    slower  km/h  delay veh-h    overdue
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
4006  City West  4007  Tunnel              129    30:29   2:35  +1,080 %     9          6.0  195–1,253  slow
4008             4009                       <5                                                       3  slow
4008  City East  4007  Tunnel\x1b[2J     1,107     3:44   3:45      −1 %               48.6
4007             4008                        5  1:02:05
`, 60: `
2026-03-02 16:53 to 17:08 UTC: 1,241 journeys on 4 sections, 2 slow

from    to    min:s    slower  delay veh-h
──────────────────────────────────────────────────
4006  4007    30:29  +1,080 %          6.0  slow
4008  4009                                  slow
4008  4007     3:44      −1 %         48.6
4007  4008  1:02:05
`} {
		var out strings.Builder
		if err := Journeys(&out, j, width); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + out.String(); got != want {
			t.Errorf("width %d: got%swant%s", width, got, want)
		}
	}
	for weeks, want := range map[int]string{
		0: "usual is the hour before; --weeks 4 reads the weeks before as well",
		1: "usual is of 1 week before; --weeks 4 reads all four"} {
		var out strings.Builder
		j.UsualWeeks = weeks
		if err := Journeys(&out, j, 80); err != nil || !strings.Contains(out.String(),
			"2 slow\n"+want+"\n\n") {
			t.Errorf("%d weeks: %v\n%s", weeks, err, out.String())
		}
	}
	none := &board.Journeys{JourneyWindow: journeyWindow}
	none.Status, none.Why = board.RandomIDs, "no journeys: ids look random"
	var out strings.Builder
	if err := Journeys(&out, none, 80); err != nil || out.String() !=
		"2026-03-02 16:53 to 17:08 UTC: no journeys: ids look random\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestThrough(t *testing.T) {
	var out strings.Builder
	err := Through(&out, &board.Through{JourneyWindow: journeyWindow, Plaza: 4007, Name: "Tunnel",
		Vehicles: 1253, Origins: []board.Stream{
			{Plaza: new(4006), Name: "City West", Vehicles: 917, Share: .7318},
			{Plaza: new(4007), Name: "Tunnel", Vehicles: 310, Share: .2474},
			{Vehicles: 26, Share: .0208}}})
	want := `through 4007 Tunnel
2026-03-02 16:53 to 17:08 UTC: 1,253 vehicles

first seen at   vehicles  share
──────────────────────────────────────────────────
4006 City West       917    73%  ▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪
here                 310    25%  ▪▪▪▪▪
other plazas          26     2%
`
	if got, _, _ := strings.Cut(out.String(), "\nlast seen"); err != nil || got != want {
		t.Errorf("%v, got\n%swant\n%s", err, got, want)
	}
}
