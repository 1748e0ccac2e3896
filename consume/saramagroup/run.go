package saramagroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/consume"
)

// Run joins the consumer's group and handles events until ctx ends, which is no
// error, or something is wrong that trying again does not mend. It does not close
// the client. The client's settings are those of the group: balance strategy,
// timeouts, and how soon new partitions are noticed (Metadata.RefreshFrequency).
func Run(ctx context.Context, client sarama.Client, consumer *consume.Consumer) error {
	if client.Config().Consumer.Offsets.Initial != sarama.OffsetOldest {
		return &consume.Advice{
			Err: errors.New("sarama's Consumer.Offsets.Initial is OffsetNewest, so that the first events of a new partition would be passed over"),
			Remedy: "set it to sarama.OffsetOldest; to leave out what is there now, set the group's offsets before it begins " +
				"(kafka-consumer-groups.sh --reset-offsets --to-latest)",
		}
	}
	group, err := sarama.NewConsumerGroupFromClient(consumer.Group(), client)
	if err != nil {
		return fmt.Errorf("consumer group %q: %w", consumer.Group(), err)
	}
	// With Consumer.Return.Errors, whoever does not take the errors blocks the group.
	var reporting sync.WaitGroup
	reporting.Go(func() {
		for err := range group.Errors() {
			consumer.Logger().Warn("consumer group", "group", consumer.Group(), "error", err)
		}
	})
	err = consumer.Run(ctx, kafka{client}, func(ctx context.Context) error {
		return sessions(ctx, group, consumer)
	})
	err = errors.Join(err, group.Close())
	reporting.Wait()
	return err
}

// sessions joins the group again after each rebalance, and after failures.
func sessions(ctx context.Context, group sarama.ConsumerGroup, consumer *consume.Consumer) error {
	const longest = 10 * time.Second
	wait := 100 * time.Millisecond
	for {
		began := time.Now()
		err := group.Consume(ctx, consumer.Topics(), &handler{consumer: consumer, group: group})
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, sarama.ErrClosedConsumerGroup) {
			return fmt.Errorf("consumer group %q: %w", consumer.Group(), err)
		}
		if err == nil || time.Since(began) > longest {
			wait = 100 * time.Millisecond
		}
		if err != nil {
			consumer.Logger().Warn("consumer group session ended", "group", consumer.Group(), "again_in", wait, "error", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, longest)
	}
}

// handler is what sarama calls for the partitions of a session.
type handler struct {
	consumer *consume.Consumer
	group    sarama.ConsumerGroup
}

// Setup does nothing; sarama requires it.
func (*handler) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup does nothing; sarama requires it.
func (*handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim handles a partition until it is revoked.
func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) (err error) {
	topic, number := claim.Topic(), claim.Partition()
	ctx, cancel := context.WithCancel(session.Context())
	defer cancel()
	p, start, err := h.consumer.Assign(ctx, topic, number, claim.InitialOffset(), func(next int64) {
		session.MarkOffset(topic, number, next, "")
	})
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
		defer cancel()
		err = errors.Join(err, p.Close(last))
		session.Commit()
	}()
	if claim.InitialOffset() >= 0 && start < claim.InitialOffset() {
		// A claim cannot seek. The next session begins there.
		session.ResetOffset(topic, number, start, "")
		return nil
	}
	this := map[string][]int32{topic: {number}}
	feed := p.Feed(func() { h.group.Pause(this) }, func() { h.group.Resume(this) })
	go func() {
		defer cancel() // nothing but the end of the messages says that a cooperative group has revoked a partition
		for message := range claim.Messages() {
			p.High(claim.HighWaterMarkOffset())
			feed.Add(record(message))
		}
	}()
	return feed.Run(ctx)
}

// finish is for how long a revoked partition may finish what it has begun. It is
// less than any usual rebalance timeout.
const finish = 20 * time.Second

func record(message *sarama.ConsumerMessage) consume.Record {
	headers := make([]consume.Header, len(message.Headers))
	for n, h := range message.Headers {
		headers[n] = consume.Header{Name: string(h.Key), Value: h.Value}
	}
	return consume.Record{
		Topic: message.Topic, Partition: message.Partition, Offset: message.Offset, Timestamp: message.Timestamp,
		Key: message.Key, Value: message.Value, Headers: headers,
	}
}
