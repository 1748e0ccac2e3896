package ops

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/outboxstream/streamer/replication"
)

// Figures are what the metrics say at a moment.
type Figures struct {
	Slot   *replication.Slot // as last seen; nil: not seen yet
	Rewind *replication.Slot // nil: there is none, as far as is known
	// AtLeastOnce is why a crash may repeat events, nil while that is not known.
	AtLeastOnce *string

	Topics      map[string]Topic
	DeadLetters map[string]int64 // by class, only those that have occurred
	Read        map[string]int64 // rows, by table

	InFlightEvents, InFlightBytes int64
	Reconnects, Skipped           int64
	Removed, Loose                int64
	Saved, LastAck                time.Time
	CatchingUp                    bool
	SnapshotRows, SnapshotOf      int64
}

// Topic is what was published to a topic since the process started.
type Topic struct {
	Events, Bytes int64
	Refused       int64 // batches that a partition did not take
}

// last holds what the metrics have only in part.
type last struct {
	slot, rewind atomic.Pointer[replication.Slot]
	resume       atomic.Pointer[string]
}

// Figures reads the metrics. Any goroutine may call it.
func (m *Metrics) Figures() Figures {
	s := Figures{
		Slot: m.last.slot.Load(), Rewind: m.last.rewind.Load(), AtLeastOnce: m.last.resume.Load(),
		Topics: map[string]Topic{}, DeadLetters: map[string]int64{}, Read: map[string]int64{},
		InFlightEvents: whole(m.inEvents), InFlightBytes: whole(m.inBytes),
		Reconnects: whole(m.reconnects), Skipped: whole(m.skipped), Removed: whole(m.removed), Loose: whole(m.loose),
		Saved: moment(m.saved), LastAck: moment(m.lastAck), CatchingUp: value(m.catchUp) > 0,
		SnapshotRows: whole(m.snapshot), SnapshotOf: whole(m.expected),
	}
	each(m.events, func(topic string, n int64) { s.Topics[topic] = Topic{Events: n} })
	each(m.bytes, func(topic string, n int64) { t := s.Topics[topic]; t.Bytes = n; s.Topics[topic] = t })
	each(m.refusals, func(topic string, n int64) { t := s.Topics[topic]; t.Refused = n; s.Topics[topic] = t })
	each(m.read, func(table string, n int64) { s.Read[table] = n })
	each(m.letters, func(class string, n int64) {
		if n > 0 {
			s.DeadLetters[class] = n
		}
	})
	return s
}

// Events is the sum over all topics.
func (s Figures) Events() (sum int64) {
	for _, t := range s.Topics {
		sum += t.Events
	}
	return sum
}

// each calls take with the label and the value of each series of a vector that
// has one label.
func each(vector prometheus.Collector, take func(label string, n int64)) {
	series := make(chan prometheus.Metric)
	go func() {
		defer close(series)
		vector.Collect(series)
	}()
	for one := range series {
		var d dto.Metric
		if one.Write(&d) == nil && len(d.GetLabel()) == 1 {
			take(d.GetLabel()[0].GetValue(), int64(d.GetCounter().GetValue()))
		}
	}
}

func value(m prometheus.Metric) float64 {
	var d dto.Metric
	if m.Write(&d) != nil {
		return 0
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue() // one of them is absent
}

func whole(m prometheus.Metric) int64 { return int64(value(m)) }

// moment is the time that a gauge holds, zero for a gauge that was never set.
func moment(m prometheus.Metric) time.Time {
	if seconds := value(m); seconds > 0 {
		return time.UnixMilli(int64(seconds * 1000))
	}
	return time.Time{}
}
