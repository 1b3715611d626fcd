package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/web/serve"
)

const metricsCategory = "Metrics"

// defaultMetricsListen is an address to show: the port is the one that exporters of OpenTelemetry
// use for Prometheus.
const defaultMetricsListen = "127.0.0.1:9464"

func metricsListenFlag() cli.Flag {
	return &cli.StringFlag{Name: "metrics-listen", EnvVars: env("metrics-listen"),
		Category: metricsCategory,
		Usage: "serve metrics for Prometheus at `HOST:PORT`, as in " + defaultMetricsListen +
			", with /healthz and /readyz; port 0 is a free one"}
}

// processMetricsFlags returns the flags that [metricsConfigFrom] and [openTraces] read.
func processMetricsFlags() []cli.Flag {
	return append([]cli.Flag{metricsListenFlag(), otelFlag(), pprofFlag()},
		guardFlags(metricsCategory, "metrics")...)
}

// metricsConfigFrom returns how metrics are served, nil where they are not.
func metricsConfigFrom(c *cli.Context) (*serve.Config, error) {
	cfg, err := guardedFrom(c, "metrics-listen")
	if cfg == nil && err == nil {
		for _, name := range guardNames {
			if given(c, name) {
				return nil, hint.Usagef("--%s is for --metrics-listen", name)
			}
		}
	}
	return cfg, err
}

// newRegistry returns a registry with what every process tells of itself.
func newRegistry(own ...prometheus.Collector) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tollstream_build_info", Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": buildVersion(), "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	all := append([]prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	}, own...)
	for _, collector := range all {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return registry, nil
}

// serveMetrics serves metrics until the func that it returns is called, which waits until that has
// ended.
func serveMetrics(cfg serve.Config, registry *prometheus.Registry, probes serve.Probes,
	log *slog.Logger) (stop func(), err error) {
	cfg.Gatherer, cfg.Log = registry, log
	server, err := serve.New(cfg, probes)
	if err != nil {
		return nil, err
	}
	// A taken port is an error before anything is waited for.
	if err := server.Listen(); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = hint.With(err,
				"something else listens there: name another port with --metrics-listen, or 0 for a free one")
		}
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	log.Info("serving metrics", "url", server.URL()+"metrics")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Run(ctx); err != nil {
			log.Error("metrics are not served any more", "error", text.OneLine(err.Error()))
		}
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// probesOf returns what a process that counts in stats answers to those who start and stop it. From
// the end of ctx on it is not ready: it gives its partitions away.
func probesOf(ctx context.Context, stats *topology.Stats) serve.Probes {
	return serve.Probes{
		Healthy: stats.Healthy,
		Ready: func() error {
			if ctx.Err() != nil {
				return errors.New("stopping")
			}
			return stats.Ready()
		},
	}
}

func processMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("tollstream", "", name), help, labels, nil)
}

