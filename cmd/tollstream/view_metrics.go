package main

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll/traffic"
)

// defaultPlazaSeries bounds the plazas that have metrics of their own, those with most vehicles so
// far: Prometheus keeps each of them for weeks, and an order that changes would make new ones all
// the time. The API has all.
const (
	defaultPlazaSeries = 100
	mostPlazaSeries    = 10_000
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

// Describe and Collect make the source a collector of what its last board says.
func (s *viewSource) Describe(ch chan<- *prometheus.Desc) {
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
func (s *viewSource) Collect(ch chan<- prometheus.Metric) {
	b := s.last.Load()
	if b == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	v := b.verification()
	gauge(eventsMetric, float64(b.events))
	gauge(inFlightMetric, float64(v.InFlight))
	gauge(rejectedMetric, float64(b.letters))
	if v.Rows != nil {
		gauge(rowsMetric, float64(*v.Rows))
		gauge(checkedMetric, unixSeconds(*v.CheckedAt))
	}
	for _, status := range []string{sql.Exact, sql.InFlight, sql.Mismatch} {
		is := 0.0
		if string(v.Status) == status {
			is = 1
		}
		gauge(verificationMetric, is, status)
	}
	_, _, wrong := b.status()
	gauge(problemsMetric, float64(len(v.Problems)))
	gauge(mismatchesMetric, float64(len(wrong)))
	gauge(boardMetric, unixSeconds(b.at))
	if b.started {
		gauge(streamTimeMetric, unixSeconds(b.now.Time()))
		if !b.watermark.IsZero() {
			gauge(watermarkMetric, unixSeconds(b.watermark))
			gauge(watermarkAgeMetric, time.Since(b.watermark).Seconds())
		}
	}
	states := map[traffic.State]int{}
	plazas := make([]*plazaBoard, 0, len(b.plazas))
	for i := range b.plazas {
		p := &b.plazas[i]
		if p.plaza == nullPlaza {
			continue
		}
		plazas = append(plazas, p)
		if b.measure(p) != nil {
			states[p.congestion.State]++
		} else {
			states[traffic.NoData]++
		}
	}
	for _, state := range severity {
		code, _ := state.MarshalText() // these all have one
		gauge(plazasMetric, float64(states[state]), string(code))
	}
	slices.SortFunc(plazas, func(p, q *plazaBoard) int {
		return cmp.Or(cmp.Compare(q.state.Events, p.state.Events), cmp.Compare(p.plaza, q.plaza))
	})
	for _, p := range plazas[:min(len(plazas), s.plazaSeries)] {
		name := strconv.Itoa(p.plaza)
		if flow, known := b.flow(p); known {
			gauge(plazaFlowMetric, flow, name)
		}
		if m := b.measure(p); m != nil && m.VC != nil {
			gauge(plazaVCMetric, *m.VC, name)
		}
	}
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
