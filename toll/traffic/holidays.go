package traffic

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Holidays names the holiday on a date, as [toll.WallTime.Day] counts days: empty for none. A nil
// one knows none.
type Holidays func(day int64) string

// ParseHolidays reads lines such as 2026-12-25,Christmas Day. A header date,name, empty lines and
// those that begin with # are skipped. It reports every violation at once.
func ParseHolidays(text string) (Holidays, error) {
	names := map[int64]string{}
	var errs []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || number == 1 && line == "date,name" {
			continue
		}
		date, name, _ := strings.Cut(line, ",")
		at, err := time.Parse(time.DateOnly, strings.TrimSpace(date))
		name = strings.TrimSpace(name)
		if err != nil || name == "" {
			errs = append(errs, fmt.Errorf("line %d is %q, want a date and a name, as in "+
				"2026-12-25,Christmas Day", number, line))
			continue
		}
		names[at.Unix()/86400] = name
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(day int64) string { return names[day] }, nil
}

// FederalHolidays names those of the United States (5 U.S.C. 6103) and, where one falls on a
// weekend, the Friday or Monday on which it is observed.
func FederalHolidays(day int64) string {
	date := time.Unix(day*86400, 0).UTC()
	if name := fixedHoliday(date); name != "" {
		return name
	}
	switch date.Weekday() {
	case time.Friday:
		return fixedHoliday(date.AddDate(0, 0, 1))
	case time.Thursday:
		if date.Month() == time.November && nthOfMonth(date) == 4 {
			return "Thanksgiving"
		}
	case time.Monday:
		if name := fixedHoliday(date.AddDate(0, 0, -1)); name != "" {
			return name
		}
		switch nth := nthOfMonth(date); {
		case date.Month() == time.January && nth == 3:
			return "Martin Luther King Day"
		case date.Month() == time.February && nth == 3:
			return "Presidents' Day"
		case date.Month() == time.May && date.Day() > 31-7:
			return "Memorial Day"
		case date.Month() == time.September && nth == 1:
			return "Labor Day"
		case date.Month() == time.October && nth == 2:
			return "Columbus Day"
		}
	}
	return ""
}

// nthOfMonth returns which of its month's days of that weekday a date is, from 1.
func nthOfMonth(date time.Time) int { return (date.Day() + 6) / 7 }

func fixedHoliday(date time.Time) string {
	return map[string]string{"01-01": "New Year's Day", "06-19": "Juneteenth",
		"07-04": "Independence Day", "11-11": "Veterans Day", "12-25": "Christmas Day",
	}[date.Format("01-02")]
}
