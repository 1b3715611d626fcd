package render

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll/journeys"
)

// Journeys prints the sections of a window as a table of a width, in their order.
func Journeys(w io.Writer, j *board.Journeys, width int) error {
	if j.Status != board.HasJourneys || len(j.Sections) == 0 {
		return noJourneys(w, &j.JourneyWindow)
	}
	fields := []table.Field{
		{Column: table.Right("from")}, {Column: table.Left("name"), Rank: 4},
		{Column: table.Right("to")}, {Column: table.Left("name"), Rank: 4},
		{Column: table.Right("vehicles"), Rank: 2}, {Column: table.Right("min:s")},
		{Column: table.Right("usual"), Rank: 1}, {Column: table.Right("slower")},
		{Column: table.Right("km/h"), Rank: 3}, {Column: table.Right("delay veh-h")},
		{Column: table.Right("overdue"), Rank: 1}, {Column: table.Left("")},
	}
	total, slow := int64(0), 0
	for i := range j.Sections {
		s := &j.Sections[i]
		total += s.Vehicles
		mark, vehicles := "", text.Number(s.Vehicles)
		if s.Vehicles == 0 {
			vehicles = "<5"
		}
		if s.Slow {
			mark = "slow"
			slow++
		}
		for n, cell := range []string{strconv.Itoa(s.From), text.Cell(s.FromName),
			strconv.Itoa(s.To), text.Cell(s.ToName), vehicles,
			TravelTime(s.MedianSeconds), TravelTime(s.UsualSeconds), slower(s),
			known(s.SpeedKmh, "%.0f"), known(s.DelayHours, "%.1f"), overdue(s), mark} {
			fields[n].Cells = append(fields[n].Cells, cell)
		}
	}
	howMany := "none"
	if slow > 0 {
		howMany = text.Number(slow)
	}
	fmt.Fprintf(w, "%s: %s on %s, %s slow\n%s\n", span(&j.JourneyWindow), text.Count(total, "journey"),
		text.Count(len(j.Sections), "section"), howMany, usualOf(j))
	return table.Write(w, dropEmpty(fields), width)
}

// usualOf writes, as a line, what usual is where that is not four weeks.
func usualOf(j *board.Journeys) string {
	switch {
	case j.UsualWeeks == journeys.UsualWeeks:
		return ""
	case j.Until.Sub(j.From) > 24*time.Hour: // there is nothing else
		return "usual is the hour before\n"
	case j.UsualWeeks == 0:
		return "usual is the hour before; --weeks 4 reads the weeks before as well\n"
	}
	return fmt.Sprintf("usual is of %s before; --weeks 4 reads all four\n",
		text.Count(j.UsualWeeks, "week"))
}

// Section prints all that is known of one section.
func Section(w io.Writer, window *board.JourneyWindow, s *board.Section) error {
	where := []string{plazaName(s.From, s.FromName) + " → " + plazaName(s.To, s.ToName)}
	if s.Road != "" {
		where = append(where, text.Cell(s.Road))
	}
	if s.LengthKm != nil {
		where = append(where, fmt.Sprintf("%.1f km", *s.LengthKm))
	}
	arrived := "fewer than 5 vehicles arrived"
	if s.Vehicles > 0 {
		arrived = text.Count(s.Vehicles, "vehicle")
	}
	fmt.Fprintf(w, "%s\n%s: %s\n\n", strings.Join(where, ", "), span(window), arrived)
	if s.Stopped > 0 {
		fmt.Fprintf(w, "%s more stopped on the way\n", text.Number(s.Stopped))
	}
	spread := ""
	if s.LowSeconds != nil && s.HighSeconds != nil {
		spread = fmt.Sprintf("median, 95 %% confidence %s to %s", TravelTime(s.LowSeconds),
			TravelTime(s.HighSeconds))
	}
	if by := slower(s); by != "" {
		spread += ", " + by + " against usual"
	}
	if s.Slow {
		spread += ": slow"
	}
	figures := []table.Figure{
		{"travel time", TravelTime(s.MedianSeconds), spread},
		{"85th percentile", TravelTime(s.P85Seconds), ""},
		{"95th percentile", TravelTime(s.P95Seconds), "a vehicle of twenty takes longer"},
		{"usual", TravelTime(s.UsualSeconds), s.UsualOf},
		{"free flow", TravelTime(s.FreeSeconds), "15th percentile of " + s.FreeOf},
		{"speed", known(s.SpeedKmh, "%.0f"), "km/h, mean over the section"},
		{"travel time index", known(s.TTI, "%.2f"), "mean over free flow"},
		{"planning time index", known(s.PTI, "%.2f"), "95th percentile over free flow"},
		{"buffer index", known(s.BufferIndex, "%.2f"), "95th percentile over the mean, less one"},
		{"reliability", known(s.Reliability, "%.2f"), "80th percentile over the median"},
		{"delay", known(s.DelayHours, "%.1f"), "vehicle-hours beyond free flow"},
		{"overdue", overdue(s), "vehicles left longer ago than 1.3 times usual and were not seen"},
	}
	table.WriteFigures(w, slices.DeleteFunc(figures,
		func(f table.Figure) bool { return f[1] == "" }))
	return nil
}

