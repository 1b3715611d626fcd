package telemetry

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
)

// DefaultPlazaSeries bounds the plazas that have metrics of their own, those with most vehicles so
// far: Prometheus keeps each of them for weeks, and an order that changes would create new ones
// all the time. The API has all.
const (
	DefaultPlazaSeries = 100
	MostPlazaSeries    = 10_000
)

// View collects the figures of the board that was read last.
type View struct {
	Last   func() *board.Board // nil before the first
	Plazas int                 // how many have metrics of their own
}

// Describe implements prometheus.Collector.
func (v *View) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(v, ch) }

// Collect implements prometheus.Collector. It makes no call to a server, however often it is
// scraped.
func (v *View) Collect(ch chan<- prometheus.Metric) {
	b := v.Last()
	if b == nil {
		return
	}
	m := metrics{ch, "tollstream_view"}
	m.gauge("board_timestamp_seconds", "When these figures were read.", unixSeconds(b.At))
	if b.StreamTime != nil {
		m.gauge("stream_timestamp_seconds", "Stream time: the event time that the stream has reached.",
			unixSeconds(*b.StreamTime))
		if b.Watermark != nil {
			m.gauge("watermark_timestamp_seconds",
				"The watermark, in event time: windows that end before it have closed.",
				unixSeconds(*b.Watermark))
			m.gauge("watermark_age_seconds", "How far the watermark is behind this machine's clock. "+
				"A replay of old events is far behind.", time.Since(*b.Watermark).Seconds())
		}
	}
	collectHealth(m, b)
	collectVerification(m, b)
	v.collectPlazas(m, b)
}

// collectHealth shows whether events arrive, and processes run.
func collectHealth(m metrics, b *board.Board) {
	if at := b.Feed.ArrivedAt; at != nil {
		m.gauge("feed_age_seconds", "How long ago the newest event arrived at the topic, in wall time.",
			time.Since(*at).Seconds())
	}
	m.gauge("feed_silent",
		"1 where no event has arrived for so long that this is not chance at the usual rate, else 0.",
		oneIf(b.Feed.Silent))
	stopped := 0.
	if since := b.Processing.Since; since != nil && b.Processing.State != board.Ended {
		stopped = time.Since(*since).Seconds()
	}
	m.gauge("process_stopped_seconds",
		"How long ago the last process stopped or was last seen; 0 while one runs, and where the last "+
			"one ended at the end of the topic.", stopped)
	behind := 0.
	if c := b.Processing.CatchingUp; c != nil {
		behind = float64(c.Events)
	}
	m.gauge("catching_up_events", "Records of a backlog that is being stored; 0 for none.", behind)
}

// collectVerification shows the verdict, and what it compares.
func collectVerification(m metrics, b *board.Board) {
	v := &b.Verification
	m.gauge("events", "Events that the group table counts.", float64(b.Events))
	m.gauge("in_flight", "Events that are stored and not yet counted.", float64(b.InFlight))
	m.gauge("dead_letters", "Rejected records when they were counted last.",
		float64(b.DeadLetters))
	if v.Rows != nil {
		m.gauge("rows", "Rows of livetolldata when they were counted last.", float64(*v.Rows))
		m.gauge("rows_counted_timestamp_seconds", "When the rows were counted last.",
			unixSeconds(*v.CheckedAt))
	}
	verdict := m.gauges("verification", "1 for the current verdict on the figures, else 0.",
		"status")
	for _, status := range board.Statuses {
		verdict(oneIf(v.Status == status), string(status))
	}
	m.gauge("problems", "Problems that the verification found, one for each plaza and kind.",
		float64(len(v.Problems)))
	m.gauge("plazas_mismatched", "Plazas whose rows and counts disagree.",
		float64(len(b.Mismatches())))
}

// collectPlazas shows the plazas: all by state, those with the most vehicles one by one.
func (v *View) collectPlazas(m metrics, b *board.Board) {
	states := m.gauges("plazas", "Plazas by their state of congestion.", "state")
	for _, state := range board.Severity {
		code, _ := state.MarshalText() // these all have one
		states(float64(*b.Summary.States.Of(state)), string(code))
	}
	var plazas []*board.Plaza
	for i := range b.Plazas {
		if b.Plazas[i].ID != board.NullPlaza {
			plazas = append(plazas, &b.Plazas[i])
		}
	}
	slices.SortFunc(plazas, func(p, q *board.Plaza) int {
		return cmp.Or(cmp.Compare(q.Total, p.Total), cmp.Compare(p.ID, q.ID))
	})
	flow := m.gauges("plaza_flow_vehicles_per_hour",
		"Flow of the last quarter of an hour, of the plazas with the most vehicles so far.", "plaza")
	vc := m.gauges("plaza_vc_ratio",
		"Throughput over capacity, of the plazas with the most vehicles so far.", "plaza")
	for _, p := range plazas[:min(len(plazas), v.Plazas)] {
		name := strconv.Itoa(p.ID)
		if p.FlowKnown {
			flow(float64(p.FlowPerHour), name)
		}
		if p.VC != nil {
			vc(*p.VC, name)
		}
	}
}
