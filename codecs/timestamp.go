package codecs

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// timestamps reads events' times. It remembers the text of the last date, which is the same for all
// events of a day, and the last offset from UTC.
type timestamps struct {
	loc *time.Location
	// Where times are that name no zone; nil for loc. Times with one are instants.
	from *toll.Zone

	// The last ctime: 24 bytes, "Thu Feb 10 hh:mm:ss 2022", of which the time of day stands at
	// ctimeFrom to ctimeTo.
	ctimeHead [ctimeFrom]byte
	ctimeTail [ctimeLen - ctimeTo]byte
	ctimeDay  toll.WallTime // midnight
	hasCtime  bool

	// The last ISO date: "2022-02-10".
	isoDate [10]byte
	isoDay  toll.WallTime

	// The last quarter of an hour of UTC, if the offset is the same all through it.
	quarter int64
	offset  int64
	cached  bool
}

const (
	ctimeLen  = len("Thu Feb 10 10:23:02 2022")
	ctimeFrom = len("Thu Feb 10 ")
	ctimeTo   = len("Thu Feb 10 10:23:02")
)

// ctime reads a ctime of the day that was read last. It is false if it isn't that, which says
// nothing yet.
func (c *timestamps) ctime(b []byte) (toll.WallTime, bool) {
	if !c.hasCtime || len(b) < ctimeLen || [ctimeFrom]byte(b) != c.ctimeHead ||
		[ctimeLen - ctimeTo]byte(b[ctimeTo:]) != c.ctimeTail {
		return 0, false
	}
	second, ok := timeOfDay(b[ctimeFrom:])
	return c.ctimeDay + toll.WallTime(second), ok
}

// parse reads a timestamp in any accepted form, without blanks around it.
func (c *timestamps) parse(b []byte) (toll.WallTime, error) {
	if len(b) == ctimeLen {
		if w, ok := c.ctime(b); ok {
			return w, nil
		}
	}
	if len(b) == 0 {
		return 0, toll.Malformed(fieldTime, "empty")
	}
	var w toll.WallTime
	var err error
	if isDigit(b[0]) {
		w, err = c.parseISO(b)
	} else {
		w, err = c.parseCtime(b)
	}
	if err != nil {
		return 0, toll.Malformed(fieldTime, "%s", err.Error())
	}
	return w, nil
}

func notTimestamp(b []byte) error { return fmt.Errorf("%s is not a timestamp", clip(b)) }

// parseCtime reads "Thu Feb 10 10:23:02 2022", any blanks between its parts.
func (c *timestamps) parseCtime(b []byte) (toll.WallTime, error) {
	var part [5][]byte
	var start [5]int
	rest := b
	for i := range part {
		rest = trim(rest)
		start[i] = len(b) - len(rest)
		n := 0
		for n < len(rest) && !isBlank(rest[n]) {
			n++
		}
		part[i], rest = rest[:n], rest[n:]
	}
	if len(part[4]) == 0 || len(rest) > 0 {
		return 0, notTimestamp(b)
	}
	if nameIndex("sunmontuewedthufrisat", part[0]) == 0 {
		return 0, fmt.Errorf("%s is not a weekday", clip(part[0]))
	}
	month := nameIndex("janfebmaraprmayjunjulaugsepoctnovdec", part[1])
	if month == 0 {
		return 0, fmt.Errorf("%s is not a month", clip(part[1]))
	}
	day, ok := smallNumber(part[2], 2)
	if !ok {
		return 0, fmt.Errorf("%s is not a day", clip(part[2]))
	}
	if len(part[3]) != 8 || !looksLikeTimeOfDay(part[3]) {
		return 0, fmt.Errorf("%s is not a time of day", clip(part[3]))
	}
	year, ok := smallNumber(part[4], 6)
	if !ok {
		return 0, fmt.Errorf("%s is not a year", clip(part[4]))
	}
	w, err := wallTime(year, month, day, part[3])
	if err == nil && c.from != nil {
		return c.local(w)
	}
	if err == nil && len(b) == ctimeLen && start[3] == ctimeFrom && bytes.IndexByte(b, '\n') < 0 {
		// The parts stand where they stand in the usual form, so whatever is between them may be
		// remembered as it is.
		second, _ := timeOfDay(part[3])
		c.ctimeHead = [ctimeFrom]byte(b)
		c.ctimeTail = [ctimeLen - ctimeTo]byte(b[ctimeTo:])
		c.ctimeDay = w - toll.WallTime(second)
		c.hasCtime = true
	}
	return w, err
}

// parseISO reads "2022-02-10 10:23:02" or with a T, after which a fraction and an offset may
// follow.
func (c *timestamps) parseISO(b []byte) (toll.WallTime, error) {
	const dateLen, timeLen = len("2022-02-10"), len("10:23:02")
	if len(b) < dateLen+1+timeLen || b[4] != '-' || b[7] != '-' {
		return 0, notTimestamp(b)
	}
	rest := b[dateLen:]
	if rest[0] == 'T' || rest[0] == 't' {
		rest = rest[1:]
	} else if blanks := trim(rest); len(blanks) < len(rest) {
		rest = blanks
	} else {
		return 0, notTimestamp(b)
	}
	if len(rest) < timeLen || !looksLikeTimeOfDay(rest) {
		return 0, notTimestamp(b)
	}
	var w toll.WallTime
	if second, ok := timeOfDay(rest); ok && [dateLen]byte(b) == c.isoDate {
		w = c.isoDay + toll.WallTime(second)
	} else {
		year, ok1 := smallNumber(b[:4], 4)
		month, ok2 := smallNumber(b[5:7], 2)
		day, ok3 := smallNumber(b[8:dateLen], 2)
		if !ok1 || !ok2 || !ok3 {
			return 0, notTimestamp(b)
		}
		var err error
		if w, err = wallTime(year, month, day, rest); err != nil {
			return 0, err
		}
		c.isoDate, c.isoDay = [dateLen]byte(b), w-toll.WallTime(second)
	}
	if rest = rest[timeLen:]; len(rest) == 1 && rest[0] == 'Z' { // as most instants end
		return c.wall(int64(w))
	}
	return c.behind(b, rest, w)
}

