package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// A broker that has just restarted, or is cut off from the controller, may not
// know an existing topic. So one answer proves nothing. A topic counts as
// missing when all brokers that answer have said so for a while. More than half
// of the brokers must have answered.
const (
	// confirmation is how long a start asks, and anything that fences other
	// producers. It is spent once: a topic confirmed to be missing is believed
	// to be missing until it is seen.
	confirmation = 5 * time.Second
	// glance is how long a command asks while the operator waits for it.
	glance = time.Second
)

// Topic is an existing topic. ID is Kafka's topic ID, empty where Kafka has
// none.
type Topic struct {
	ID         string
	Partitions int
}

// LookUp describes the topics that exist. Afterwards their leaders are known as
// well.
func (c *Client) LookUp(ctx context.Context, topics []string) (map[string]Topic, error) {
	return c.describeTopics(ctx, topics, confirmation)
}

// Exist lists the topics that exist.
func (c *Client) Exist(ctx context.Context, topics ...string) ([]string, error) {
	described, err := c.describeTopics(ctx, topics, glance)
	return slices.Sorted(maps.Keys(described)), err
}

// ExpectMissing names topics that an earlier start found missing. If they are
// still missing, that needs no confirmation.
func (c *Client) ExpectMissing(topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range topics {
		c.missing[topic] = struct{}{}
	}
}

// describeTopics describes the topics that exist. If one seems to be missing,
// it keeps asking for as long as patience.
func (c *Client) describeTopics(ctx context.Context, topics []string, patience time.Duration) (map[string]Topic, error) {
	described := map[string]Topic{}
	if len(topics) == 0 {
		return described, nil
	}
	brokers := len(c.client.Brokers()) // a broker that has just started may know fewer
	if err := c.refresh(topics...); err != nil && !aboutTopic(err) {
		return nil, fmt.Errorf("metadata of %d topics: %w", len(topics), err)
	}
	broker := c.client.LeastLoadedBroker()
	if broker == nil {
		return nil, sarama.ErrOutOfBrokers
	}
	response, err := broker.GetMetadata(sarama.NewMetadataRequest(c.client.Config().Version, topics))
	doubtful := topics
	if err != nil {
		_ = broker.Close() // so that the next request reconnects; the others are asked below
	} else {
		if err := readTopics(response, described); err != nil {
			return nil, err
		}
		doubtful = c.doubtful(topics, described)
	}
	if len(doubtful) > 0 {
		if err := c.confirm(ctx, slices.Clone(doubtful), described, brokers, patience); err != nil {
			return nil, err
		}
	}
	c.believe(topics, described)
	return described, nil
}

// aboutTopic reports whether a broker has answered that something is wrong with
// one of the topics. Which one, only the response says.
func aboutTopic(err error) bool {
	return errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, sarama.ErrLeaderNotAvailable) ||
		errors.Is(err, sarama.ErrTopicAuthorizationFailed)
}

// readTopics reads the existing topics from a response into described.
func readTopics(response *sarama.MetadataResponse, described map[string]Topic) error {
	for _, t := range response.Topics {
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
		case sarama.ErrUnknownTopicOrPartition:
			continue
		case sarama.ErrTopicAuthorizationFailed:
			return failure.Refuse(failure.Advise(
				fmt.Errorf("topic %q: %w", t.Name, t.Err),
				"grant the streamer's principal Describe, Read and Write on the topic",
			))
		default:
			return fmt.Errorf("metadata of topic %q: %w", t.Name, t.Err)
		}
		d := Topic{Partitions: len(t.Partitions)}
		if t.Uuid != (sarama.Uuid{}) {
			d.ID = t.Uuid.String()
		}
		described[t.Name] = d
	}
	return nil
}

// doubtful returns the topics that seem to be missing and were not known to be.
func (c *Client) doubtful(topics []string, described map[string]Topic) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(topics), func(topic string) bool {
		_, exists := described[topic]
		_, believed := c.missing[topic]
		return exists || believed
	})
}

// believe records which topics are missing.
func (c *Client) believe(topics []string, described map[string]Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range topics {
		if _, exists := described[topic]; exists {
			delete(c.missing, topic)
		} else {
			c.missing[topic] = struct{}{}
		}
	}
}

// confirm asks all brokers for topics that seem to be missing and describes the
// ones that any broker knows. known is the minimum number of brokers.
func (c *Client) confirm(
	ctx context.Context, doubtful []string, described map[string]Topic, known int, patience time.Duration,
) error {
	began := time.Now()
	for pauses := pausesFrom(spanPause); ; {
		answers, asked, _ := askBrokers(c, func(broker *sarama.Broker) (*sarama.MetadataResponse, error) {
			return broker.GetMetadata(sarama.NewMetadataRequest(c.client.Config().Version, doubtful))
		})
		known = max(known, asked)
		for _, response := range answers {
			if err := readTopics(response, described); err != nil {
				return err
			}
		}
		before := len(doubtful)
		doubtful = slices.DeleteFunc(doubtful, func(topic string) bool {
			_, exists := described[topic]
			return exists
		})
		if len(doubtful) < before {
			_ = c.client.RefreshMetadata(slices.Collect(maps.Keys(described))...) // for their leaders
		}
		switch {
		case len(doubtful) == 0:
			return nil
		case time.Since(began) < patience:
		case 2*len(answers) <= known:
			return fmt.Errorf("topic %q seems to be missing, but only %d of %d brokers say so: %w",
				doubtful[0], len(answers), known, sarama.ErrOutOfBrokers)
		default:
			return nil
		}
		if !pauses.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}
