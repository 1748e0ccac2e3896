package predecessor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// checkRows makes sure that an ID names one row.
func (s *Survey) checkRows() {
	if n := s.rows.repeated(); n > 0 {
		s.find("%d rows that wait have the event ID of another row, so an ID in Kafka does not say which of them is published",
			"map outbox.columns.id to a column that is unique", n)
	}
}

// checkPartitions makes sure that keys go to the same partitions. While a topic
// has got more partitions, some of the events are in those of before, and what
// they are does not matter. Another partitioner moves at least half of them.
func (s *Survey) checkPartitions(p *Plan) {
	const few = 3 // of those that are published, one in so many may be elsewhere
	if p.Elsewhere*few <= p.Published {
		return
	}
	p.Findings = append(p.Findings, replication.Finding{
		Fatal:   true,
		Problem: fmt.Sprintf("%d of %d published events are in other partitions than the streamer would choose", p.Elsewhere, p.Published),
		Remedy: "correct kafka.key or kafka.partitioner; if the topic has just got more partitions, nothing but repeats is left: " +
			"`streamer checkpoint set slot --yes`",
	})
}

// checkCompaction makes sure that the topic keeps every record.
func (s *Survey) checkCompaction(topic string) error {
	policy, err := s.Kafka.TopicSetting(topic, "cleanup.policy")
	if err != nil {
		return fmt.Errorf("cleanup.policy of topic %q: %w", topic, err)
	}
	if strings.Contains(policy, "compact") {
		s.find("topic %q is compacted: records of the former publisher may be gone, and their rows would be published again",
			"set its cleanup.policy to delete before the former publisher stops, or accept repeats with `streamer checkpoint set slot --yes`", topic)
	}
	return nil
}

// checkRetention makes sure that the topic's first record is older than what is
// searched.
func (s *Survey) checkRetention(ctx context.Context, log kafka.Log, at time.Time) error {
	log.From, log.End = log.Start, log.Start+1
	oldest := time.Time{}
	err := s.Kafka.Scan(ctx, log, func(r *kafka.LogRecord) error {
		oldest = r.Time
		return errEnd
	})
	if err != nil && !errors.Is(err, errEnd) {
		return err
	}
	if oldest.After(at) {
		s.find("topic %q partition %d has kept nothing from before %s, but rows that wait may have been published since %s",
			"raise retention.ms of the topic, and begin earlier next time; or accept repeats with `streamer checkpoint set slot --yes`",
			log.Topic, log.Partition, oldest.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkElsewhere makes sure that the topics are those of the former publisher, of
// which nothing was found: in none of them there is anything of another program.
func (s *Survey) checkElsewhere(ctx context.Context, p *Plan) error {
	const last = 200 // records of each partition
	for topic := range s.topics {
		logs, err := s.Kafka.Logs(ctx, topic)
		if err != nil {
			return err
		}
		for _, log := range logs {
			log.From = max(log.Start, log.End-last)
			err := s.Kafka.Scan(ctx, log, func(r *kafka.LogRecord) error {
				if router.IsOwn(r.Headers) {
					return nil
				}
				return errFound
			})
			if errors.Is(err, errFound) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	p.Findings = append(p.Findings, replication.Finding{
		Fatal:   true,
		Problem: fmt.Sprintf("the topics of the rows that wait (%s) hold no event of another program", s.someTopics()),
		Remedy: "correct kafka.topic if the former publisher writes to other topics; if it has published nothing, " +
			"`streamer checkpoint set slot --yes` and `streamer run` begin at the slot's position",
	})
	return nil
}

// someTopics names a few of the topics.
func (s *Survey) someTopics() string {
	const few = 3
	if len(s.names) > few {
		return strings.Join(s.names[:few], ", ") + ", …"
	}
	return strings.Join(s.names, ", ")
}
