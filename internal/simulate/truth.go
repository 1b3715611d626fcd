package simulate

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// truthEvery is the length of the spans that [Truth] is of.
const truthEvery = 5 * time.Minute

// Truth is what really happened in five minutes: on a section from one plaza to the next, or to the
// trips from an origin to a destination. Vehicles that were not read count as well; each belongs to
// the span in which it arrives. Travel times are those of vehicles without a stop.
type Truth struct {
	Start    time.Time // of the span
	Trip     bool      // of whole trips, else of a section
	From, To int16
	Vehicles int
	// of those without a stop; all are 0 where there are none
	Median, P95 time.Duration
	Delay       time.Duration // mean time in queues, after From
}

// kind is how a span's rows are named, and ordered.
func (t *Truth) kind() string {
	if t.Trip {
		return "trip"
	}
	return "section"
}

// recorder gathers the truth of a span.
type recorder struct {
	location *time.Location
	report   func(Truth)
	span     int64                // its start, in microseconds; 0 for none yet
	cells    map[Truth]*truthSums // by kind, From and To
}

type truthSums struct {
	vehicles int
	waited   int64
	times    []int64
}

// passed records that a vehicle passes its gate.
func (r *recorder) passed(v *vehicle) {
	r.until(v.at)
	if v.gate > v.from {
		r.add(Truth{From: v.line.gates[v.gate-1].plaza, To: v.plaza()}, v.at-v.passed, v.waited,
			!v.stopped)
	}
	if v.gate == v.to {
		r.add(Truth{Trip: true, From: v.line.gates[v.from].plaza, To: v.plaza()}, v.at-v.set,
			v.delayed, !v.everStopped)
	}
}

func (r *recorder) add(c Truth, took, waited int64, timed bool) {
	sums := r.cells[c]
	if sums == nil {
		sums = &truthSums{}
		r.cells[c] = sums
	}
	sums.vehicles++
	sums.waited += waited
	if timed {
		sums.times = append(sums.times, took)
	}
}

// until reports the span, if it ended by then.
func (r *recorder) until(at int64) {
	span := floorDiv(at, truthEvery.Microseconds()) * truthEvery.Microseconds()
	if span == r.span {
		return
	}
	order := func(a, b Truth) int {
		return cmp.Or(cmp.Compare(a.kind(), b.kind()), cmp.Compare(a.From, b.From),
			cmp.Compare(a.To, b.To))
	}
	for _, truth := range slices.SortedFunc(maps.Keys(r.cells), order) {
		sums := r.cells[truth]
		truth.Start, truth.Vehicles = time.UnixMicro(r.span).In(r.location), sums.vehicles
		truth.Delay = time.Duration(sums.waited/int64(sums.vehicles)) * time.Microsecond
		if n := len(sums.times); n > 0 {
			slices.Sort(sums.times)
			truth.Median = time.Duration(sums.times[n/2]) * time.Microsecond
			truth.P95 = time.Duration(sums.times[n*95/100]) * time.Microsecond
		}
		r.report(truth)
	}
	clear(r.cells)
	r.span = span
}

// TruthWriter writes truth as CSV.
type TruthWriter struct{ csv *csv.Writer }

// NewTruthWriter returns a writer, after it wrote the header row.
func NewTruthWriter(w io.Writer) *TruthWriter {
	t := &TruthWriter{csv.NewWriter(w)}
	_ = t.csv.Write([]string{"start", "kind", "from", "to", "vehicles", "median_s", "p95_s",
		"delay_s"})
	return t
}

// Write writes a row. An error shows in [TruthWriter.Flush].
func (t *TruthWriter) Write(x Truth) {
	seconds := func(d time.Duration) string {
		if d == 0 {
			return "0"
		}
		return fmt.Sprintf("%.1f", d.Seconds())
	}
	_ = t.csv.Write([]string{toll.WallTimeOf(x.Start).String(), x.kind(), strconv.Itoa(int(x.From)),
		strconv.Itoa(int(x.To)), strconv.Itoa(x.Vehicles), seconds(x.Median), seconds(x.P95),
		seconds(x.Delay)})
}

// Flush writes what is buffered, and returns the first error of all writes.
func (t *TruthWriter) Flush() error {
	t.csv.Flush()
	return t.csv.Error()
}
