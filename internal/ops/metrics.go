// Package ops is what operators see of a running streamer: metrics, health and
// readiness over HTTP.
package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// Metrics holds all measurements, in a separate registry. Its methods are
// called once per batch or tick, never per event.
type Metrics struct {
	registry *prometheus.Registry

	events     *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	latency    prometheus.Histogram
	reconnects prometheus.Counter
	skipped    prometheus.Counter
	inBytes    prometheus.Gauge
	inEvents   prometheus.Gauge
	lag        *prometheus.GaugeVec
	retained   *prometheus.GaugeVec
	active     *prometheus.GaugeVec
	lastAck    prometheus.Gauge
	exactly    prometheus.Gauge
	letters    *prometheus.CounterVec
	catchUp    prometheus.Gauge
	state      *prometheus.GaugeVec
	refusals   *prometheus.CounterVec
	safe       *prometheus.GaugeVec
	seen       *prometheus.GaugeVec
	saved      prometheus.Gauge
	rewind     *prometheus.GaugeVec
	removed    prometheus.Counter
	read       *prometheus.CounterVec
	loose      prometheus.Counter
	snapshot   prometheus.Gauge
	expected   prometheus.Gauge

	last last
}

// NewMetrics registers all metrics.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "streamer_" + name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "streamer_" + name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.events = counter("events_produced_total", "Events acknowledged by the broker.", "topic")
	m.bytes = counter("bytes_produced_total", "Bytes of acknowledged record batches before compression.", "topic")
	m.reconnects = counter("reconnects_total", "Sessions that ended with a transient error.").WithLabelValues()
	m.skipped = counter("events_skipped_total", "Events that were read again after a reconnect and not published again.").WithLabelValues()
	m.inBytes = gauge("in_flight_bytes", "Memory taken by events not yet acknowledged.").WithLabelValues()
	m.inEvents = gauge("in_flight_events", "Events not yet acknowledged.").WithLabelValues()
	m.lastAck = gauge("last_ack_timestamp_seconds", "When the broker last acknowledged a batch.").WithLabelValues()
	m.letters = counter("dead_letters_total", "Rows that could not be published and went to the dead letter topic.", "class")
	m.exactly = gauge(
		"exactly_once",
		"1 while other instances are kept out, so that nothing is repeated after a crash; 0 while that is not possible.",
	).WithLabelValues()
	m.lag = gauge("slot_lag_bytes", "WAL between the slot's confirmed position and the end of the WAL.", "slot")
	m.retained = gauge("slot_retained_wal_bytes", "WAL that the slot keeps on the server's disk.", "slot")
	m.safe = gauge(
		"slot_safe_wal_bytes",
		"WAL that can still be written before the slot is lost; absent where max_slot_wal_keep_size sets no limit.",
		"slot",
	)
	m.seen = gauge(
		"slot_seen_timestamp_seconds",
		"When the server was last asked about the slot; the other metrics of the slot are as old as that.",
		"slot",
	)
	m.read = counter("rows_read_total", "Rows of the outbox tables, and messages, that were read from the stream.", "table")
	m.loose = counter(
		"loose_messages_total",
		"Messages of outbox.messages that were written outside of transactions, and are not published.",
	).WithLabelValues()
	m.removed = counter(
		"rows_removed_total",
		"Rows of the outbox table that were removed after they had been published (outbox.cleanup).",
	).WithLabelValues()
	m.rewind = gauge("rewind_retained_wal_bytes", "WAL that the rewind slot keeps on the server's disk, so that it can be replayed.", "slot")
	m.snapshot = gauge("snapshot_rows", "Rows from before the slot that are published (snapshot.mode).").WithLabelValues()
	m.expected = gauge(
		"snapshot_rows_expected",
		"How many rows from before the slot there are, as the server estimates; equal to snapshot_rows at the end.",
	).WithLabelValues()
	m.saved = gauge("checkpoint_timestamp_seconds", "When a checkpoint was last stored.").WithLabelValues()
	m.state = gauge(
		"state",
		"1 for what the instance is doing: starting, standby, snapshot (rows from before the slot), streaming, "+
			"blocked (Kafka does not acknowledge), waiting (before it tries again), draining.",
		"state",
	)
	m.refusals = counter(
		"produce_errors_total",
		"Batches that a partition did not accept; they are sent again, in order, where that can help.",
		"topic",
	)
	m.active = gauge("slot_active", "1 while a client reads the slot, itself or through copies.", "slot")
	m.catchUp = gauge(
		"catching_up",
		"1 while the streamer is far behind and reads the WAL by SQL, through copies of the slot.",
	).WithLabelValues()
	gauge("build_info", "1, labelled with the version.", "version").WithLabelValues(version).Set(1)
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "streamer_end_to_end_latency_seconds", Help: "From commit to acknowledgement, of the oldest event of each batch.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
	for _, class := range router.PoisonClasses() {
		m.letters.WithLabelValues(string(class)) // starts at 0, so that the first shows as an increase
	}
	m.registry.MustRegister(m.latency, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gatherer returns the metrics, to export them in other ways.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Published counts an acknowledged batch.
func (m *Metrics) Published(p router.Publication) {
	m.events.WithLabelValues(p.Topic).Add(float64(p.Events))
	m.bytes.WithLabelValues(p.Topic).Add(float64(p.Bytes))
	m.refusals.WithLabelValues(p.Topic)
	m.latency.Observe(time.Since(p.OldestCommit).Seconds())
	m.lastAck.SetToCurrentTime()
}

// Reconnected counts a session that ended with a transient error.
func (m *Metrics) Reconnected() { m.reconnects.Inc() }

// Skipped counts an event that was not published again.
func (m *Metrics) Skipped() { m.skipped.Inc() }

// DeadLetter counts a row that went to the dead-letter topic.
func (m *Metrics) DeadLetter(class string) { m.letters.WithLabelValues(class).Inc() }

// CatchingUp records how the WAL is read.
func (m *Metrics) CatchingUp(yes bool) {
	m.catchUp.Set(0)
	if yes {
		m.catchUp.Set(1)
	}
}

// Resuming records why a crash would repeat anything, if it would.
func (m *Metrics) Resuming(atLeastOnce string) {
	m.exactly.Set(0)
	if atLeastOnce == "" {
		m.exactly.Set(1)
	}
	m.last.resume.Store(&atLeastOnce)
}

// Failed counts a batch that a partition did not take.
func (m *Metrics) Failed(topic string) { m.refusals.WithLabelValues(topic).Inc() }

// Phase records what the instance is doing.
func (m *Metrics) Phase(now pipeline.Phase) {
	for _, phase := range pipeline.Phases() {
		value := 0.0
		if phase == now {
			value = 1
		}
		m.state.WithLabelValues(string(phase)).Set(value)
	}
}

// Position records the checkpoint and what is in flight.
func (m *Metrics) Position(saved time.Time, inFlightBytes, inFlightEvents int) {
	m.saved.Set(float64(saved.UnixMilli()) / 1000)
	m.inBytes.Set(float64(inFlightBytes))
	m.inEvents.Set(float64(inFlightEvents))
}

// Slot records the slot as the server sees it.
func (m *Metrics) Slot(s replication.Slot) {
	m.last.slot.Store(&s)
	m.lag.WithLabelValues(s.Name).Set(float64(s.Lag))
	m.retained.WithLabelValues(s.Name).Set(float64(s.RetainedWAL))
	m.seen.WithLabelValues(s.Name).Set(float64(s.At.UnixMilli()) / 1000)
	if s.SafeWALSize != nil {
		m.safe.WithLabelValues(s.Name).Set(float64(*s.SafeWALSize))
	} else {
		m.safe.DeleteLabelValues(s.Name)
	}
	active := 0.0
	if s.InUse() {
		active = 1
	}
	m.active.WithLabelValues(s.Name).Set(active)
}

// Read counts rows of a table that were read from the stream.
func (m *Metrics) Read(table string, rows int64) { m.read.WithLabelValues(table).Add(float64(rows)) }

// Loose counts messages that belong to no transaction.
func (m *Metrics) Loose(messages int64) { m.loose.Add(float64(messages)) }

// Snapshot records how many rows from before the slot are published.
func (m *Metrics) Snapshot(rows, expected int64) {
	m.snapshot.Set(float64(rows))
	m.expected.Set(float64(expected))
}

// Removed counts rows that were removed.
func (m *Metrics) Removed(rows int) { m.removed.Add(float64(rows)) }

// Rewind records the rewind slot as the server sees it.
func (m *Metrics) Rewind(s replication.Slot) {
	m.last.rewind.Store(&s)
	m.rewind.WithLabelValues(s.Name).Set(float64(s.RetainedWAL))
}
