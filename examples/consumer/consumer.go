package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Config says what to read.
type Config struct {
	Brokers       []string
	Group         string   // consumer group; its members share the partitions
	Topics        []string // exact names; empty: all topics that begin with Prefix
	Prefix        string   // such as "outbox.event."
	FromBeginning bool     // where a group without committed offsets starts: true: oldest record, false: after the newest
}

// Delivery is one record with its evaluation.
type Delivery struct {
	Record  *sarama.ConsumerMessage
	Event   event.Event // the zero value if Err is set
	Verdict Verdict     // empty if Err is set
	Err     error       // why the record is not a CloudEvent
}

// Handler handles a delivery. Deliveries of one partition arrive one after the
// other, those of different partitions concurrently. An error ends [Run]; the
// record is delivered again next time.
type Handler func(ctx context.Context, d Delivery) error

const (
	topicsEvery   = 2 * time.Second // how often to look for new topics
	inboxCapacity = 100_000         // events remembered per partition
)

// Run reads until ctx ends, which is no error, or something fails permanently.
func Run(ctx context.Context, cfg Config, handle Handler) (err error) {
	config := sarama.NewConfig()
	config.ClientID = "example-consumer"
	config.Metadata.AllowAutoTopicCreation = false // asking for a topic must not create it
	config.Consumer.Offsets.Initial = sarama.OffsetNewest
	if cfg.FromBeginning {
		config.Consumer.Offsets.Initial = sarama.OffsetOldest
	}
	client, err := sarama.NewClient(cfg.Brokers, config)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	group, err := sarama.NewConsumerGroupFromClient(cfg.Group, client)
	if err != nil {
		return fmt.Errorf("join consumer group %q: %w", cfg.Group, err)
	}
	defer func() { err = errors.Join(err, group.Close()) }()

	for ctx.Err() == nil {
		if err := session(ctx, cfg, client, group, handle); err != nil {
			return err
		}
	}
	return nil
}

// session consumes from the existing topics. It ends when ctx ends, when the
// group rebalances, or when the set of topics changes.
func session(ctx context.Context, cfg Config, client sarama.Client, group sarama.ConsumerGroup, handle Handler) error {
	topics, err := waitForTopics(ctx, cfg, client, nil)
	if err != nil || len(topics) == 0 {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		// A failed check is no reason to stop reading: Consume reports what matters.
		_, _ = waitForTopics(ctx, cfg, client, topics)
		end(nil)
	}()
	claims := &claimHandler{handle: handle, fail: end}
	err = group.Consume(ctx, topics, claims)
	cause := context.Cause(ctx)
	end(nil)
	<-watched
	if failure, failed := errors.AsType[*handlerError](cause); failed {
		return failure.error
	}
	if err != nil {
		return fmt.Errorf("consume %s: %w", strings.Join(topics, ", "), err)
	}
	return nil
}

// waitForTopics returns the topics to read as soon as they differ from the
// current ones, and none when ctx ends.
func waitForTopics(ctx context.Context, cfg Config, client sarama.Client, current []string) ([]string, error) {
	again := time.NewTicker(topicsEvery)
	defer again.Stop()
	for {
		topics := cfg.Topics
		if len(topics) == 0 {
			if err := client.RefreshMetadata(); err != nil {
				return nil, fmt.Errorf("list topics: %w", err)
			}
			all, err := client.Topics()
			if err != nil {
				return nil, fmt.Errorf("list topics: %w", err)
			}
			topics = slices.DeleteFunc(all, func(t string) bool { return !strings.HasPrefix(t, cfg.Prefix) })
			slices.Sort(topics)
		}
		if len(topics) > 0 && !slices.Equal(topics, current) {
			return topics, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// claimHandler is what sarama calls for each assigned partition.
type claimHandler struct {
	handle Handler
	fail   context.CancelCauseFunc // ends the session
}

// handlerError distinguishes an error of the handler from other reasons to end
// a session.
type handlerError struct{ error }

// Setup does nothing; sarama requires it.
func (*claimHandler) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup does nothing; sarama requires it.
func (*claimHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim handles the records of one partition. It returns soon after the
// session ends, because the group waits for it before it reassigns partitions.
func (h *claimHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	inbox := NewInbox(inboxCapacity)
	for {
		select {
		case record, open := <-claim.Messages():
			if !open {
				return nil
			}
			if err := h.handle(session.Context(), deliver(record, inbox)); err != nil {
				h.fail(&handlerError{fmt.Errorf("handle record %s: %w", place(record), err)})
				return nil
			}
			// Only now. If it were marked before it is handled, a record would be lost
			// in a crash. Marked after, it may come again, and then the inbox knows it.
			session.MarkMessage(record, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

// deliver decodes a record and asks the inbox about it.
func deliver(record *sarama.ConsumerMessage, inbox *Inbox) Delivery {
	decoded, err := Decode(record)
	if err != nil {
		return Delivery{Record: record, Err: err}
	}
	return Delivery{Record: record, Event: decoded, Verdict: inbox.Check(decoded)}
}
