package consume

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what consumers do. It is a collector: register it.
type Metrics struct {
	events  *prometheus.CounterVec
	retries *prometheus.CounterVec
	keys    *prometheus.GaugeVec
	down    *prometheus.GaugeVec
	lag     *prometheus.GaugeVec
	seconds *prometheus.HistogramVec
}

// NewMetrics returns metrics that several consumers can share.
func NewMetrics() *Metrics {
	of := []string{"consumer", "topic"}
	return &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inbox_events_total", Help: "Events by what became of them: handled, repeated, parked.",
		}, append(of, "result")),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inbox_retries_total", Help: "Attempts that failed, and that were or will be made again.",
		}, of),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inbox_parked_keys", Help: "Keys whose events wait until they are released.",
		}, []string{"consumer"}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inbox_unavailable", Help: "1 while everything waits for what the handler needs.",
		}, []string{"consumer"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inbox_lag_records", Help: "Offsets from the first record that is not handled to the end of the partition.",
		}, append(of, "partition")),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inbox_transaction_seconds", Help: "How long transactions took, with the handler.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, of),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(to)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.retries, m.keys, m.down, m.lag, m.seconds}
}

func (m *Metrics) handled(consumer, topic string) {
	m.events.WithLabelValues(consumer, topic, "handled").Inc()
}
func (m *Metrics) repeated(consumer, topic string) {
	m.events.WithLabelValues(consumer, topic, "repeated").Inc()
}
func (m *Metrics) parked(consumer, topic string) {
	m.events.WithLabelValues(consumer, topic, "parked").Inc()
}
func (m *Metrics) retried(consumer, topic string) { m.retries.WithLabelValues(consumer, topic).Inc() }
func (m *Metrics) parkedKeys(consumer string, keys int) {
	m.keys.WithLabelValues(consumer).Set(float64(keys))
}

func (m *Metrics) took(consumer, topic string, d time.Duration) {
	m.seconds.WithLabelValues(consumer, topic).Observe(d.Seconds())
}

func (m *Metrics) unavailable(consumer string, yes bool) {
	value := 0.0
	if yes {
		value = 1
	}
	m.down.WithLabelValues(consumer).Set(value)
}

func (m *Metrics) behind(consumer, topic, partition string, records int64) {
	m.lag.WithLabelValues(consumer, topic, partition).Set(float64(records))
}

// gone removes the lag of a partition that is no longer this instance's.
func (m *Metrics) gone(consumer, topic, partition string) {
	m.lag.DeleteLabelValues(consumer, topic, partition)
}
