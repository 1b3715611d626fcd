package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// MaxVariation bounds the variation of [ProfileConfig].
const MaxVariation = 3

// variation is how the flow of a plaza departs from that of an average day, as a factor for each
// minute of its clock. Real counts vary far more than independent vehicles do. The figures were
// fitted to a year of hourly counts of Interstate 94 at Saint Paul (October 2016 to September 2017;
// UCI Machine Learning Repository, "Metro Interstate Traffic Volume"), each compared with the same
// hour of that weekday in the four weeks before and after. That year shows, in robust standard
// deviations of the logarithm:
//
//   - the season: 6 % fewer in January, 6 % more in July
//   - the day: 2.9 % on weekdays, 5.8 % at weekends; correlated by 0.30 with the day before and by
//     0.09 with the one before that
//   - the hour, apart from its day: 3 to 5 % in the daytime of a weekday and 13 % at night, 5 to 19
//     % at weekends; correlated by 0.51, 0.26 and 0.12 with the three hours before
//   - bad weather: days with 15 to 40 % less, for 10 to 30 hours, five times a winter; a few hours
//     of it eight times a winter, and seldom else
//   - something on nearby: 15 to 40 % more for some hours
//   - holidays, see [holidayOn]
//
// TestVariationIsAsMeasured holds simulated years to this. Season, weather and holidays are the
// same at all plazas, and so is half of the variance of days: one station says nothing about that,
// it is an assumption. So is that within an hour nothing but chance varies.
//
// Each value depends on seed, plaza and time alone.
type variation struct {
	scale         float64 // on all logarithms: 1 is as measured
	plaza, region uint64  // keys of random streams
	random        rand.PCG
	draw          *rand.Rand
	day           int64 // that daily and spells are of
	daily         float64
	spells        []spell
	// since 1970-01-01 on the clock: before and after are at its begin and its end
	hour           int64
	before, after  float64
	begun, hourSet bool
}

// spell is a stretch with other traffic, in minutes since 1970-01-01 on the clock.
type spell struct {
	start, end int64
	log        float64 // of the factor
}

// Standard deviations of the hours, as measured; see [variation].
var (
	weekdayHours = [24]float64{
		.105, .130, .130, .097, .050, .030, .036, .045, .048, .038, .031, .031,
		.032, .029, .029, .030, .035, .038, .043, .040, .048, .091, .127, .106,
	}
	weekendHours = [24]float64{
		.148, .151, .176, .170, .181, .156, .154, .188, .100, .078, .062, .067,
		.048, .056, .068, .060, .065, .063, .067, .085, .088, .095, .153, .134,
	}
)

const (
	season         = 0.06
	weekdayDays    = 0.022
	weekendDays    = 0.042
	hourDecay      = 0.40 // weight of each hour before in terms of the next
	hoursSummed    = 6    // hours whose chance still shows
	dayBefore      = 0.55 // weight of the day before
	winterStorms   = 0.09 // a day
	summerStorms   = 0.016
	weekdayEvents  = 0.02
	weekendEvents  = 0.08
	longestSpell   = 2  // days before on which a spell may have begun
	spellRamp      = 60 // minutes until it is whole
	minutesPerHour = 60
)

// Streams of random numbers, any constants, so that none is another's.
const (
	dayStream   = 0x646179
	hourStream  = 0x686f7572
	stormStream = 0x73746f726d
	eventStream = 0x6576656e74
)

func newVariation(scale float64, seed, plaza uint64) *variation {
	v := &variation{scale: scale, plaza: plaza, region: scramble(seed ^ 0x726567696f6e)}
	v.draw = rand.New(&v.random)
	return v
}

// factor returns by how much the flow of a minute of a day departs from the average day's.
func (v *variation) factor(day int64, minute int) float64 {
	if !v.begun || day != v.day {
		v.openDay(day)
	}
	hour := day*24 + int64(minute/minutesPerHour)
	if !v.hourSet || hour != v.hour {
		v.hour, v.hourSet = hour, true
		v.before, v.after = v.hourly(hour), v.hourly(hour+1)
	}
	part := float64(minute%minutesPerHour) / minutesPerHour
	log := v.daily + v.before*(1-part) + v.after*part
	at := day*minutesPerDay + int64(minute)
	for _, s := range v.spells {
		if s.start <= at && at < s.end {
			log += s.log * min(1, float64(min(at-s.start, s.end-at))/spellRamp)
		}
	}
	return math.Exp(v.scale * log)
}

// seed restarts the random numbers.
func (v *variation) seed(key, stream uint64,
	n int64) {
	v.random.Seed(key^stream, scramble(uint64(n)))
}

// normal returns a number of the standard normal distribution.
func (v *variation) normal(key, stream uint64, n int64) float64 {
	v.seed(key, stream, n)
	return v.draw.NormFloat64()
}

// openDay computes what holds for a whole day.
func (v *variation) openDay(day int64) {
	v.day, v.begun = day, true
	date := time.Unix(day*86400, 0).UTC()
	v.daily = math.Log1p(-season * math.Cos(2*math.Pi*float64(date.YearDay()-15)/365.25))
	deviation := weekdayDays
	if isWeekend(day) {
		deviation = weekendDays
	}
	chance := func(day int64) float64 {
		return (v.normal(v.region, dayStream, day) + v.normal(v.plaza, dayStream, day)) / math.Sqrt2
	}
	v.daily += deviation * (chance(day) + dayBefore*chance(day-1)) / math.Hypot(1, dayBefore)
	if h, ok := holidayOn(day); ok {
		v.daily += math.Log(h.factor)
	}
	v.spells = v.spells[:0]
	for d := day - longestSpell; d <= day; d++ {
		v.addStorm(d)
		v.addEvent(d)
	}
}

