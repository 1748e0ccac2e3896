package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
)

// Log is the extent of a partition at the time of the request.
type Log struct {
	Topic     string
	Partition int32
	// Start is the first offset that retention has kept, End the offset after
	// the last.
	Start, End int64
	// From is where Scan begins. Logs sets it to Start.
	From int64
	// Committed leaves out records of transactions that were aborted, and waits for
	// the end of those that are open. A streamer itself writes no records in
	// transactions.
	Committed bool
	// Small makes fetches small: what one returns can take twenty times as much
	// memory when it is decoded.
	Small bool
}

// LogRecord is a record as Scan passes it to visit. Its byte slices are valid
// only during the call.
type LogRecord struct {
	Offset int64
	// Time is the record's timestamp. For the streamer's records this is the
	// commit time, or a later time if the event was published late
	// (docs/adr/0010).
	Time    time.Time
	Key     []byte
	Value   []byte // nil is Kafka's null
	Headers []LogHeader
	// AfterGap means that retention was faster than the scan: records before
	// this one were deleted unseen.
	AfterGap bool
}

// LogHeader is a header of a record.
type LogHeader struct{ Key, Value []byte }

// scanPatience is how long a scan waits for a partition that returns errors or
// nothing.
const scanPatience = time.Minute

// Logs returns the extent of every partition of a topic. A topic that does not
// exist has none. Logs waits for leaders that move.
func (c *Client) Logs(ctx context.Context, topic string) (logs []Log, err error) {
	err = c.settled(ctx, topic, func() error {
		exists, err := c.Exist(ctx, topic)
		if err != nil || len(exists) == 0 {
			return err
		}
		ids, err := c.client.Partitions(topic)
		if err != nil {
			return err
		}
		slices.Sort(ids)
		logs = logs[:0]
		for _, id := range ids {
			log := Log{Topic: topic, Partition: id}
			if err := c.extent(&log); err != nil {
				return err
			}
			logs = append(logs, log)
		}
		return nil
	})
	return logs, err
}

func (c *Client) extent(log *Log) (err error) {
	if log.End, err = c.client.GetOffset(log.Topic, log.Partition, sarama.OffsetNewest); err == nil {
		log.Start, err = c.client.GetOffset(log.Topic, log.Partition, sarama.OffsetOldest)
	}
	if err != nil {
		return fmt.Errorf("offsets of partition %d: %w", log.Partition, err)
	}
	log.From = log.Start
	return nil
}

// Seek moves From to the first record with a timestamp at or after the given
// time, or to the end.
func (c *Client) Seek(ctx context.Context, log *Log, at time.Time) error {
	return c.settled(ctx, log.Topic, func() error {
		offset, err := c.client.GetOffset(log.Topic, log.Partition, at.UnixMilli())
		if err != nil {
			return fmt.Errorf("offset of partition %d at %s: %w", log.Partition, at.UTC().Format(time.RFC3339), err)
		}
		if offset < 0 {
			offset = log.End
		}
		log.From = min(max(offset, log.Start), log.End)
		return nil
	})
}

// settled repeats ask until it succeeds, its error is final, or scanPatience is
// over.
func (c *Client) settled(ctx context.Context, topic string, ask func() error) error {
	for began := time.Now(); ; wait.For(ctx, tailPause) {
		err := ask()
		if err == nil || ctx.Err() != nil || c.final(ctx, topic, err) || time.Since(began) > scanPatience {
			return explainScan(topic, err)
		}
		_ = c.client.RefreshMetadata(topic) // the next attempt shows whether that helped
	}
}

// final reports whether waiting cannot help against an error.
func (c *Client) final(ctx context.Context, topic string, err error) bool {
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return errors.Is(err, sarama.ErrTopicAuthorizationFailed)
	}
	existing, unknown := c.Exist(ctx, topic)
	return unknown == nil && len(existing) == 0
}

