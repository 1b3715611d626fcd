package telemetry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/incidents"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/web/serve"
)

// Probes returns the probes of a process that counts in stats. It is not ready once ctx has ended:
// it gives up its partitions.
func Probes(ctx context.Context, stats *monitor.Stats) serve.Probes {
	return serve.Probes{
		Healthy: stats.Healthy,
		Notes: func() []string {
			if silent := stats.Silence(); silent > 0 {
				return []string{"no event has arrived for " + text.Minutes(int64(silent/time.Minute))}
			}
			return nil
		},
		Ready: func() error {
			if ctx.Err() != nil {
				return errors.New("stopping")
			}
			return stats.Ready()
		},
	}
}

// Process is the collector of the metrics of process.
type Process struct {
	Stats       *monitor.Stats
	Maintenance *maintenance.Stats
	// Notifications are those of incidents; nil where there are none.
	Notifications *incidents.Stats
	Writer        atomic.Pointer[ingest.Writer] // nil until there is one
}

// Describe implements prometheus.Collector.
func (p *Process) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

// Collect implements prometheus.Collector. It makes no call to a server, however often it is
// scraped.
func (p *Process) Collect(ch chan<- prometheus.Metric) {
	m := metrics{ch, "tollstream"}
	s := p.Stats.Read()
	collectEvents(m, &s)
	collectPartitions(m, &s)
	p.collectState(m)
	collectMaintenance(m, p.Maintenance.Read())
	if p.Notifications != nil {
		collectNotifications(m, p.Notifications.Read())
	} else {
		collectNotifications(m, incidents.Counts{})
	}
}

// collectEvents shows what became of records, batches and deltas.
func collectEvents(m metrics, s *monitor.Snapshot) {
	m.counter("records_read_total",
		"Records of the topic of events that were read into batches. Those of a batch "+
			"that was given up are read again.", s.Read)
	m.counter("offsets_skipped_total",
		"Offsets without a record to store: control records, aborted and compacted "+
			"ones.", s.Skipped)
	m.counter("rows_stored_total",
		"Events that were stored as rows of livetolldata.", s.Events)
	rejected := m.counters("records_rejected_total",
		"Records that were stored as dead letters, by kind of defect.", "kind")
	for kind, n := range s.Rejects {
		rejected(n, string(kind))
	}
	m.gauge("rejected_share_ratio",
		"Share of the records of the last five minutes that were rejected, from 0 to 1.",
		s.RejectShare.Ratio())
	m.counter("late_events_total",
		"Stored events that came late, and still count in some or all of their windows.", s.Late)
	m.counter("too_late_events_total",
		"Stored events that came too late for any window.", s.TooLate)
	m.counter("ahead_events_total",
		"Stored events that ran ahead of their partition's clock, as those of a plaza "+
			"with a wrong clock.", s.Ahead)
	m.histogram("batch_rows", "Rows of a stored batch.", s.BatchRows)
	m.histogram("commit_duration_seconds",
		"Time from the first attempt to store a batch until it was stored, with backoff "+
			"between attempts.", s.CommitTimes)
	m.histogram("publish_duration_seconds",
		"Time from the first delta of a batch being sent until all were acknowledged.", s.PublishTimes)
	m.histogram("merge_latency_seconds",
		"Time from a record being produced until its event is counted, of the first "+
			"record of each batch and plaza.", s.MergeLatency)
	m.histogram("results_duration_seconds",
		"Time of a transaction that stores results of windows.", s.ResultsTimes)
	deltas := m.counters("deltas_total",
		"Deltas that reached their plaza, by outcome. A gap is one whose predecessor is "+
			"missing.", "outcome")
	deltas(s.Applied, "merged")
	deltas(s.Duplicates, "duplicate")
	deltas(s.Stale, "stale")
	deltas(s.Gaps, "gap")
	m.counter("deltas_resent_total",
		"Deltas that were sent again because the group table lacked them.", s.Resent)
	published := m.counters("results_published_total",
		"Results that were published: revisions of windows, and changes of congestion.", "kind")
	published(s.Windows, "window")
	published(s.Transitions, "transition")
	retries := m.counters("retries_total",
		"Failed calls to MySQL that are retried, and batches that are rebuilt without "+
			"rows that MySQL refused.", "operation")
	for operation, n := range s.Retries {
		retries(n, operation)
	}
	m.counter("rebalances_total",
		"Sessions of the consumer group that began. Each assigned partitions to this "+
			"member again.", s.Sessions)
	m.counter("restarts_total",
		"Times that processing restarted after a failure.", s.Restarts)
	m.gauge("unpublished_events",
		"Events that are stored, and whose deltas Kafka has not acknowledged yet.",
		float64(s.Unpublished))
}

