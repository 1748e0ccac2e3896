package kafkatest

import (
	"fmt"

	"github.com/IBM/sarama"
)

// ThrottleProducers sets how many bytes per second each broker accepts from a
// client before it makes the client wait; 0 removes the limit. Brokers learn of
// it within a moment.
func (c *Cluster) ThrottleProducers(bytesPerSecond int) error {
	anyClient := []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchDefault}}
	quota := sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: float64(bytesPerSecond), Remove: bytesPerSecond == 0}
	err := c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.AlterClientQuotas(anyClient, quota, false) })
	if err != nil {
		return fmt.Errorf("throttle producers: %w", err)
	}
	return nil
}
