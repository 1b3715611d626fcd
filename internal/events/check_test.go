package events

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

// TestPropose has files in other forms checked, and then again by what was proposed.
func TestPropose(t *testing.T) {
	rows := func(head, format string, args func(i int) []any) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range 40 {
			fmt.Fprintf(&b, format+"\n", args(i)...)
		}
		return b.String()
	}
	for _, c := range []struct{ name, text, want, note string }{
		{"header row in German", rows("Station;Spur;Fahrzeug;Klasse;Zeitpunkt\n",
			"%d;1;%d;car;%02d/03/2022 10:23:02",
			func(i int) []any { return []any{4000 + i%5, 123456 * i, 1 + i%28} }),
			"time=Zeitpunkt vehicle_id=Fahrzeug vehicle_type=Klasse toll_plaza_id=Station " +
				"time_format=day_first delimiter=semicolon", ""},
		{"usual names, other times", rows("timestamp,vehicle_id,vehicle_type,toll_plaza_id\n",
			"%02d/%02d/2022 10:23,%d,car,4856",
			func(i int) []any { return []any{1 + i%12, 1 + i%9, i} }),
			"time=timestamp vehicle_id=vehicle_id vehicle_type=vehicle_type " +
				"toll_plaza_id=toll_plaza_id time_format=day_first",
			"No date tells the day from the month: 01/01/2022 10:23 may be month_first too."},
		{"no header row", rows("", "4856.0\t%d\tx\t2022-02-10T10:23:02Z\tcar",
			func(i int) []any { return []any{99999 * i} }),
			"time=4 vehicle_id=2 vehicle_type=3 toll_plaza_id=1 delimiter=tab",
			"vehicle_type is a guess by its values: no name tells."},
		{"an envelope of JSON", rows("",
			`{"payload":{"before":null,"after":{"ts":%d,"plazaId":4856,"car":{"id":%d,"class":"bus"}}}}`,
			func(i int) []any { return []any{1644488582000 + int64(i), 12345678 + i} }),
			"time=payload.after.ts vehicle_id=payload.after.car.id vehicle_type=payload.after.car.class " +
				"toll_plaza_id=payload.after.plazaId time_format=epoch_ms", ""},
		{"nothing like events", rows("", "%d rubbish", func(i int) []any { return []any{i} }), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone := toll.NewZone(time.UTC)
			check, err := CheckFile(c.name, strings.NewReader(c.text), zone, nil)
			if err != nil {
				t.Fatal(err)
			}
			if check.Rows != 0 || check.Records < 40 || len(check.DeadLetters) == 0 {
				t.Errorf("%+v", check)
			}
			if c.want == "" {
				if check.Proposal != nil {
					t.Errorf("proposed %+v", check.Proposal)
				}
				return
			}
			p := check.Proposal
			if p == nil || p.Mapping != c.want || p.Rows != 40 ||
				c.note != "" && (len(p.Notes) == 0 || p.Notes[0] != c.note) {
				t.Fatalf("proposed %+v, want %s", p, c.want)
			}
			m, err := mapping.Parse(p.Mapping)
			if err != nil {
				t.Fatal(err)
			}
			again, err := CheckFile(c.name, strings.NewReader(c.text), zone, m)
			if err != nil || again.Rows != 40 || again.Records != 40 || again.First != p.First ||
				again.Proposal != nil {
				t.Errorf("by the proposal: %+v", again)
			}
		})
	}
}
