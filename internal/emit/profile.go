package emit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

const (
	minSpeed = 0.001
	maxSpeed = 1e6
)

// Profile is how the vehicles of a measured day pass.
type Profile struct {
	Day    simulate.ProfileConfig
	Speed  float64 // of event time, in times the clock's; 0: as fast as possible
	Live   bool    // event time is the clock's
	Labels string  // file to which the incidents are written; empty for none
}

// ends reports whether there is an end of event time.
func (p *Profile) ends() bool { return p != nil && !p.Day.End.IsZero() }

// ProfileStart returns the first event time: start, or if that is zero, now for live events and
// else the last midnight.
func ProfileStart(start, now time.Time, live bool) time.Time {
	switch {
	case !start.IsZero():
		return start
	case live:
		return now
	}
	year, month, day := now.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, now.Location())
}

// AddDays returns the time some days later: whole days by the calendar, so that one from midnight
// ends at midnight where clocks change too, and the rest of a day as a part of 24 hours.
func AddDays(t time.Time, days float64) time.Time {
	whole, part := math.Modf(days)
	return t.AddDate(0, 0, int(whole)).Add(time.Duration(part * float64(24*time.Hour)))
}

// ParseSpeed reads a speed such as 60x; 0 and max are as fast as possible.
func ParseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || speed != 0 && !(speed >= minSpeed && speed <= maxSpeed) {
		return 0, fmt.Errorf("%q is not a speed such as 60x, from %v to %.0f, nor max", text, minSpeed,
			maxSpeed)
	}
	return speed, nil
}

// profileFeed is the feed of a day's profile. It waits for each event's time.
type profileFeed struct {
	cfg      *Profile
	profile  *simulate.Profile
	pace     *pacer
	event    toll.Event
	at       time.Time // of the event
	n, count int64
}

// openProfile returns the feed, and writes the labels.
func openProfile(cfg *Config) (*profileFeed, error) {
	p := cfg.Profile
	profile, err := simulate.NewProfile(p.Day)
	if err != nil {
		return nil, err
	}
	if p.Labels != "" {
		var b bytes.Buffer
		if err := simulate.WriteLabels(&b, cfg.Location, p.Day.Incidents); err != nil {
			return nil, err
		}
		if err := os.WriteFile(p.Labels, b.Bytes(), 0o666); err != nil {
			return nil, fmt.Errorf("write --labels: %w", err)
		}
	}
	pace := newPacer(0)
	if p.Live {
		// Vehicles passed while Kafka was unavailable as well: each is due when the clock shows its
		// time, and not later for it.
		pace.began, pace.catchUp = p.Day.Start, math.MaxInt64
	}
	return &profileFeed{cfg: p, profile: profile, pace: pace, at: p.Day.Start, count: cfg.Count}, nil
}

func (f *profileFeed) next(ctx context.Context, beforeWait func()) (item, error) {
	at, ok := f.profile.Next(&f.event)
	if !ok {
		return item{}, io.EOF
	}
	if f.cfg.Speed > 0 &&
		!f.pace.waitUntil(ctx, dueAfter(f.cfg.Day.Start, at, f.cfg.Speed), beforeWait) {
		return item{}, ctx.Err()
	}
	f.at = at
	f.n++
	return item{event: &f.event}, nil
}

// dueAfter returns how long after start an event is due. A time.Duration would not hold 300 years
// of event time.
func dueAfter(start, at time.Time, speed float64) time.Duration {
	const limit = math.MaxInt64 / 2
	return time.Duration(min(limit,
		float64(at.UnixMicro()-start.UnixMicro())/speed*float64(time.Microsecond)))
}

func (f *profileFeed) done() (at, length int64) {
	switch {
	case f.count > 0:
		return f.n, f.count
	case f.cfg.ends():
		start := f.cfg.Day.Start.Unix()
		return f.at.Unix() - start, max(1, f.cfg.Day.End.Unix()-start)
	}
	return f.n, 0
}
