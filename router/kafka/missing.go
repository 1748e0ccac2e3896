package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// A broker that has just started again, or that is cut off from the controller,
// may not know a topic that exists. So one answer proves nothing: a topic is taken
// for missing when all brokers that answer, which must be most of them, have said
// so for a while.
const (
	// confirmation is how long a start asks, and whatever keeps others out. It
	// is spent once: what has been confirmed is believed until it is seen.
	confirmation = 5 * time.Second
	// glance is how long a command asks that an operator waits for.
	glance = time.Second
	// answerPatience is how long a round waits for brokers that say nothing.
	answerPatience = 2 * time.Second
)

// Topic is one that exists. ID is Kafka's, and empty where it has none.
type Topic struct {
	ID         string
	Partitions int
}

// LookUp describes those of the topics that exist. Afterwards the leaders are
// known, too.
func (c *Client) LookUp(topics []string) (map[string]Topic, error) {
	return c.describeTopics(topics, confirmation)
}

// Exist lists those of the topics that exist.
func (c *Client) Exist(topics ...string) ([]string, error) {
	described, err := c.describeTopics(topics, glance)
	return slices.Sorted(maps.Keys(described)), err
}

// ExpectMissing names topics that an earlier start has found missing: that they
// still are needs no confirmation.
func (c *Client) ExpectMissing(topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range topics {
		c.missing[topic] = struct{}{}
	}
}

// describeTopics describes those of the topics that exist. Where one seems to be
// missing, it asks for so long.
func (c *Client) describeTopics(topics []string, patience time.Duration) (map[string]Topic, error) {
	described := map[string]Topic{}
	if len(topics) == 0 {
		return described, nil
	}
	brokers := len(c.client.Brokers()) // a broker that has just started may know of fewer
	if err := c.client.RefreshMetadata(topics...); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
		return nil, fmt.Errorf("metadata of %d topics: %w", len(topics), err)
	}
	broker := c.client.LeastLoadedBroker()
	if broker == nil {
		return nil, sarama.ErrOutOfBrokers
	}
	response, err := broker.GetMetadata(sarama.NewMetadataRequest(c.client.Config().Version, topics))
	if err != nil {
		_ = broker.Close() // so that it is connected to anew
		return nil, fmt.Errorf("metadata of %d topics: %w", len(topics), err)
	}
	if err := readTopics(response, described); err != nil {
		return nil, err
	}
	if doubtful := c.doubtful(topics, described); len(doubtful) > 0 {
		if err := c.confirm(doubtful, described, brokers, patience); err != nil {
			return nil, err
		}
	}
	c.believe(topics, described)
	return described, nil
}

// readTopics takes the topics that exist from an answer.
func readTopics(response *sarama.MetadataResponse, described map[string]Topic) error {
	for _, t := range response.Topics {
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
		case sarama.ErrUnknownTopicOrPartition:
			continue
		case sarama.ErrTopicAuthorizationFailed:
			return failure.Refuse(failure.Advise(
				fmt.Errorf("topic %q: %w", t.Name, t.Err),
				"grant the streamer's principal Describe, Read and Write on it",
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

// doubtful are the topics that seem to be missing and were not known to be.
func (c *Client) doubtful(topics []string, described map[string]Topic) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(topics), func(topic string) bool {
		_, exists := described[topic]
		_, believed := c.missing[topic]
		return exists || believed
	})
}

// believe notes which topics are missing.
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

// confirm asks all brokers for topics that seem to be missing, and describes those
// that one of them knows. known is how many brokers there are at least.
func (c *Client) confirm(doubtful []string, described map[string]Topic, known int, patience time.Duration) error {
	began := time.Now()
	for wait := pausesFrom(spanPause); ; wait.sleep() {
		answers, asked := c.askBrokers(doubtful)
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
			return fmt.Errorf("topic %q seems to be missing, but only %d of %d brokers say so: %w", doubtful[0], len(answers), known, sarama.ErrOutOfBrokers)
		default:
			return nil
		}
	}
}

// askBrokers asks all brokers at the same time. One that does not answer is left
// behind, and ends by its own timeout.
func (c *Client) askBrokers(topics []string) (answers []*sarama.MetadataResponse, asked int) {
	brokers := c.client.Brokers()
	heard := make(chan *sarama.MetadataResponse, len(brokers))
	for _, broker := range brokers {
		go func() {
			_ = broker.Open(c.client.Config()) // it may be open already
			response, err := broker.GetMetadata(sarama.NewMetadataRequest(c.client.Config().Version, topics))
			if err != nil {
				_ = broker.Close() // so that it is connected to anew
				response = nil
			}
			heard <- response
		}()
	}
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	for range brokers {
		select {
		case response := <-heard:
			if response != nil {
				answers = append(answers, response)
			}
		case <-timer.C:
			return answers, len(brokers)
		}
	}
	return answers, len(brokers)
}
