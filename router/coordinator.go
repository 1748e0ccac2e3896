package router

import (
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// coordinator is the connection to the broker that looks after a transactional
// id. sarama's own search sleeps for seconds on a new cluster.
func (c *Client) coordinator(transactionalID string) (*sarama.Broker, error) {
	asked := c.client.LeastLoadedBroker()
	if asked == nil {
		return nil, sarama.ErrOutOfBrokers
	}
	response, err := asked.FindCoordinator(&sarama.FindCoordinatorRequest{
		Version: 3, CoordinatorKey: transactionalID, CoordinatorType: sarama.CoordinatorTransaction,
	})
	if err != nil {
		_ = asked.Close() // opened again when it is asked again
		return nil, err
	}
	if response.Err != sarama.ErrNoError {
		return nil, response.Err
	}
	broker, err := c.client.Broker(response.Coordinator.ID())
	if err != nil {
		_ = c.client.RefreshMetadata() // a broker that is new to us
		return c.client.Broker(response.Coordinator.ID())
	}
	return broker, nil
}

// fenceTimes is how often a fence is renewed, and how old it may get before
// writing has to stop, by what the brokers say about how long they remember.
func (c *Client) fenceTimes() (interval, lapse time.Duration) {
	expiry := defaultExpiry
	for _, ms := range c.brokerSettings("producer.id.expiration.ms", "transactional.id.expiration.ms") {
		expiry = min(expiry, time.Duration(ms)*time.Millisecond)
	}
	return min(expiry/3, longestFence), expiry / 2
}

// brokerSettings are positive numbers from a broker's configuration, as far as
// they can be seen: that takes the permission to describe it.
func (c *Client) brokerSettings(names ...string) []int64 {
	broker := c.client.LeastLoadedBroker()
	if broker == nil {
		return nil
	}
	response, err := broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, Resources: []*sarama.ConfigResource{
		{Type: sarama.BrokerResource, Name: strconv.Itoa(int(broker.ID())), ConfigNames: names},
	}})
	if err != nil {
		return nil
	}
	var values []int64
	for _, resource := range response.Resources {
		for _, entry := range resource.Configs {
			value, err := strconv.ParseInt(entry.Value, 10, 64)
			if err == nil && value > 0 && slices.Contains(names, entry.Name) {
				values = append(values, value)
			}
		}
	}
	return values
}
