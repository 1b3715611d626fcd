package mapping

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		" time=1  toll_plaza_id=4\tvehicle_id=2 ": "time=1 vehicle_id=2 toll_plaza_id=4",
		`time="Date and time" vehicle_type=Class`: `time="Date and time" vehicle_type=Class`,
		"time=payload.after.ts time_format=epoch_ms timezone=Europe/Berlin": "time=payload.after.ts " +
			"time_format=epoch_ms timezone=Europe/Berlin",
		"delimiter=; header=yes":                        "delimiter=semicolon header=yes",
		"delimiter=tab time=When header=yes":            "time=When delimiter=tab",
		`time_format="%d/%m/%Y %H:%M" time_format=auto`: "time_format is given twice",
		`time_format="%d/%m/%Y %H:%M"`:                  `time_format="%d/%m/%Y %H:%M"`,
		"Timestamp":                                     `"Timestamp" is not KEY=VALUE, such as time=Timestamp`,
		`time="x`:                                       "the quoted value of time does not end",
		"time=":                                         "time has no value",
		"plaza=4 delimiter=: header=1": `"plaza" is none of time, vehicle_id, vehicle_type, ` +
			`toll_plaza_id, events, descriptors, message, time_format, timezone, delimiter, header` + "\n" +
			`delimiter: ":" is none of comma, semicolon, tab, pipe` + "\n" +
			`header: "1" is neither yes nor no`,
		"timezone=Mars": `timezone: "Mars" is not a timezone such as Europe/Berlin`,
		"time_format=unix": `time_format: "unix" is none of auto, epoch_s, epoch_ms, epoch_us, epoch_ns, ` +
			`day_first, month_first, nor a pattern such as %d/%m/%Y %H:%M:%S`,
	} {
		m, err := Parse(in)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = m.String()
			if again, err := Parse(got); err != nil || again.String() != got {
				t.Errorf("%q is read again as %v, %v", got, again, err)
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	at := time.Date(2022, 2, 1, 3, 4, 5, 0, time.UTC)
	for pattern, text := range map[string]string{
		"%d/%m/%Y %H:%M:%S":    "1/2/2022 3:04:5",
		"%-d.%-m.%y, %H:%M:%S": "01.02.22, 03:04:05",
		"%Y%m%d%H%M%S":         "20220201030405",
		"%Y%m%dT%H%M%S.%f":     "20220201T030405.25",
		"%b %e %Y %I:%M:%S %p": "Feb  1 2022 3:04:05 AM",
		"%A, %d %B %Y %T %z":   "Tuesday, 01 February 2022 04:04:05 +0100",
		"%F %R:%S":             "2022-02-01 03:04:05",
		"%j %Y %T":             "032 2022 03:04:05",
	} {
		f, err := ParseTimeFormat(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		if got, err := time.Parse(f.Layout, text); err != nil || got.Unix() != at.Unix() {
			t.Errorf("%s as %s: %q is %v, %v", pattern, f.Layout, text, got, err)
		}
	}
	for _, pattern := range []string{"%Q", "%d%", "%d of %m", "%d 2 %m"} {
		if f, err := ParseTimeFormat(pattern); err == nil ||
			!strings.HasPrefix(err.Error(), "time_format: ") {
			t.Errorf("%s: %+v, %v", pattern, f, err)
		}
	}
}
