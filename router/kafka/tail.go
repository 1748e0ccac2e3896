package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
)

// TailOptions are what Tail follows, and from where.
type TailOptions struct {
	// Topics must exist.
	Topics []string
	// Match adds all topics whose names it accepts. Topics created later are
	// included and read from their beginning. Match may be nil. It is not
	// called for Kafka's own topics.
	Match func(topic string) bool
	From  From
}

// From is where to begin in each partition. The zero value is the end.
type From struct {
	Beginning bool
	Time      time.Time // the first record at or after it
	Offset    *int64    // moved to the nearest that exists
}

const (
	tailLook  = 2 * time.Second        // how often Tail looks for new topics and partitions
	tailWait  = 250 * time.Millisecond // how long a broker waits for a record
	tailPause = 500 * time.Millisecond // after an error
	// tailBytes bounds what a broker sends at once. Only a single batch may be
	// larger.
	tailBytes = 4 << 20
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// tail follows topics. Each round asks every broker once, for all of its
// partitions, so memory use depends only on the number of brokers.
type tail struct {
	client  *Client
	options TailOptions
	next    map[TopicPartition]int64
	visit   TailVisit
}

// TailVisit is called for each record, which it must not keep.
type TailVisit func(topic string, partition int32, offset int64, at time.Time, r *sarama.Record) error

// Tail passes every record to visit, in the order of its partition. It ends
// when ctx is cancelled, which is not an error, or when visit returns an error,
// which is returned. Tail waits out errors of brokers.
func (c *Client) Tail(ctx context.Context, o TailOptions, visit TailVisit) error {
	t := &tail{client: c, options: o, next: map[TopicPartition]int64{}, visit: visit}
	if err := t.look(ctx, o.From); err != nil {
		return err
	}
	looked := time.Now()
	for ctx.Err() == nil {
		if time.Since(looked) >= tailLook {
			looked = time.Now()
			_ = t.look(ctx, From{Beginning: true}) // the next round tries again
		}
		if len(t.next) == 0 {
			wait.For(ctx, tailPause)
			continue
		}
		if err := t.round(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// look starts to follow partitions that are not followed yet.
func (t *tail) look(ctx context.Context, from From) error {
	topics := slices.Clone(t.options.Topics)
	if t.options.Match != nil {
		found, err := t.client.Topics("")
		if err != nil {
			return err
		}
		topics = append(topics, slices.DeleteFunc(found, func(name string) bool {
			return strings.HasPrefix(name, "__") || !t.options.Match(name)
		})...)
	}
	for _, topic := range unique(topics) {
		if err := t.lookAt(ctx, topic, from); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) lookAt(ctx context.Context, topic string, from From) error {
	err := t.client.Refresh(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		var existing []string
		if existing, err = t.client.Exist(ctx, topic); err == nil && len(existing) == 0 {
			return fmt.Errorf("topic %q does not exist", topic)
		}
	}
	if err != nil {
		return fmt.Errorf("topic %q: %w", topic, err)
	}
	ids, err := t.client.client.Partitions(topic)
	if err != nil {
		return fmt.Errorf("partitions of topic %q: %w", topic, err)
	}
	for _, id := range ids {
		part := TopicPartition{topic, id}
		if _, followed := t.next[part]; followed {
			continue
		}
		if t.next[part], err = t.start(part, from); err != nil {
			delete(t.next, part)
			return fmt.Errorf("offsets of topic %q partition %d: %w", topic, id, err)
		}
	}
	return nil
}

// start returns the offset at which to begin.
func (t *tail) start(part TopicPartition, from From) (int64, error) {
	ask := func(at int64) (int64, error) { return t.client.client.GetOffset(part.Topic, part.Partition, at) }
	oldest, err := ask(sarama.OffsetOldest)
	if err != nil || from.Beginning {
		return oldest, err
	}
	newest, err := ask(sarama.OffsetNewest)
	switch {
	case err != nil:
		return 0, err
	case from.Offset != nil:
		return min(max(*from.Offset, oldest), newest), nil
	case !from.Time.IsZero():
		if at, err := ask(from.Time.UnixMilli()); err != nil || at >= 0 {
			return at, err
		}
	}
	return newest, nil
}

// round asks every broker once.
func (t *tail) round(ctx context.Context) error {
	requests, complete := t.requests()
	answers, broken := fetchEach(requests)
	failed := broken != nil
	for _, answer := range answers {
		ok, err := t.answer(ctx, answer)
		if err != nil {
			return err
		}
		failed = failed || !ok
	}
	if failed || !complete {
		_ = t.client.client.RefreshMetadata() // leaders may have moved
		wait.For(ctx, tailPause)
	}
	return nil
}

// requests returns one request for each leader. complete is false while a
// partition has no leader.
func (t *tail) requests() (requests map[*sarama.Broker]*sarama.FetchRequest, complete bool) {
	requests, complete = map[*sarama.Broker]*sarama.FetchRequest{}, true
	for part, offset := range t.next {
		broker, err := t.client.client.Leader(part.Topic, part.Partition)
		if err != nil {
			complete = false
			continue
		}
		request := requests[broker]
		if request == nil {
			request = fetchRequest(tailWait, tailBytes)
			requests[broker] = request
		}
		request.AddBlock(part.Topic, part.Partition, offset, fetchBytes, -1)
	}
	return requests, complete
}

// answer passes what a broker has sent to visit. ok is false when the broker
// returned an error.
func (t *tail) answer(ctx context.Context, response *sarama.FetchResponse) (ok bool, err error) {
	ok = true
	for topic, blocks := range response.Blocks {
		for id, block := range blocks {
			part := TopicPartition{topic, id}
			if errors.Is(block.Err, sarama.ErrOffsetOutOfRange) {
				// Retention was faster than the reader, or the topic is a new
				// one.
				delete(t.next, part)
				_ = t.lookAt(ctx, topic, From{Beginning: true})
				continue
			}
			if errors.Is(block.Err, sarama.ErrTopicAuthorizationFailed) {
				return false, failure.Refuse(failure.Advise(
					fmt.Errorf("read topic %q: %w", topic, block.Err),
					"grant the streamer's principal Describe and Read on the topic",
				))
			}
			ok = ok && block.Err == sarama.ErrNoError
			for _, set := range block.RecordsSet {
				if err := t.batch(ctx, part, set); err != nil {
					return ok, err
				}
			}
		}
	}
	return ok, nil
}

func (t *tail) batch(ctx context.Context, part TopicPartition, set *sarama.Records) error {
	batch := set.RecordBatch
	if batch == nil {
		return fmt.Errorf("topic %q partition %d holds records in a format older than Kafka 0.11", part.Topic, part.Partition)
	}
	if batch.PartialTrailingRecord {
		return nil
	}
	err := visitBatch(batch, t.next[part], func(offset int64, r *sarama.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := batch.FirstTimestamp.Add(r.TimestampDelta)
		if batch.LogAppendTime {
			at = batch.MaxTimestamp
		}
		return t.visit(part.Topic, part.Partition, offset, at, r)
	})
	t.next[part] = max(t.next[part], batch.LastOffset()+1)
	return err
}

// unique sorts names and removes duplicates.
func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
