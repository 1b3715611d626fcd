package telemetry

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll/traffic"
)

// DefaultPlazaSeries bounds the plazas that have metrics of their own, those with most vehicles so
// far: Prometheus keeps each of them for weeks, and an order that changes would create new ones
// all the time. The API has all.
const (
	DefaultPlazaSeries = 100
	MostPlazaSeries    = 10_000
)

func viewMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("tollstream", "view", name), help, labels, nil)
}

var (
	eventsMetric   = viewMetric("events", "Events that the group table counts.")
	rowsMetric     = viewMetric("rows", "Rows of livetolldata when they were counted last.")
	inFlightMetric = viewMetric("in_flight", "Events that are stored and not yet counted.")
	rejectedMetric = viewMetric("dead_letters",
		"Records that were rejected, when they were counted last.")
	verificationMetric = viewMetric("verification",
		"Whether this is the verdict on the figures: 1 or 0.", "status")
	problemsMetric = viewMetric("problems",
		"What the verification found wrong, one for each plaza and kind of problem.")
	mismatchesMetric = viewMetric("plazas_mismatched", "Plazas whose rows and counts don't agree.")
	checkedMetric    = viewMetric("rows_counted_timestamp_seconds",
		"When the rows were counted last.")
	streamTimeMetric = viewMetric("stream_timestamp_seconds",
		"The event time that the stream has come to.")
	watermarkMetric = viewMetric("watermark_timestamp_seconds",
		"The watermark, in event time: windows that end before it have closed.")
	watermarkAgeMetric = viewMetric("watermark_age_seconds",
		"How far the watermark is behind this machine's clock. A replay of old events is far behind.")
	boardMetric     = viewMetric("board_timestamp_seconds", "When these figures were read.")
	plazasMetric    = viewMetric("plazas", "Plazas by their state of congestion.", "state")
	plazaFlowMetric = viewMetric("plaza_flow_vehicles_per_hour",
		"Flow of the last quarter of an hour, of the plazas with most vehicles so far.", "plaza")
	plazaVCMetric = viewMetric("plaza_vc_ratio",
		"Demand by capacity, of the plazas with most vehicles so far.", "plaza")
)

// View collects the figures of the board that was read last.
type View struct {
	Last   func() *board.Board // nil before the first
	Plazas int                 // how many have metrics of their own
}

func (m *View) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		eventsMetric, rowsMetric, inFlightMetric, rejectedMetric, verificationMetric, problemsMetric,
		mismatchesMetric, checkedMetric,
		streamTimeMetric, watermarkMetric,
		watermarkAgeMetric, boardMetric, plazasMetric, plazaFlowMetric, plazaVCMetric,
	} {
		ch <- d
	}
}

// Collect makes no call to a server, however often it is scraped.
func (m *View) Collect(ch chan<- prometheus.Metric) {
	b := m.Last()
	if b == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	v := &b.Verification
	gauge(eventsMetric, float64(b.Events))
	gauge(inFlightMetric, float64(v.InFlight))
	gauge(rejectedMetric, float64(b.DeadLetters))
	if v.Rows != nil {
		gauge(rowsMetric, float64(*v.Rows))
		gauge(checkedMetric, unixSeconds(*v.CheckedAt))
	}
	for _, status := range []board.Status{board.Exact, board.InFlight, board.Mismatch} {
		is := 0.0
		if v.Status == status {
			is = 1
		}
		gauge(verificationMetric, is, string(status))
	}
	gauge(problemsMetric, float64(len(v.Problems)))
	gauge(boardMetric, unixSeconds(b.At))
	if b.StreamTime != nil {
		gauge(streamTimeMetric, unixSeconds(*b.StreamTime))
		if b.Watermark != nil {
			gauge(watermarkMetric, unixSeconds(*b.Watermark))
			gauge(watermarkAgeMetric, time.Since(*b.Watermark).Seconds())
		}
	}
	mismatches := 0
	states := map[traffic.State]int{}
	plazas := make([]*board.Plaza, 0, len(b.Plazas))
	for i := range b.Plazas {
		p := &b.Plazas[i]
		if p.Verification.Status == board.Mismatch {
			mismatches++
		}
		if p.ID != board.NullPlaza {
			plazas = append(plazas, p)
			states[p.State]++
		}
	}
	gauge(mismatchesMetric, float64(mismatches))
	for _, state := range board.Severity {
		code, _ := state.MarshalText() // these all have one
		gauge(plazasMetric, float64(states[state]), string(code))
	}
	slices.SortFunc(plazas, func(p, q *board.Plaza) int {
		return cmp.Or(cmp.Compare(q.Total, p.Total), cmp.Compare(p.ID, q.ID))
	})
	for _, p := range plazas[:min(len(plazas), m.Plazas)] {
		name := strconv.Itoa(p.ID)
		if p.FlowKnown {
			gauge(plazaFlowMetric, p.FlowPerHour, name)
		}
		if p.VC != nil {
			gauge(plazaVCMetric, *p.VC, name)
		}
	}
}