// collectPartitions shows how far the owned partitions are.
func collectPartitions(m metrics, s *monitor.Snapshot) {
	m.gauge("partitions", "Partitions of the topic of events.", float64(s.Partitions))
	m.gauge("partitions_owned",
		"Partitions of the topic of events that this process owns.", float64(s.Owned))
	lag := m.gauges("partition_lag_records",
		"Lag: records of an owned partition that are not stored yet. The end offset, "+
			"queried every 5 s, minus the cursor.", "partition")
	transaction := m.gauges("partition_open_transaction_seconds",
		"How long an open transaction of a producer has blocked an owned partition, "+
			"checked every 5 s; 0 for none.", "partition")
	unmerged := m.gauges("unmerged_deltas",
		"Deltas of an owned partition of the loop that are published and not yet "+
			"merged, queried every 5 s.", "partition")
	for n, partition := range s.ByPartition {
		name := strconv.Itoa(int(n))
		lag(float64(partition.Lag), name)
		open := 0.
		if since := partition.Transaction.Since; !since.IsZero() {
			open = max(0, time.Since(since).Seconds())
		}
		transaction(open, name)
		unmerged(float64(partition.Unmerged), name)
	}
	if !s.Watermark.IsZero() {
		m.gauge("watermark_timestamp_seconds",
			"The watermark, in event time: windows that end before it are closed.",
			float64(s.Watermark.Unix()))
		m.gauge("watermark_age_seconds",
			"How far the watermark is behind this machine's clock. A replay of old events "+
				"is far behind.", time.Since(s.Watermark).Seconds())
	}
	if !s.LastStored.IsZero() {
		m.gauge("last_stored_timestamp_seconds",
			"When the last batch was stored.", unixSeconds(s.LastStored))
	}
}

// collectState shows how the process works at the moment.
func (p *Process) collectState(m metrics) {
	mode := ingest.LoadAuto
	if w := p.Writer.Load(); w != nil {
		mode = w.LoadMode()
	}
	loads := m.gauges("load_mode",
		"1 for how rows are loaded: local is LOAD DATA LOCAL, insert is INSERT, auto is "+
			"not known yet; else 0.", "mode")
	for _, possible := range ingest.LoadModes {
		loads(oneIf(possible == mode), possible.String())
	}
	m.gauge("windows_stalled_seconds",
		"How long no windows were stored although some are due and both servers answer; "+
			"0 if all is well.", p.Stats.ClosingStalled().Seconds())
	if arrived, _ := p.Stats.Arrived(); !arrived.IsZero() {
		m.gauge("feed_age_seconds", "How long ago the newest event arrived at the partitions of this "+
			"process, in wall time.", time.Since(arrived).Seconds())
	}
	m.gauge("feed_silent",
		"1 where no event has arrived for so long that this is not chance at the usual rate, else 0.",
		oneIf(p.Stats.Silence() > 0))
	ready := m.gauges("ready",
		"Whether a readiness check passes, 1 or 0. /readyz answers 200 if all do.", "check")
	for _, check := range p.Stats.Checks() {
		ready(oneIf(check.Why == ""), check.Name)
	}
}

// collectMaintenance shows what maintenance did.
func collectMaintenance(m metrics, c maintenance.Counts) {
	runs := m.counters("upkeep_runs_total",
		"Rounds of maintenance by the process that owns partition 0: it joins rows of "+
			"toll_batch, rolls up old batches, and deletes old results.", "step", "outcome")
	for run, n := range c.Runs {
		runs(n, string(run.Step), string(run.Outcome))
	}
	success := m.gauges("upkeep_last_success_timestamp_seconds",
		"When a step of maintenance last did all that was due; 0 until then, and in "+
			"processes without partition 0.", "step")
	for step, at := range c.LastSuccess {
		seconds := 0.
		if !at.IsZero() {
			seconds = unixSeconds(at)
		}
		success(seconds, string(step))
	}
	deleted := m.counters("upkeep_rows_deleted_total",
		"Rows that maintenance deleted. Of toll_batch, less those that replaced them.", "table")
	for table, rows := range c.Deleted {
		deleted(rows, table)
	}
	ahead := m.gauges("clock_ahead_seconds",
		"How far a clock is ahead of this machine's, negative if it is behind; 0 in "+
			"processes without partition 0.", "clock")
	for clock, by := range c.Ahead {
		ahead(by.Seconds(), string(clock))
	}
}

// collectNotifications shows what became of notifications of incidents.
func collectNotifications(m metrics, c incidents.Counts) {
	attempts := m.counters("notifications_total",
		"Attempts to notify the webhook of incidents, by outcome. A failed one is retried with "+
			"backoff, and given up after 24 h.", "outcome")
	attempts(c.Sent, "sent")
	attempts(c.Failed, "failed")
	attempts(c.GivenUp, "given_up")
	m.gauge("notifications_pending",
		"Notifications of all processes that are neither sent nor given up; 0 without --notify-url.",
		float64(c.Pending))
}

// metrics sends the metrics of one scrape. Each is described where its value is read, so that it is
// found in one place; its name is without the prefix.
type metrics struct {
	ch     chan<- prometheus.Metric
	prefix string
}

func (m metrics) counter(name, help string, value int64) { m.counters(name, help)(value) }

func (m metrics) gauge(name, help string, value float64) { m.gauges(name, help)(value) }

// counters returns a func that sends one counter for each combination of values of the labels.
func (m metrics) counters(name, help string, labels ...string) func(value int64, of ...string) {
	send := m.sender(prometheus.CounterValue, name, help, labels)
	return func(value int64, of ...string) { send(float64(value), of...) }
}

// gauges returns a func that sends one gauge for each combination of values of the labels.
func (m metrics) gauges(name, help string, labels ...string) func(value float64, of ...string) {
	return m.sender(prometheus.GaugeValue, name, help, labels)
}

func (m metrics) sender(kind prometheus.ValueType, name, help string,
	labels []string) func(float64, ...string) {
	d := m.desc(name, help, labels)
	return func(value float64, of ...string) {
		m.ch <- prometheus.MustNewConstMetric(d, kind, value, of...)
	}
}

func (m metrics) histogram(name, help string, v monitor.Distribution) {
	m.ch <- prometheus.MustNewConstHistogram(m.desc(name, help, nil), v.Count, v.Sum, v.Buckets)
}

func (m metrics) desc(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc(m.prefix+"_"+name, help, labels, nil)
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

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
