package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
)

// knownZones are well-known timezones, from west to east. Of those with the same rules, one or two
// are enough.
var knownZones = []string{
	"Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles", "America/Denver",
	"America/Phoenix", "America/Chicago", "America/Mexico_City",
	"America/New_York", "America/Bogota", "America/Halifax", "America/St_Johns", "America/Sao_Paulo",
	"Atlantic/Azores", "UTC", "Europe/London",
	"Europe/Berlin", "Europe/Paris", "Africa/Lagos", "Europe/Athens", "Africa/Johannesburg",
	"Europe/Istanbul", "Europe/Moscow", "Asia/Tehran",
	"Asia/Dubai", "Asia/Kabul", "Asia/Karachi", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Dhaka",
	"Asia/Yangon", "Asia/Bangkok", "Asia/Jakarta",
	"Asia/Shanghai", "Asia/Singapore", "Asia/Tokyo", "Asia/Seoul", "Australia/Adelaide",
	"Australia/Brisbane", "Australia/Sydney",
	"Pacific/Auckland", "Pacific/Chatham", "Pacific/Tongatapu", "Pacific/Kiritimati",
}

// Bounds of what a timezone explains.
const (
	zoneStep = 15 * time.Minute // offsets are multiples of it
	// how far from one a lead may be: clocks of one partition are not quite together
	zoneSlack   = 5 * time.Minute
	minOffset   = -12 * time.Hour // from UTC
	maxOffset   = 14 * time.Hour
	zonesNamed  = 2
	longestLead = int64(1 << 31) // seconds; what is longer is no timezone's anyway
)

// explainLead describes how far the last event ran ahead, and in which timezone its plaza's clock
// would be right. lead is in seconds.
func explainLead(b *board.Board, lead int64) (length, zone string) {
	lead = min(lead, longestLead)
	length = "the last of them by " + text.Minutes((lead+30)/60)
	offset, ok := clockOffset(b.Now().Time().In(b.Location), time.Duration(lead)*time.Second)
	if !ok {
		return length, "no timezone explains a clock that is ahead as far as that"
	}
	zone = "as if its clock ran on " + offsetName(offset)
	if names := zonesAt(b.Now().Time(), offset); len(names) > 0 {
		zone += " (" + strings.Join(names, ", ") + ")"
	}
	return length, zone + ", not on " + b.Location.String()
}

// clockOffset returns the offset from UTC of a clock that shows lead more than the clock of t's
// timezone, to a quarter of an hour; false where no timezone has it.
func clockOffset(t time.Time, lead time.Duration) (time.Duration, bool) {
	near := lead.Round(zoneStep)
	_, seconds := t.Zone()
	offset := time.Duration(seconds)*time.Second + near
	return offset, (lead-near).Abs() <= zoneSlack && near != 0 && offset >= minOffset &&
		offset <= maxOffset
}

// zonesAt returns well-known timezones whose clocks are at an offset from UTC at an instant.
func zonesAt(t time.Time, offset time.Duration) []string {
	var names []string
	for _, name := range knownZones {
		location, err := time.LoadLocation(name)
		if err != nil {
			continue
		}
		if _, seconds := t.In(location).Zone(); time.Duration(seconds)*time.Second == offset {
			if names = append(names, name); len(names) == zonesNamed {
				break
			}
		}
	}
	return names
}

// offsetName writes an offset from UTC: UTC+09:00.
func offsetName(offset time.Duration) string {
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	return fmt.Sprintf("UTC%c%02d:%02d", sign, int(offset.Hours()), int(offset.Minutes())%60)
}
