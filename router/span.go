package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// span is a range of offsets of one partition that is being read.
type span struct {
	topicPartition
	next, end int64
	cut       bool // some of it has gone while it was being read
}

func (s *span) done() bool { return s.next >= s.end }

const (
	// spanPartitions bounds how many partitions are asked for at once, and with
	// spanBytes what a broker sends at once; only a single batch may be larger.
	spanPartitions = 128
	spanBytes      = 8 << 20
	// spanPatience is how long brokers may have nothing to say.
	spanPatience = 30 * time.Second
	spanPause    = 50 * time.Millisecond
)

// readSpans hands every record of the spans to visit, in the order of their
// partitions. Each round asks every leader once; leaders are asked at the same
// time, visit is called by one goroutine. Brokers that do not answer are asked
// again for a while.
func (c *Client) readSpans(ctx context.Context, spans []*span, visit func(*span, int64, *sarama.Record) error) error {
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
		wait.rest(ctx)
	}
	return errors.Join(context.Cause(ctx), last)
}

var errNoProgress = errors.New("brokers send nothing")

func topicsOf(spans []*span) []string {
	var topics []string
	for _, s := range spans {
		if !s.done() {
			topics = append(topics, s.topic)
		}
	}
	return unique(topics)
}

// spanRequests are one for each leader. missing is why one has none.
func (c *Client) spanRequests(spans []*span) (requests map[*sarama.Broker]*sarama.FetchRequest, byPartition map[topicPartition]*span, missing error) {
	requests, byPartition = map[*sarama.Broker]*sarama.FetchRequest{}, map[topicPartition]*span{}
	for _, s := range spans {
		if s.done() {
			continue
		}
		if len(byPartition) == spanPartitions {
			break
		}
		leader, err := c.client.Leader(s.topic, s.id)
		if err != nil {
			missing = fmt.Errorf("leader of topic %q partition %d: %w", s.topic, s.id, err)
			continue
		}
		request := requests[leader]
		if request == nil {
			request = fetchRequest(tailWait, spanBytes)
			requests[leader] = request
		}
		request.AddBlock(s.topic, s.id, s.next, fetchBytes, -1)
		byPartition[s.topicPartition] = s
	}
	return requests, byPartition, missing
}

func (c *Client) spanRound(requests map[*sarama.Broker]*sarama.FetchRequest, byPartition map[topicPartition]*span, visit func(*span, int64, *sarama.Record) error) (progress bool, err error) {
	answers, err := fetchEach(requests)
	for _, answer := range answers {
		for topic, blocks := range answer.Blocks {
			for id, block := range blocks {
				s := byPartition[topicPartition{topic, id}]
				if s == nil {
					continue // nobody has asked for it
				}
				before := s.next
				failed := s.take(block, visit)
				if errors.Is(failed, sarama.ErrOffsetOutOfRange) {
					failed = c.realign(s)
				}
				if failed != nil {
					err = failed
				}
				progress = progress || s.next > before
			}
		}
	}
	return progress, err
}

// realign moves a span whose next offset is not in the log any more. The answer
// that says so does not say what is.
func (c *Client) realign(s *span) error {
	oldest, newest := map[topicPartition]int64{}, map[topicPartition]int64{}
	part := []topicPartition{s.topicPartition}
	if err := errors.Join(c.askOffsets(part, sarama.OffsetOldest, oldest), c.askOffsets(part, sarama.OffsetNewest, newest)); err != nil {
		return err
	}
	switch {
	case oldest[s.topicPartition] > s.next: // retention was faster
		s.next, s.cut = oldest[s.topicPartition], true
	case newest[s.topicPartition] < s.next: // the broker has lost its end
		s.next, s.cut = s.end, true
	}
	return nil
}

// take hands out what a broker sent of the span.
func (s *span) take(block *sarama.FetchResponseBlock, visit func(*span, int64, *sarama.Record) error) error {
	switch block.Err {
	case sarama.ErrNoError:
	case sarama.ErrTopicAuthorizationFailed:
		return failure.Refuse(fmt.Errorf("read topic %q: %w: allow Describe and Read on it to our principal", s.topic, block.Err))
	default:
		return fmt.Errorf("read topic %q partition %d: %w", s.topic, s.id, block.Err)
	}
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil {
			return failure.Refuse(fmt.Errorf("topic %q partition %d holds records in a format older than Kafka 0.11", s.topic, s.id))
		}
		if batch.PartialTrailingRecord {
			continue
		}
		err := visitBatch(batch, s.next, func(offset int64, r *sarama.Record) error {
			if offset >= s.end {
				return nil
			}
			return visit(s, offset, r)
		})
		if err != nil {
			return err
		}
		s.next = max(s.next, batch.LastOffset()+1)
	}
	return nil
}

// offsets asks the leaders where partitions begin (sarama.OffsetOldest) or end
// (sarama.OffsetNewest).
func (c *Client) offsets(ctx context.Context, partitions []topicPartition, at int64) (map[topicPartition]int64, error) {
	found := map[topicPartition]int64{}
	began := time.Now()
	for wait := pausesFrom(spanPause); ; wait.rest(ctx) {
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

func (c *Client) askOffsets(partitions []topicPartition, at int64, found map[topicPartition]int64) error {
	requests := map[*sarama.Broker]*sarama.OffsetRequest{}
	asked := map[*sarama.Broker][]topicPartition{}
	for _, part := range partitions {
		if _, known := found[part]; known {
			continue
		}
		leader, err := c.client.Leader(part.topic, part.id)
		if err != nil {
			return fmt.Errorf("leader of topic %q partition %d: %w", part.topic, part.id, err)
		}
		if requests[leader] == nil {
			requests[leader] = sarama.NewOffsetRequest(c.client.Config().Version)
		}
		requests[leader].AddBlock(part.topic, part.id, at, 1)
		asked[leader] = append(asked[leader], part)
	}
	for leader, request := range requests {
		response, err := leader.GetAvailableOffsets(request)
		if err != nil {
			_ = leader.Close() // so that it is connected to anew
			return fmt.Errorf("offsets of %d partitions: %w", len(asked[leader]), err)
		}
		for _, part := range asked[leader] {
			block := response.GetBlock(part.topic, part.id)
			if block == nil {
				return fmt.Errorf("offsets of topic %q partition %d: %w", part.topic, part.id, sarama.ErrIncompleteResponse)
			}
			if block.Err != sarama.ErrNoError {
				return fmt.Errorf("offsets of topic %q partition %d: %w", part.topic, part.id, block.Err)
			}
			found[part] = block.Offset
		}
	}
	return nil
}

// whole is every partition of a topic, as far as it goes now.
func (c *Client) whole(ctx context.Context, topic string) ([]*span, error) {
	described, err := c.describeTopics([]string{topic}, glance)
	if err != nil {
		return nil, err
	}
	var partitions []topicPartition
	for id := range int32(described[topic].partitions) {
		partitions = append(partitions, topicPartition{topic, id})
	}
	oldest, err := c.offsets(ctx, partitions, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	newest, err := c.offsets(ctx, partitions, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	var spans []*span
	for _, part := range partitions {
		spans = append(spans, &span{topicPartition: part, next: oldest[part], end: newest[part]})
	}
	return spans, nil
}