// behind reads what follows the seconds of a wall time: a fraction, which is cut off, and an offset
// from UTC. Both are optional.
func (c *timestamps) behind(b, rest []byte, w toll.WallTime) (toll.WallTime, error) {
	if len(rest) == 0 {
		return c.local(w)
	}
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		if n == 1 {
			return 0, notTimestamp(b)
		}
		rest = rest[n:]
	}
	rest = trim(rest)
	if len(rest) == 0 {
		return c.local(w)
	}
	east, ok := parseOffset(rest)
	if !ok {
		return 0, fmt.Errorf("%s is not an offset from UTC", clip(rest))
	}
	return c.wall(int64(w) - east)
}

// local returns a time that names no zone as the location's clock shows it.
func (c *timestamps) local(w toll.WallTime) (toll.WallTime, error) {
	if c.from == nil {
		return w, nil
	}
	return c.wall(c.from.Unix(w))
}

// parseOffset reads Z, +01:00, +0100 or +01 and returns the seconds east of UTC.
func parseOffset(b []byte) (int64, bool) {
	if len(b) == 1 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, true
	}
	if len(b) < 3 || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	hour, ok := smallNumber(b[1:3], 2)
	minutes := b[3:]
	if len(minutes) == 3 && minutes[0] == ':' {
		minutes = minutes[1:]
	}
	minute := 0
	if len(minutes) > 0 {
		var okMinute bool
		minute, okMinute = smallNumber(minutes, 2)
		ok = ok && okMinute && len(minutes) == 2
	}
	if !ok || hour > 23 || minute > 59 {
		return 0, false
	}
	east := int64(hour*3600 + minute*60)
	if b[0] == '-' {
		east = -east
	}
	return east, true
}

var errOutside = errors.New("outside the years 1000 to 9999")

// wall returns what a clock in the location shows at an instant.
func (c *timestamps) wall(unix int64) (toll.WallTime, error) {
	const day, quarterSeconds = 86400, 900
	if unix < int64(toll.MinWallTime)-2*day || unix > int64(toll.MaxWallTime)+2*day {
		return 0, errOutside
	}
	quarter := unix / quarterSeconds
	if unix < 0 && unix%quarterSeconds != 0 {
		quarter--
	}
	offset := c.offset
	if !c.cached || quarter != c.quarter {
		offset = c.offsetAt(unix)
		c.quarter, c.offset = quarter, offset
		c.cached = c.offsetAt(quarter*quarterSeconds) == offset &&
			c.offsetAt(quarter*quarterSeconds+quarterSeconds-1) == offset
	}
	w := toll.WallTime(unix + offset)
	if !w.Valid() {
		return 0, errOutside
	}
	return w, nil
}

func (c *timestamps) offsetAt(unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(c.loc).Zone()
	return int64(offset)
}

// wallTime joins a date and "hh:mm:ss".
func wallTime(year, month, day int, hms []byte) (toll.WallTime, error) {
	two := func(i int) int { return int(hms[i]-'0')*10 + int(hms[i+1]-'0') }
	return toll.WallTimeFromDate(year, month, day, two(0), two(3), two(6))
}

// looksLikeTimeOfDay reports whether b begins with "dd:dd:dd", d being digits.
func looksLikeTimeOfDay(b []byte) bool {
	return len(b) >= 8 && isDigit(b[0]) && isDigit(b[1]) && b[2] == ':' && isDigit(b[3]) &&
		isDigit(b[4]) && b[5] == ':' &&
		isDigit(b[6]) && isDigit(b[7])
}

// timeOfDay returns the seconds since midnight of the "hh:mm:ss" that b begins with.
func timeOfDay(b []byte) (int32, bool) {
	if len(b) < 8 {
		return 0, false
	}
	b = b[:8]
	h1, h0, m1, m0, s1, s0 := b[0]-'0', b[1]-'0', b[3]-'0', b[4]-'0', b[6]-'0', b[7]-'0'
	if h1 > 2 || h0 > 9 || m1 > 5 || m0 > 9 || s1 > 5 || s0 > 9 || b[2] != ':' || b[5] != ':' {
		return 0, false
	}
	hour := int32(h1)*10 + int32(h0)
	return hour*3600 + (int32(m1)*10+int32(m0))*60 + int32(s1)*10 + int32(s0), hour < 24
}

// smallNumber reads a number of 1 to most digits.
func smallNumber(b []byte, most int) (int, bool) {
	if len(b) == 0 || len(b) > most {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// nameIndex returns which of the names of three letters it is, from 1, and 0 for none. Case doesn't
// matter.
func nameIndex(names string, b []byte) int {
	if len(b) != 3 {
		return 0
	}
	var low [3]byte
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	for i := 0; i < len(names); i += 3 {
		if names[i:i+3] == string(low[:]) {
			return i/3 + 1
		}
	}
	return 0
}
