package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/internal/telemetry"
	"github.com/outboxstream/streamer/router"
)

// exportTimeout is how long the collector may take to accept what is left at
// shutdown.
const exportTimeout = 2 * time.Second

// tracedMetrics also makes spans of published batches.
type tracedMetrics struct {
	*ops.Metrics
	telemetry *telemetry.Telemetry
}

// Published is called once for each batch.
func (m tracedMetrics) Published(p router.Publication) {
	m.Metrics.Published(p)
	m.telemetry.Published(p)
}

// exporting starts the export to a collector, if one is configured. It returns
// the metrics that the pipeline reports to, and a function that ends the
// export.
func exporting(ctx context.Context, cfg config.Config, log *slog.Logger, metrics *ops.Metrics) (pipeline.Metrics, func(), error) {
	c := cfg.OTLP
	if c.Endpoint == "" {
		return metrics, func() {}, nil
	}
	t, err := telemetry.Start(ctx, telemetry.Config{
		Endpoint: c.Endpoint, Headers: c.Headers.Reveal, Traces: c.Traces, Metrics: c.Metrics, Interval: c.Interval,
		Gatherer: metrics.Gatherer(), Service: "streamer", Version: console.Version(), Slot: cfg.Postgres.Slot, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
		defer cancel()
		if err := t.Stop(ctx); err != nil {
			log.Warn("final telemetry could not be sent", "endpoint", c.Endpoint, "err", err)
		}
	}
	return tracedMetrics{metrics, t}, end, nil
}
