package kafka

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
)

// Coordinated checks that Kafka has a coordinator for a transactional id and
// that the streamer may see it, which requires Describe. It changes nothing:
// the owner of the id stays its owner. ErrNoTransactions means that permission
// is missing or that Kafka does not support it. Only TakeOver shows whether the
// streamer may write with the id.
func (c *Client) Coordinated(ctx context.Context, transactionalID string) error {
	err := c.CanFence()
	if err == nil {
		err = c.persist(
			ctx, func() (*sarama.Broker, error) { return c.coordinator(transactionalID) },
			func(*sarama.Broker) (sarama.KError, error) { return sarama.ErrNoError, nil },
		)
	}
	if err != nil {
		return fmt.Errorf("transactional id %q: %w", transactionalID, unusable(transactionalID, err))
	}
	return nil
}
