package kafka

import (
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// coordinator returns the connection to the coordinator of a transactional id.
// sarama's own search sleeps for seconds on a new cluster.
func (c *Client) coordinator(transactionalID string) (*sarama.Broker, error) {
	response, err := askAny(c, func(broker *sarama.Broker) (*sarama.FindCoordinatorResponse, error) {
		return broker.FindCoordinator(&sarama.FindCoordinatorRequest{
			Version: 3, CoordinatorKey: transactionalID, CoordinatorType: sarama.CoordinatorTransaction,
		})
	})
	if err != nil {
		return nil, err
	}
	if response.Err != sarama.ErrNoError {
		return nil, response.Err
	}
	broker, err := c.client.Broker(response.Coordinator.ID())
	if err != nil {
		_ = c.client.RefreshMetadata() // the broker may be new
		return c.client.Broker(response.Coordinator.ID())
	}
	return broker, nil
}

const (
	producerExpiry      = "producer.id.expiration.ms"
	transactionalExpiry = "transactional.id.expiration.ms"
)

// Remembers returns how long brokers remember a producer in a partition after
// the time of its newest record.
func (c *Client) Remembers() time.Duration {
	producer, _ := c.memory()
	return producer
}

// memory returns how long brokers remember an idle producer in a partition, and
// an idle transactional id. It asks one broker, and falls back to Kafka's
// defaults where the settings are not visible.
func (c *Client) memory() (producer, transactional time.Duration) {
	return memoryOf(c.brokerSettings(producerExpiry, transactionalExpiry))
}

// memoryOf is what the settings mean. Before Kafka 3.4 there is one for both:
// brokers forget producers after the time of transactional ids (KIP-854). A day is
// enough to reckon with.
func memoryOf(seen map[string]int64) (producer, transactional time.Duration) {
	duration := func(name string, standard time.Duration) time.Duration {
		if ms, known := seen[name]; known {
			return time.Duration(ms) * time.Millisecond
		}
		return standard
	}
	transactional = duration(transactionalExpiry, defaultTransactionalExpiry)
	return duration(producerExpiry, min(defaultExpiry, transactional)), transactional
}

// brokerSettings returns positive numbers from a broker's configuration, as far
// as they are visible. Reading them requires permission to describe that
// configuration.
func (c *Client) brokerSettings(names ...string) map[string]int64 {
	itself := func(broker *sarama.Broker) string { return strconv.Itoa(int(broker.ID())) }
	response, err := c.describeConfigs(sarama.BrokerResource, itself, names...)
	if err != nil {
		return nil
	}
	values := map[string]int64{}
	for _, resource := range response.Resources {
		for _, entry := range resource.Configs {
			value, err := strconv.ParseInt(entry.Value, 10, 64)
			if err == nil && value > 0 && slices.Contains(names, entry.Name) {
				values[entry.Name] = value
			}
		}
	}
	return values
}