// ScanAll reads logs, each from From to End, a few at a time. It calls open for
// each log before its first record, from one of several goroutines. The
// returned function gets the records of this log, one after the other. The
// first error ends all scans and is returned.
func (c *Client) ScanAll(ctx context.Context, logs []Log, parallel int, open func(Log) func(*LogRecord) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan Log)
	var readers sync.WaitGroup
	for range max(1, min(parallel, len(logs))) {
		readers.Go(func() {
			for log := range next {
				if err := c.Scan(ctx, log, open(log)); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for _, log := range logs {
		select {
		case next <- log:
		case <-ctx.Done():
		}
	}
	close(next)
	readers.Wait()
	return context.Cause(ctx)
}

// Scan passes the records of a log from From to End to visit. Control records
// are skipped. Scan waits for a leader that moves. It skips what retention
// deletes meanwhile, and the next record has AfterGap set.
func (c *Client) Scan(ctx context.Context, log Log, visit func(*LogRecord) error) error {
	s := scan{client: c, log: log, visit: visit, next: log.From, progress: time.Now()}
	for s.next < log.End {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := s.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type scan struct {
	client   *Client
	log      Log
	visit    func(*LogRecord) error
	next     int64
	progress time.Time // when next last moved
	record   LogRecord // reused for each
}

func (s *scan) step(ctx context.Context) error {
	batches, err := s.client.fetch(s.log, s.next)
	if errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return s.jump(ctx)
	}
	if err != nil {
		return s.wait(ctx, err)
	}
	before := s.next
	for _, batch := range batches {
		if batch.PartialTrailingRecord {
			continue
		}
		if err := s.batch(batch); err != nil {
			return err
		}
		s.next = max(s.next, batch.LastOffset()+1)
	}
	if s.next == before {
		return s.wait(ctx, s.nothing())
	}
	s.progress = time.Now()
	return nil
}

// nothing is why a broker returns no records.
func (s *scan) nothing() error {
	if s.log.Committed {
		return failure.Advise(
			errors.New("the broker returns no records: a transaction may be open there"),
			"end it, or wait for its timeout: `kafka-transactions.sh list` and `describe` name the producer")
	}
	return errors.New("the broker returns no records")
}

func (s *scan) batch(batch *sarama.RecordBatch) error {
	return visitBatch(batch, s.next, func(offset int64, r *sarama.Record) error {
		if offset >= s.log.End {
			return nil
		}
		at := batch.FirstTimestamp.Add(r.TimestampDelta)
		if batch.LogAppendTime {
			at = batch.MaxTimestamp
		}
		s.record.Offset, s.record.Time, s.record.Key, s.record.Value = offset, at, r.Key, r.Value
		s.record.Headers = s.record.Headers[:0]
		for _, h := range r.Headers {
			s.record.Headers = append(s.record.Headers, LogHeader(*h))
		}
		err := s.visit(&s.record)
		s.record.AfterGap = false
		return err
	})
}

// jump continues at the current start of the partition.
func (s *scan) jump(ctx context.Context) error {
	now := Log{Topic: s.log.Topic, Partition: s.log.Partition}
	if err := s.client.settled(ctx, now.Topic, func() error { return s.client.extent(&now) }); err != nil {
		return err
	}
	if now.Start <= s.next {
		return failure.Advise(
			fmt.Errorf(
				"read topic %q partition %d: it ended at offset %d and now ends at %d: it was created again or truncated meanwhile",
				s.log.Topic, s.log.Partition, s.log.End, now.End,
			),
			"run the command again",
		)
	}
	s.next, s.record.AfterGap = now.Start, true
	return nil
}

// wait lets leaders settle.
func (s *scan) wait(ctx context.Context, cause error) error {
	if s.client.final(ctx, s.log.Topic, cause) || time.Since(s.progress) > scanPatience {
		return explainScan(s.log.Topic, fmt.Errorf("partition %d at offset %d: %w", s.log.Partition, s.next, cause))
	}
	if broker, err := s.client.client.Leader(s.log.Topic, s.log.Partition); err == nil {
		if _, isAnswer := errors.AsType[sarama.KError](cause); !isAnswer {
			_ = broker.Close() // so that the next request reconnects
		}
	}
	_ = s.client.client.RefreshMetadata(s.log.Topic) // the next attempt shows whether that helped
	wait.For(ctx, tailPause)
	return nil
}

func explainScan(topic string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("read topic %q: %w", topic, err)
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return failure.Refuse(failure.Advise(err, "grant the streamer's principal Describe and Read on the topic"))
	}
	return err
}
