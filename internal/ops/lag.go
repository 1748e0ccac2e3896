package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lag is computed when metrics are read, so that it is correct while nothing
// happens. Where it is unknown, as on a standby instance, there is no metric.
type lag struct {
	about *prometheus.Desc
	ask   func() (behind time.Duration, known bool)
}

// WatchLag adds the lag metric, whose value ask returns. Any goroutine may call
// ask.
func (m *Metrics) WatchLag(ask func() (behind time.Duration, known bool)) {
	m.registry.MustRegister(&lag{ask: ask, about: prometheus.NewDesc(
		"streamer_lag_seconds",
		"How long ago the oldest commit that is not yet in Kafka was made; 0 when nothing is waiting. "+
			"It grows while the server or Kafka is unreachable. Only a streaming instance has it.",
		nil, nil,
	)})
}

func (l *lag) Describe(to chan<- *prometheus.Desc) { to <- l.about }

func (l *lag) Collect(to chan<- prometheus.Metric) {
	if behind, known := l.ask(); known {
		to <- prometheus.MustNewConstMetric(l.about, prometheus.GaugeValue, behind.Seconds())
	}
}