var (
	recordsReadMetric = processMetric("records_read_total",
		"Records of the topic of events that were taken into batches. Those of a batch that was given up are read again.")
	offsetsSkippedMetric = processMetric("offsets_skipped_total",
		"Offsets that hold no record for us: control records, aborted and compacted ones.")
	rowsStoredMetric = processMetric("rows_stored_total",
		"Events that were stored as rows of livetolldata.")
	recordsRejectedMetric = processMetric("records_rejected_total",
		"Records that were stored as dead letters, by what is wrong with them.", "kind")
	rejectShareMetric = processMetric("rejected_share_ratio",
		"Share of the records of the last five minutes that were rejected, from 0 to 1.")
	lateEventsMetric = processMetric("late_events_total",
		"Stored events that came late, and still count in some or all of their windows.")
	tooLateEventsMetric = processMetric("too_late_events_total",
		"Stored events that came too late for any window.")
	aheadEventsMetric = processMetric("ahead_events_total",
		"Stored events that ran ahead of their partition's clock, as of a plaza whose clock is wrong.")
	batchRowsMetric = processMetric("batch_rows", "Rows of a stored batch.")
	commitMetric    = processMetric("commit_duration_seconds",
		"Time from a batch's first attempt to be stored until it was, pauses between attempts included.")
	publishMetric = processMetric("publish_duration_seconds",
		"Time from the first delta of a batch being sent until all were acknowledged.")
	mergeLatencyMetric = processMetric("merge_latency_seconds",
		"Time from a record being produced until its event is counted, of the first record of each batch and plaza.")
	resultsMetric = processMetric("results_duration_seconds",
		"Time of a transaction that stores results of windows.")
	deltasMetric = processMetric("deltas_total",
		"Deltas that reached their plaza, by what became of them. A gap is one whose predecessor is missing.", "outcome")
	deltasResentMetric = processMetric("deltas_resent_total",
		"Deltas that were sent again because the group table lacked them.")
	resultsPublishMetric = processMetric("results_published_total",
		"Results that were published: revisions of windows, and changes of congestion.", "kind")
	retriesMetric = processMetric("retries_total",
		"Calls to MySQL that failed and are made again, and batches that are built again without rows that MySQL refused.", "operation")
	rebalancesMetric = processMetric("rebalances_total",
		"Sessions of the consumer group that began. Each assigned partitions to this member again.")
	restartsMetric = processMetric("restarts_total",
		"Times that processing restarted after a failure.")
	partitionsMetric = processMetric("partitions", "Partitions of the topic of events.")
	ownedMetric      = processMetric("partitions_owned", "Those of them that this process has.")
	lagMetric        = processMetric("partition_lag_records",
		"Records of an owned partition that are not stored yet: its end, asked for every 5 s, less the cursor.", "partition")
	transactionMetric = processMetric("partition_open_transaction_seconds",
		"For how long a producer's transaction has kept records of an owned partition from being read, as looked at every 5 s; 0 for none.", "partition")
	unpublishedMetric = processMetric("unpublished_events",
		"Events that are stored, and whose deltas Kafka has not acknowledged yet.")
	unmergedMetric = processMetric("unmerged_deltas",
		"Deltas of an owned partition of the loop that are published and not yet merged, asked for every 5 s.", "partition")
	processMarkMetric = processMetric("watermark_timestamp_seconds",
		"The watermark, in event time: windows that end before it are closed.")
	processAgeMetric = processMetric("watermark_age_seconds",
		"How far the watermark is behind this machine's clock. A replay of old events is far behind.")
	lastStoredMetric = processMetric("last_stored_timestamp_seconds",
		"When the last batch was stored.")
	loadModeMetric = processMetric("load_mode",
		"1 for how rows are loaded: local is LOAD DATA LOCAL, insert is INSERT, auto is not known yet; else 0.", "mode")
	upkeepRunsMetric = processMetric("upkeep_runs_total",
		"Rounds of maintenance by the process that owns partition 0: it joins rows of toll_batch, rolls up old batches, and deletes old results.", "step", "outcome")
	upkeepSuccessMetric = processMetric("upkeep_last_success_timestamp_seconds",
		"When a step of maintenance last did all that was due; 0 until then, and in processes without partition 0.", "step")
	upkeepDeletedMetric = processMetric("upkeep_rows_deleted_total",
		"Rows that maintenance deleted. Of toll_batch, less those that replaced them.", "table")
	closingStalledMetric = processMetric("windows_stalled_seconds",
		"For how long no windows were stored although some are due and both servers answer; 0 where all is well.")
	clockAheadMetric = processMetric("clock_ahead_seconds",
		"How far a clock is ahead of this machine's, below 0 behind it; 0 in processes without partition 0.", "clock")
	readyMetric = processMetric("ready",
		"Whether a check is passed, 1 or 0. /readyz answers with 200 where all are.", "check")
)

// processCollector shows the counters of a processor.
type processCollector struct {
	stats       *topology.Stats
	maintenance *maintenance.Stats
	writer      atomic.Pointer[sql.Writer] // nil until there is one
}

