package kafka

import (
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
)

// neededRequests are the newest versions that brokers must know at least, by
// the protocol's numbers. The streamer needs record batches, idempotence, and
// the transactions that fence other producers. Older versions of the rest will
// do.
var neededRequests = []struct {
	key     int16
	name    string
	version int16
}{
	{0, "Produce", 3},
	{1, "Fetch", 4},
	{2, "ListOffsets", 1},
	{3, "Metadata", 4},
	{22, "InitProducerId", 0},
	{24, "AddPartitionsToTxn", 0},
	{26, "EndTxn", 0},
}

// Lacks names the requests that some broker of the cluster does not know, each
// with the version needed.
func (c *Client) Lacks() (lacking []string, err error) {
	brokers := c.client.Brokers()
	if len(brokers) == 0 {
		return nil, sarama.ErrOutOfBrokers
	}
	for _, broker := range brokers {
		if err := broker.Open(c.client.Config()); err != nil && !errors.Is(err, sarama.ErrAlreadyConnected) {
			return nil, fmt.Errorf("requests that broker %d knows: %w", broker.ID(), err)
		}
		response, err := broker.ApiVersions(&sarama.ApiVersionsRequest{})
		if err != nil {
			return nil, fmt.Errorf("requests that broker %d knows: %w", broker.ID(), err)
		}
		for _, needed := range neededRequests {
			if !slices.ContainsFunc(response.ApiKeys, func(k sarama.ApiVersionsResponseKey) bool {
				return k.ApiKey == needed.key && k.MaxVersion >= needed.version
			}) {
				lacking = append(lacking, fmt.Sprintf("%s %d", needed.name, needed.version))
			}
		}
	}
	slices.Sort(lacking)
	return slices.Compact(lacking), nil
}
