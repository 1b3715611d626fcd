package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/topology/monitor"
)

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
