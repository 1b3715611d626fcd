package toll

import (
	"fmt"
	"time"
)

// WallTime is a time as a wall clock shows it, to the second: the seconds from 1970-01-01 00:00:00
// to it on that same clock. It is what livetolldata.timestamp holds, so it has no timezone of its
// own; a [Zone] turns it into an instant.
type WallTime int64

// The range of MySQL's DATETIME, inclusive.
const (
	MinWallTime WallTime = -30610224000 // 1000-01-01 00:00:00
	MaxWallTime WallTime = 253402300799 // 9999-12-31 23:59:59
)

// WallTimeOf returns what a clock in t's location shows at t, with fractions of a second cut off.
func WallTimeOf(t time.Time) WallTime {
	_, offset := t.Zone()
	return WallTime(t.Unix() + int64(offset))
}

// WallTimeFromDate returns the wall time of a date and time of day. Values out of their usual range
// are an error, not normalised: 31 February does not become 3 March.
func WallTimeFromDate(year, month, day, hour, minute, second int) (WallTime, error) {
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	switch {
	case year < 1000 || year > 9999:
		return 0, fmt.Errorf("year %d is not within 1000 to 9999", year)
	case month < 1 || month > 12:
		return 0, fmt.Errorf("month %d is not within 1 to 12", month)
	case date.Day() != day:
		return 0, fmt.Errorf("day %d does not exist in %d-%02d", day, year, month)
	case hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59:
		return 0, fmt.Errorf("%02d:%02d:%02d is not a time of day", hour, minute, second)
	}
	return WallTime(date.Unix() + int64(hour*3600+minute*60+second)), nil
}

// asUTC returns the time.Time that has the wall time's figures in UTC, for formatting.
func (w WallTime) asUTC() time.Time { return time.Unix(int64(w), 0).UTC() }

// String formats as MySQL does: 2022-02-10 10:23:02.
func (w WallTime) String() string { return w.asUTC().Format(time.DateTime) }

// AppendFormat appends the wall time in a layout of package time.
func (w WallTime) AppendFormat(dst []byte, layout string) []byte {
	return w.asUTC().AppendFormat(dst, layout)
}

// Format formats the wall time in a layout of package time.
func (w WallTime) Format(layout string) string { return w.asUTC().Format(layout) }

// Valid reports whether a DATETIME can hold it.
func (w WallTime) Valid() bool { return w >= MinWallTime && w <= MaxWallTime }

// Day returns the days from 1970-01-01 to the wall time's date, and the seconds since its midnight.
func (w WallTime) Day() (day int64, second int32) {
	midnight := floorTo(int64(w), 86400)
	return midnight / 86400, int32(int64(w) - midnight)
}