// Describe implements prometheus.Collector.
func (p *processCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		recordsReadMetric, offsetsSkippedMetric, rowsStoredMetric, recordsRejectedMetric,
		rejectShareMetric, lateEventsMetric, tooLateEventsMetric, aheadEventsMetric,
		batchRowsMetric, commitMetric, publishMetric, mergeLatencyMetric, resultsMetric, deltasMetric,
		deltasResentMetric, resultsPublishMetric, retriesMetric,
		rebalancesMetric, restartsMetric, partitionsMetric, ownedMetric, lagMetric, transactionMetric,
		unpublishedMetric, unmergedMetric, processMarkMetric,
		processAgeMetric, lastStoredMetric, loadModeMetric, upkeepRunsMetric, upkeepSuccessMetric,
		upkeepDeletedMetric, closingStalledMetric, clockAheadMetric, readyMetric,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It asks no server, so a scrape costs none of them
// anything.
func (p *processCollector) Collect(ch chan<- prometheus.Metric) {
	s := p.stats.Read()
	counter := func(d *prometheus.Desc, value int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	histogram := func(d *prometheus.Desc, v *topology.Distribution) {
		ch <- prometheus.MustNewConstHistogram(d, v.Count, v.Sum, v.Buckets)
	}
	counter(recordsReadMetric, s.Read)
	counter(offsetsSkippedMetric, s.Skipped)
	counter(rowsStoredMetric, s.Events)
	for kind, n := range s.Rejects {
		counter(recordsRejectedMetric, n, string(kind))
	}
	gauge(rejectShareMetric, s.RejectShare.Ratio())
	counter(lateEventsMetric, s.Late)
	counter(tooLateEventsMetric, s.TooLate)
	counter(aheadEventsMetric, s.Ahead)
	histogram(batchRowsMetric, &s.BatchRows)
	histogram(commitMetric, &s.CommitTimes)
	histogram(publishMetric, &s.PublishTimes)
	histogram(mergeLatencyMetric, &s.MergeLatency)
	histogram(resultsMetric, &s.ResultsTimes)
	counter(deltasMetric, s.Applied, "merged")
	counter(deltasMetric, s.Duplicates, "duplicate")
	counter(deltasMetric, s.Stale, "stale")
	counter(deltasMetric, s.Gaps, "gap")
	counter(deltasResentMetric, s.Resent)
	counter(resultsPublishMetric, s.Windows, "window")
	counter(resultsPublishMetric, s.Transitions, "transition")
	for operation, n := range s.Retries {
		counter(retriesMetric, n, operation)
	}
	counter(rebalancesMetric, s.Sessions)
	counter(restartsMetric, s.Restarts)
	gauge(partitionsMetric, float64(s.Partitions))
	gauge(ownedMetric, float64(s.Owned))
	for n, partition := range s.ByPartition {
		name := strconv.Itoa(int(n))
		gauge(lagMetric, float64(partition.Lag), name)
		open := 0.
		if since := partition.Transaction.Since; !since.IsZero() {
			open = max(0, time.Since(since).Seconds())
		}
		gauge(transactionMetric, open, name)
		gauge(unmergedMetric, float64(partition.Unmerged), name)
	}
	gauge(unpublishedMetric, float64(s.Unpublished))
	if !s.Watermark.IsZero() {
		gauge(processMarkMetric, float64(s.Watermark.Unix()))
		gauge(processAgeMetric, time.Since(s.Watermark).Seconds())
	}
	if !s.LastStored.IsZero() {
		gauge(lastStoredMetric, unixSeconds(s.LastStored))
	}
	mode := sql.LoadAuto
	if w := p.writer.Load(); w != nil {
		mode = w.LoadMode()
	}
	for _, m := range sql.LoadModes {
		gauge(loadModeMetric, oneIf(m == mode), m.String())
	}
	gauge(closingStalledMetric, p.stats.ClosingStalled().Seconds())
	collectMaintenance(ch, p.maintenance.Read())
	for _, check := range p.stats.Checks() {
		gauge(readyMetric, oneIf(check.Why == ""), check.Name)
	}
}

// collectMaintenance shows what maintenance did.
func collectMaintenance(ch chan<- prometheus.Metric, c maintenance.Counts) {
	for run, n := range c.Runs {
		ch <- prometheus.MustNewConstMetric(upkeepRunsMetric, prometheus.CounterValue, float64(n),
			string(run.Step), string(run.Outcome))
	}
	for step, at := range c.LastSuccess {
		seconds := 0.
		if !at.IsZero() {
			seconds = unixSeconds(at)
		}
		ch <- prometheus.MustNewConstMetric(upkeepSuccessMetric, prometheus.GaugeValue, seconds,
			string(step))
	}
	for table, rows := range c.Deleted {
		ch <- prometheus.MustNewConstMetric(upkeepDeletedMetric, prometheus.CounterValue,
			float64(rows), table)
	}
	for clock, ahead := range c.Ahead {
		ch <- prometheus.MustNewConstMetric(clockAheadMetric, prometheus.GaugeValue, ahead.Seconds(),
			string(clock))
	}
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
