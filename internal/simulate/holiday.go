package simulate

import "time"

// holiday is a day on which fewer vehicles pass.
type holiday struct {
	factor  float64 // of the vehicles that would pass otherwise
	weekend bool    // its hours are those of a weekend: nobody drives to work
}

// The holidays of the United States on which the counts of Interstate 94 at Saint Paul fell from
// October 2016 to September 2017 (UCI Machine Learning Repository, "Metro Interstate Traffic
// Volume"), with the share of the usual that was left. On the other listed days, Columbus Day and
// Veterans Day, traffic was as usual.
var (
	newYear        = holiday{0.63, true}
	kingDay        = holiday{0.85, false}
	presidentsDay  = holiday{0.90, false}
	memorialDay    = holiday{0.62, true}
	independence   = holiday{0.59, true}
	laborDay       = holiday{0.67, true}
	thanksgiving   = holiday{0.57, true}
	dayAfterThanks = holiday{0.67, true}
	christmas      = holiday{0.66, true}
)

// holidayOn returns the holiday on a day, counted from 1970-01-01; false where it is none. One with
// a date of its own that falls on a Sunday is on the Monday too, and on a Saturday on the Friday.
func holidayOn(day int64) (holiday, bool) {
	date := time.Unix(day*86400, 0).UTC()
	if h, ok := fixedHoliday(date); ok {
		return h, true
	}
	switch date.Weekday() {
	case time.Monday:
		if h, ok := fixedHoliday(date.AddDate(0, 0, -1)); ok {
			return h, true
		}
	case time.Friday:
		if h, ok := fixedHoliday(date.AddDate(0, 0, 1)); ok {
			return h, true
		}
	}
	nth := (date.Day() + 6) / 7 // of this weekday in its month
	last := date.AddDate(0, 0, 7).Month() != date.Month()
	switch month, weekday := date.Month(), date.Weekday(); {
	case month == time.January && weekday == time.Monday && nth == 3:
		return kingDay, true
	case month == time.February && weekday == time.Monday && nth == 3:
		return presidentsDay, true
	case month == time.May && weekday == time.Monday && last:
		return memorialDay, true
	case month == time.September && weekday == time.Monday && nth == 1:
		return laborDay, true
	case month == time.November && weekday == time.Thursday && nth == 4:
		return thanksgiving, true
	case month == time.November && weekday == time.Friday && (date.Day()+5)/7 == 4:
		return dayAfterThanks, true
	}
	return holiday{}, false
}

// fixedHoliday returns the holiday that is on the same date each year.
func fixedHoliday(date time.Time) (holiday, bool) {
	switch month, day := date.Month(), date.Day(); {
	case month == time.January && day == 1:
		return newYear, true
	case month == time.July && day == 4:
		return independence, true
	case month == time.December && day == 25:
		return christmas, true
	}
	return holiday{}, false
}
