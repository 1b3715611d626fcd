package emit

import (
	"fmt"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// ParseTime reads a time of events.
func ParseTime(text string, location *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05",
		"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		t, err := time.ParseInLocation(layout, text, location)
		if err != nil {
			continue
		}
		t = t.In(location)
		if !toll.WallTimeOf(t).Valid() {
			return t, fmt.Errorf("%q is outside the years 1000 to 9999", text)
		}
		return t, nil
	}
	return time.Time{},
		fmt.Errorf("%q is not a time such as 2022-02-10 10:23:02 or 2022-02-10T10:23:02+01:00", text)
}
