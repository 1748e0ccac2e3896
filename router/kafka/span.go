package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// Span is a range of offsets of one partition that is being read.
type Span struct {
	TopicPartition
	Next, End int64
	Cut       bool // part of it disappeared while it was being read
}

// Done reports whether the whole span has been read.
func (s *Span) Done() bool { return s.Next >= s.End }

const (
	// spanPartitions bounds how many partitions one round requests. Together
	// with spanBytes it bounds what a broker sends at once. Only a single batch
	// may be larger.
	spanPartitions = 128
	spanBytes      = 8 << 20
	// spanPatience is how long brokers may send nothing.
	spanPatience = 30 * time.Second
	spanPause    = 50 * time.Millisecond
)

// ReadSpans passes every record of the spans to visit, in the order of their
// partitions. Each round asks every leader once, all at the same time. One
// goroutine calls visit. Brokers that do not answer are asked again for at most
// spanPatience without progress.
func (c *Client) ReadSpans(ctx context.Context, spans []*Span, visit func(*Span, int64, *sarama.Record) error) error {
	heard, wait := time.Now(), pausesFrom(spanPause)
	var last error
	for ctx.Err() == nil {
		requests, byPartition, missing := c.spanRequests(spans)
		if len(requests) == 0 && missing == nil {
			return nil
		}
		progress, err := c.spanRound(requests, byPartition, visit)
		switch {
		case failure.ClassOf(err) == failure.Refused:
			return err
		case progress:
			heard = time.Now()
			wait.next.Reset()
			continue
		case time.Since(heard) > spanPatience:
			return errors.Join(err, missing, errNoProgress)
		}
		last = errors.Join(err, missing)
		_ = c.client.RefreshMetadata(topicsOf(spans)...) // leaders may have moved
		wait.wait(ctx)
	}
	return errors.Join(context.Cause(ctx), last)
}

var errNoProgress = errors.New("brokers send nothing")

func topicsOf(spans []*Span) []string {
	var topics []string
	for _, s := range spans {
		if !s.Done() {
			topics = append(topics, s.Topic)
		}
	}
	return unique(topics)
}

// spanRequests returns one request for each leader. missing is why a partition
// has no leader.
func (c *Client) spanRequests(spans []*Span) (
	requests map[*sarama.Broker]*sarama.FetchRequest, byPartition map[TopicPartition]*Span, missing error,
) {
	requests, byPartition = map[*sarama.Broker]*sarama.FetchRequest{}, map[TopicPartition]*Span{}
	for _, s := range spans {
		if s.Done() {
			continue
		}
		if len(byPartition) == spanPartitions {
			break
		}
		leader, err := c.client.Leader(s.Topic, s.Partition)
		if err != nil {
			missing = fmt.Errorf("leader of topic %q partition %d: %w", s.Topic, s.Partition, err)
			continue
		}
		request := requests[leader]
		if request == nil {
			request = fetchRequest(tailWait, spanBytes)
			requests[leader] = request
		}
		request.AddBlock(s.Topic, s.Partition, s.Next, fetchBytes, -1)
		byPartition[s.TopicPartition] = s
	}
	return requests, byPartition, missing
}

func (c *Client) spanRound(
	requests map[*sarama.Broker]*sarama.FetchRequest, byPartition map[TopicPartition]*Span,
	visit func(*Span, int64, *sarama.Record) error,
) (progress bool, err error) {
	answers, err := fetchEach(requests)
	for _, answer := range answers {
		for topic, blocks := range answer.Blocks {
			for id, block := range blocks {
				s := byPartition[TopicPartition{topic, id}]
				if s == nil {
					continue // it was not requested
				}
				before := s.Next
				failed := s.take(block, visit)
				if errors.Is(failed, sarama.ErrOffsetOutOfRange) {
					failed = c.realign(s)
				}
				if failed != nil {
					err = failed
				}
				progress = progress || s.Next > before
			}
		}
	}
	return progress, err
}

// realign moves a span whose next offset is no longer in the partition. The
// response that says so does not say which offsets are.
func (c *Client) realign(s *Span) error {
	oldest, newest := map[TopicPartition]int64{}, map[TopicPartition]int64{}
	part := []TopicPartition{s.TopicPartition}
	if err := errors.Join(c.askOffsets(part, sarama.OffsetOldest, oldest), c.askOffsets(part, sarama.OffsetNewest, newest)); err != nil {
		return err
	}
	switch {
	case oldest[s.TopicPartition] > s.Next: // retention was faster
		s.Next, s.Cut = oldest[s.TopicPartition], true
	case newest[s.TopicPartition] < s.Next: // the broker has lost the partition's end
		s.Next, s.Cut = s.End, true
	}
	return nil
}

