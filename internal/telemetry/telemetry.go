// Package telemetry sends traces and metrics to an OpenTelemetry collector, by
// OTLP over HTTP. What cannot be sent is dropped and logged; the stream goes
// on.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
)

// Config says what to send and where.
type Config struct {
	Endpoint string // base URL of the collector, such as http://127.0.0.1:4318
	// Headers returns key=value pairs, separated by commas; it may return secrets.
	Headers  func(context.Context) (string, error)
	Traces   bool
	Metrics  bool
	Interval time.Duration // between two exports of metrics
	Gatherer prometheus.Gatherer
	// Service, Version and Slot distinguish this streamer from others.
	Service, Version, Slot string
	Log                    *slog.Logger
}

// Telemetry exports until it is stopped. Published may be called by one
// goroutine at a time.
type Telemetry struct {
	tracer trace.Tracer // nil without traces
	links  []trace.Link
	stops  []func(context.Context) error
}

// Start does not connect yet: an unreachable collector is no reason not to
// stream.
func Start(ctx context.Context, c Config) (*Telemetry, error) {
	headers, err := parseHeaders(ctx, c.Headers)
	if err != nil {
		return nil, fmt.Errorf("otlp.headers: %w", err)
	}
	about, err := resource.New(ctx, resource.WithFromEnv(), resource.WithAttributes(
		attribute.String("service.name", c.Service), attribute.String("service.version", c.Version), attribute.String("streamer.slot", c.Slot)))
	if err != nil {
		return nil, failure.Misconfigure(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		c.Log.Warn("telemetry could not be sent to the collector and is dropped", "endpoint", c.Endpoint, "err", err)
	}))
	t := &Telemetry{}
	if c.Traces {
		err = t.startTraces(ctx, c, headers, about)
	}
	if err == nil && c.Metrics {
		err = t.startMetrics(ctx, c, headers, about)
	}
	if err != nil {
		return nil, failure.Misconfigure(fmt.Errorf("otlp: %w", errors.Join(err, t.Stop(ctx))))
	}
	return t, nil
}

func parseHeaders(ctx context.Context, reveal func(context.Context) (string, error)) (map[string]string, error) {
	text, err := reveal(ctx)
	if err != nil || text == "" {
		return nil, err
	}
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, failure.Misconfigure(errors.New("not comma-separated key=value pairs")) // it may hold a secret
		}
		headers[key] = strings.TrimSpace(value)
	}
	return headers, nil
}

func (t *Telemetry) startTraces(ctx context.Context, c Config, headers map[string]string, about *resource.Resource) error {
	endpoint, err := url.JoinPath(c.Endpoint, "v1", "traces")
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithHeaders(headers))
	if err != nil {
		return fmt.Errorf("trace exporter: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	t.stops = append(t.stops, provider.Shutdown)
	t.tracer = provider.Tracer("github.com/outboxstream/streamer")
	return nil
}

func (t *Telemetry) startMetrics(ctx context.Context, c Config, headers map[string]string, about *resource.Resource) error {
	endpoint, err := url.JoinPath(c.Endpoint, "v1", "metrics")
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(endpoint), otlpmetrichttp.WithHeaders(headers))
	if err != nil {
		return fmt.Errorf("metric exporter: %w", err)
	}
	reader := metric.NewPeriodicReader(
		exporter, metric.WithInterval(c.Interval),
		metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(c.Gatherer))),
	)
	t.stops = append(t.stops, metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(about)).Shutdown)
	return nil
}

// Published creates a span for a batch that holds sampled events, from its
// first event to the broker's acknowledgement. The span is linked to the
// origins of the events.
func (t *Telemetry) Published(p router.Publication) {
	if t.tracer == nil || len(p.Traces) == 0 {
		return
	}
	t.links = t.links[:0]
	for _, from := range p.Traces {
		t.links = append(t.links, trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: from.TraceID, SpanID: from.SpanID, TraceFlags: trace.FlagsSampled, Remote: true,
		})})
	}
	// Names follow the semantic conventions for messaging.
	_, span := t.tracer.Start(
		context.Background(), "send "+p.Topic, trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(p.Opened),
		trace.WithLinks(t.links...),
		trace.WithAttributes(
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.destination.name", p.Topic),
			attribute.Int("messaging.destination.partition.id", int(p.Partition)),
			attribute.Int("messaging.batch.message_count", p.Events),
			attribute.Int("messaging.message.body.size", p.Bytes),
			attribute.Float64("streamer.oldest_commit_age", time.Since(p.OldestCommit).Seconds()),
		),
	)
	span.End()
}

// Stop sends what is left, until ctx ends.
func (t *Telemetry) Stop(ctx context.Context) error {
	var failed []error
	for _, stop := range t.stops {
		failed = append(failed, stop(ctx))
	}
	return errors.Join(failed...)
}
