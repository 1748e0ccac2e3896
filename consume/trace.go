package consume

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// span begins a span for the handling of an event, in the trace that the event
// belongs to. The attributes are those of OpenTelemetry's conventions for
// messaging and for CloudEvents.
func (c *Consumer) span(ctx context.Context, i *item) (context.Context, func(error)) {
	ctx = propagation.TraceContext{}.Extract(ctx, carrier{i.event})
	ctx, span := c.config.Tracer.Start(ctx, "process "+i.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", i.Topic),
		attribute.String("messaging.consumer.group.name", c.config.Group),
		attribute.Int("messaging.destination.partition.id", int(i.Partition)),
		attribute.Int64("messaging.kafka.offset", i.Offset),
		attribute.String("cloudevents.event_id", i.id),
		attribute.String("cloudevents.event_source", i.source),
		attribute.String("cloudevents.event_type", i.event.Type()),
	))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "the handler failed")
		}
		span.End()
	}
}

// carrier reads the trace context that an event carries.
type carrier struct{ event.Event }

var _ propagation.TextMapCarrier = carrier{}

func (c carrier) Get(name string) string {
	value, _ := c.Extensions()[name].(string)
	return value
}

func (carrier) Set(string, string) {}

func (carrier) Keys() []string { return []string{"traceparent", "tracestate"} }
