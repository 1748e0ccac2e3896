package router

import (
	"context"
	"errors"

	"github.com/outboxstream/streamer/router/kafka"
)

// Writer writes single records alongside a running streamer. It has its own
// producer id and does not touch the transactional id.
type Writer struct {
	client   *kafka.Client
	producer *Producer
	router   *Router
}

// NewWriter returns a Writer, which closes the client. The router decides the
// partition of a key.
func NewWriter(ctx context.Context, c *kafka.Client, config ProducerConfig, r *Router) (*Writer, error) {
	owner, err := c.Anonymous(ctx)
	if err != nil {
		return nil, err
	}
	return &Writer{client: c, producer: NewProducer(config, owner, r, nil, nil, func() {}), router: r}, nil
}

// Publish writes a revived event to its topic and returns the partition when
// all in-sync replicas have the event. It creates a missing topic if the
// configuration allows that. When ctx ends, the event may or may not have been
// written. A *PoisonError means that it never will be, as long as nothing
// changes.
func (w *Writer) Publish(ctx context.Context, v Revival) (partition int32, err error) {
	count, err := w.client.Provide(ctx, v.Topic)
	still := v.row
	switch {
	case kafka.Impossible(err):
		still.Class, still.Reason = PoisonRoute, err
		return 0, &still
	case errors.Is(err, kafka.ErrTopicMissing):
		still.Class, still.Reason = PoisonTopic, topicProblem(v.Topic, err)
		return 0, &still
	case err != nil:
		return 0, err
	}
	partition = kafka.NewPartitioner(w.router.rules.Partitioner, v.Topic).Of(v.Key, count)
	return partition, w.producer.write(ctx, v.Topic, partition, v.record, v.at)
}

// Resolve records what was done about a letter with this key. It returns when
// the record is acknowledged.
func (w *Writer) Resolve(ctx context.Context, l Letter, key []byte, r Resolution) error {
	return w.producer.write(ctx, l.Topic, l.Partition, r.record(l, key), r.At.UnixMilli())
}

// Close closes the writer and its client.
func (w *Writer) Close() {
	w.producer.Close()
	w.client.Close()
	w.producer.Wait()
}
