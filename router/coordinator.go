package router

import (
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
	for _, name := range []string{"producer.id.expiration.ms", "transactional.id.expiration.ms"} {
		if ms := c.brokerSetting(name); ms > 0 {
			expiry = min(expiry, time.Duration(ms)*time.Millisecond)
		}
	}
	return min(expiry/3, longestFence), expiry / 2
}

// brokerSetting is a number from a broker's configuration, or 0 where it cannot
// be seen: that takes the permission to describe the cluster's configuration.
func (c *Client) brokerSetting(name string) int64 {
	broker := c.client.LeastLoadedBroker()
	if broker == nil {
		return 0
	}
	response, err := broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, Resources: []*sarama.ConfigResource{
		{Type: sarama.BrokerResource, Name: strconv.Itoa(int(broker.ID())), ConfigNames: []string{name}},
	}})
	if err != nil {
		return 0
	}
	for _, resource := range response.Resources {
		for _, entry := range resource.Configs {
			if entry.Name == name {
				value, _ := strconv.ParseInt(entry.Value, 10, 64)
				return value
			}
		}
	}
	return 0
}