// Through prints where the vehicles of a plaza come from and go to.
func Through(w io.Writer, t *board.Through) error {
	if t.Status != board.HasJourneys {
		return noJourneys(w, &t.JourneyWindow)
	}
	fmt.Fprintf(w, "through %s\n%s: %s\n", plazaName(t.Plaza, t.Name), span(&t.JourneyWindow),
		text.Count(t.Vehicles, "vehicle"))
	for _, list := range []struct {
		title   string
		streams []board.Stream
	}{{"first seen at", t.Origins}, {"last seen at", t.Destinations}} {
		fmt.Fprintln(w)
		out := table.New(w, table.Left(list.title), table.Right("vehicles"), table.Right("share"),
			table.Left(""))
		for _, s := range list.streams {
			name := "other plazas"
			if s.Plaza != nil && *s.Plaza == t.Plaza {
				name = "here"
			} else if s.Plaza != nil {
				name = plazaName(*s.Plaza, s.Name)
			}
			out.AppendRow([]any{name, text.Number(s.Vehicles),
				text.Percent(s.Vehicles, t.Vehicles), strings.Repeat("▪", int(math.Round(s.Share*20)))})
		}
		if err := out.Render(); err != nil {
			return err
		}
	}
	return nil
}

func noJourneys(w io.Writer, j *board.JourneyWindow) error {
	why := j.Why
	if why == "" {
		why = "no vehicle was seen at two plazas"
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", span(j), text.OneLine(why))
	return err
}

// span writes a window: 2026-03-02 17:00 to 17:15 CET.
func span(j *board.JourneyWindow) string {
	end := "15:04 MST"
	if j.From.Format("2006-01-02") != j.Until.Format("2006-01-02") {
		end = "2006-01-02 15:04 MST"
	}
	return j.From.Format("2006-01-02 15:04") + " to " + j.Until.Format(end)
}

func plazaName(id int, name string) string {
	return strings.TrimSpace(strconv.Itoa(id) + " " + text.Cell(name))
}

// TravelTime writes seconds as minutes, 8:10, or as hours, 1:02:10; empty for not known.
func TravelTime(seconds *float64) string {
	if seconds == nil {
		return ""
	}
	n := int(math.Round(*seconds))
	if n < 3600 {
		return fmt.Sprintf("%d:%02d", n/60, n%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}

// slower writes how much longer than usual vehicles take.
func slower(s *board.Section) string {
	if s.MedianSeconds == nil || s.UsualSeconds == nil || *s.UsualSeconds <= 0 {
		return ""
	}
	sign, percent := "", math.Round((*s.MedianSeconds / *s.UsualSeconds - 1)*100)
	if percent > 0 {
		sign = "+"
	} else if percent < 0 {
		sign = "−"
	}
	return sign + text.Round(math.Abs(percent)) + " %"
}

// overdue writes a band, 12–20, unless none may be overdue.
func overdue(s *board.Section) string {
	switch low, high := s.OverdueLow, s.OverdueHigh; {
	case low == nil || high == nil || *low == 0:
		return ""
	case *low == *high:
		return text.Number(*low)
	default:
		return text.Number(*low) + "–" + text.Number(*high)
	}
}

func known(x *float64, format string) string {
	if x == nil {
		return ""
	}
	return fmt.Sprintf(format, *x)
}