// take passes what a broker sent of the span to visit.
func (s *Span) take(block *sarama.FetchResponseBlock, visit func(*Span, int64, *sarama.Record) error) error {
	switch block.Err {
	case sarama.ErrNoError:
	case sarama.ErrTopicAuthorizationFailed:
		return failure.Refuse(failure.Advise(
			fmt.Errorf("read topic %q: %w", s.Topic, block.Err),
			"grant the streamer's principal Describe and Read on the topic",
		))
	default:
		return fmt.Errorf("read topic %q partition %d: %w", s.Topic, s.Partition, block.Err)
	}
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil {
			return failure.Refuse(fmt.Errorf("topic %q partition %d holds records in a format older than Kafka 0.11", s.Topic, s.Partition))
		}
		if batch.PartialTrailingRecord {
			continue
		}
		err := visitBatch(batch, s.Next, func(offset int64, r *sarama.Record) error {
			if offset >= s.End {
				return nil
			}
			return visit(s, offset, r)
		})
		if err != nil {
			return err
		}
		s.Next = max(s.Next, batch.LastOffset()+1)
	}
	return nil
}

// Offsets returns where partitions begin (sarama.OffsetOldest) or end
// (sarama.OffsetNewest), as their leaders report.
func (c *Client) Offsets(ctx context.Context, partitions []TopicPartition, at int64) (map[TopicPartition]int64, error) {
	found := map[TopicPartition]int64{}
	began := time.Now()
	for wait := pausesFrom(spanPause); ; wait.wait(ctx) {
		err := c.askOffsets(partitions, at, found)
		if err == nil || Permanent(err) || errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			return found, err
		}
		if time.Since(began) > spanPatience || ctx.Err() != nil {
			return found, err
		}
		_ = c.client.RefreshMetadata()
	}
}

func (c *Client) askOffsets(partitions []TopicPartition, at int64, found map[TopicPartition]int64) error {
	requests := map[*sarama.Broker]*sarama.OffsetRequest{}
	asked := map[*sarama.Broker][]TopicPartition{}
	for _, part := range partitions {
		if _, known := found[part]; known {
			continue
		}
		leader, err := c.client.Leader(part.Topic, part.Partition)
		if err != nil {
			return fmt.Errorf("leader of topic %q partition %d: %w", part.Topic, part.Partition, err)
		}
		if requests[leader] == nil {
			requests[leader] = sarama.NewOffsetRequest(c.client.Config().Version)
		}
		requests[leader].AddBlock(part.Topic, part.Partition, at, 1)
		asked[leader] = append(asked[leader], part)
	}
	for leader, request := range requests {
		response, err := leader.GetAvailableOffsets(request)
		if err != nil {
			_ = leader.Close() // so that the next request reconnects
			return fmt.Errorf("offsets of %d partitions: %w", len(asked[leader]), err)
		}
		for _, part := range asked[leader] {
			block := response.GetBlock(part.Topic, part.Partition)
			if block == nil {
				return fmt.Errorf("offsets of topic %q partition %d: %w", part.Topic, part.Partition, sarama.ErrIncompleteResponse)
			}
			if block.Err != sarama.ErrNoError {
				return fmt.Errorf("offsets of topic %q partition %d: %w", part.Topic, part.Partition, block.Err)
			}
			found[part] = block.Offset
		}
	}
	return nil
}

// Whole returns a span for every partition of a topic, up to its current end.
func (c *Client) Whole(ctx context.Context, topic string) ([]*Span, error) {
	described, err := c.describeTopics(ctx, []string{topic}, glance)
	if err != nil {
		return nil, err
	}
	var partitions []TopicPartition
	for id := range int32(described[topic].Partitions) {
		partitions = append(partitions, TopicPartition{topic, id})
	}
	oldest, err := c.Offsets(ctx, partitions, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	newest, err := c.Offsets(ctx, partitions, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	var spans []*Span
	for _, part := range partitions {
		spans = append(spans, &Span{TopicPartition: part, Next: oldest[part], End: newest[part]})
	}
	return spans, nil
}
