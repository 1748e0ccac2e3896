package router

import (
	"context"
	"errors"

	"github.com/outboxstream/streamer/router/kafka"
)

// Writer writes single records beside a running streamer: it has a producer id
// of its own, and leaves the transactional id alone.
type Writer struct {
	client   *kafka.Client
	producer *Producer
	router   *Router
}

// NewWriter returns a writer, which closes the client. The router says which
// partition a key has.
func NewWriter(c *kafka.Client, config ProducerConfig, r *Router) (*Writer, error) {
	owner, err := c.Anonymous()
	if err != nil {
		return nil, err
	}
	return &Writer{client: c, producer: NewProducer(config, owner, r, nil, nil, func() {}), router: r}, nil
}

// Publish writes a revived event to its topic, creates that if the configuration
// says so, and returns the partition when all in-sync replicas have it. When ctx
// ends it may have been written or not. A *PoisonError tells that it never will
// be, as things are.
func (w *Writer) Publish(ctx context.Context, v Revival) (partition int32, err error) {
	count, err := w.client.Provide(ctx, v.Topic)
	if errors.Is(err, kafka.ErrTopicMissing) {
		still := v.row
		still.Class, still.Reason = PoisonTopic, topicProblem(v.Topic, err)
		return 0, &still
	}
	if err != nil {
		return 0, err
	}
	partition = kafka.NewPartitioner(w.router.rules.Partitioner, v.Topic).Of(v.Key, count)
	return partition, w.producer.write(ctx, v.Topic, partition, v.record, v.at)
}

// Resolve notes what was done about a letter with this key, and returns when
// that is acknowledged.
func (w *Writer) Resolve(ctx context.Context, l Letter, key []byte, r Resolution) error {
	return w.producer.write(ctx, l.Topic, l.Partition, r.record(l, key), r.At.UnixMilli())
}

// Close ends the writer and its client.
func (w *Writer) Close() {
	w.producer.Close()
	w.client.Close()
	w.producer.Wait()
}