// addStorm adds the bad weather that begins on a day.
func (v *variation) addStorm(day int64) {
	v.seed(v.region, stormStream, day)
	chance, long := summerStorms, false
	if month := time.Unix(day*86400, 0).UTC().Month(); month >= time.November || month <= time.March {
		chance, long = winterStorms, v.draw.IntN(3) == 0
	}
	if v.draw.Float64() >= chance {
		return
	}
	start := day*minutesPerDay + v.draw.Int64N(minutesPerDay)
	length := 2*minutesPerHour + v.draw.Int64N(3*minutesPerHour)
	if long {
		length = 10*minutesPerHour + v.draw.Int64N(20*minutesPerHour)
	}
	v.spells = append(v.spells, spell{start, start + length, math.Log(0.60 + 0.25*v.draw.Float64())})
}

// addEvent adds what is on nearby on a day, between 10:00 and midnight.
func (v *variation) addEvent(day int64) {
	v.seed(v.plaza, eventStream, day)
	chance := weekdayEvents
	if isWeekend(day) {
		chance = weekendEvents
	}
	if v.draw.Float64() >= chance {
		return
	}
	start := day*minutesPerDay + 10*minutesPerHour + v.draw.Int64N(9*minutesPerHour)
	length := 2*minutesPerHour + v.draw.Int64N(3*minutesPerHour)
	v.spells = append(v.spells, spell{start, start + length, math.Log(1.15 + 0.25*v.draw.Float64())})
}

// hourly returns how far the begin of an hour of the clock departs from its day: an
// autoregression of the first order, summed up from the hours whose chance still shows.
func (v *variation) hourly(hour int64) float64 {
	day := math.Floor(float64(hour) / 24)
	deviations := &weekdayHours
	if isWeekend(int64(day)) {
		deviations = &weekendHours
	}
	sum, squares, weight := 0.0, 0.0, 1.0
	for i := range int64(hoursSummed) {
		sum += weight * v.normal(v.plaza, hourStream, hour-i)
		squares += weight * weight
		weight *= hourDecay
	}
	return deviations[hour-int64(day)*24] * sum / math.Sqrt(squares)
}

// Kinds of incidents.
const (
	// Blockage lets only a part of the vehicles pass. The others are lost to the plaza: they go
	// another way. None waits and comes later, so the flow after a blockage is the usual one.
	Blockage = "blockage"
	// Surge multiplies the flow, as far as the plaza's capacity lets it.
	Surge = "surge"
)

// The usual sizes of incidents, and the largest.
const (
	DefaultBlockage = 0.05
	DefaultSurge    = 2.5
	MaxSurge        = 100
)

// Incident is something that changes a plaza's flow for a while.
type Incident struct {
	Plaza      int16
	Kind       string    // Blockage or Surge
	Start, End time.Time // [Start, End) of event time
	// the flow is that many times the usual: below 1 for a blockage, above for a surge
	Size float64
}

// String returns the incident as a command line has it: plaza,start,length,kind,size.
func (i *Incident) String() string {
	return fmt.Sprintf("%d,%s,%v,%s,%v", i.Plaza, i.Start.Format(time.DateTime), i.End.Sub(i.Start),
		i.Kind, i.Size)
}

// validate returns what is wrong with the incident by itself.
func (i *Incident) validate() error {
	switch {
	case i.Kind != Blockage && i.Kind != Surge:
		return fmt.Errorf("the kind %q is neither %s nor %s", i.Kind, Blockage, Surge)
	case i.Kind == Blockage && !(i.Size >= 0 && i.Size < 1):
		return fmt.Errorf("the size %v of a %s is not from 0 to below 1", i.Size, i.Kind)
	case i.Kind == Surge && !(i.Size > 1 && i.Size <= MaxSurge):
		return fmt.Errorf("the size %v of a %s is not above 1 and at most %d", i.Size, i.Kind, MaxSurge)
	case !i.End.After(i.Start):
		return fmt.Errorf("the length %v is not above 0", i.End.Sub(i.Start))
	}
	return nil
}

// Label is a line of a labels file, as JSON: what a detector should find.
type Label struct {
	Plaza     int16     `json:"plaza"`
	Kind      string    `json:"kind"`
	Size      float64   `json:"size"`
	Start     time.Time `json:"start"`      // RFC 3339
	End       time.Time `json:"end"`        // exclusive
	StartWall string    `json:"start_wall"` // the same as livetolldata.timestamp has it
	EndWall   string    `json:"end_wall"`
}

// WriteLabels writes a label for each incident, one a line, by start. Wall times are those of
// location.
func WriteLabels(w io.Writer, location *time.Location, incidents []Incident) error {
	encoder := json.NewEncoder(w)
	byStart := slices.SortedStableFunc(slices.Values(incidents), func(a, b Incident) int {
		return a.Start.Compare(b.Start)
	})
	for _, i := range byStart {
		start, end := i.Start.In(location), i.End.In(location)
		if err := encoder.Encode(Label{
			Plaza: i.Plaza, Kind: i.Kind, Size: i.Size, Start: start, End: end,
			StartWall: toll.WallTimeOf(start).String(), EndWall: toll.WallTimeOf(end).String(),
		}); err != nil {
			return err
		}
	}
	return nil
}
