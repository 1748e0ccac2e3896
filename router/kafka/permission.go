package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// Coordinated checks that Kafka has a coordinator for a transactional id and
// that the streamer may see it, which requires Describe. It changes nothing:
// the owner of the id stays its owner. ErrNoTransactions means that permission
// is missing or that Kafka does not support it. Only TakeOver shows whether the
// streamer may write with the id.
func (c *Client) Coordinated(ctx context.Context, transactionalID string) error {
	for wait := pausesFrom(spanPause); ; {
		_, err := c.coordinator(transactionalID)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, sarama.ErrTransactionalIDAuthorizationFailed):
			return failure.Advise(
				fmt.Errorf("%w: %w", ErrNoTransactions, err),
				"grant the streamer's principal Describe and Write on transactional id %q", transactionalID,
			)
		case errors.Is(err, sarama.ErrUnsupportedVersion):
			return fmt.Errorf("%w: %w", ErrNoTransactions, err)
		}
		if code, known := errors.AsType[sarama.KError](err); known && !slices.Contains(passing, code) {
			return fmt.Errorf("transactional id %q: %w", transactionalID, err)
		}
		if !wait.wait(ctx) {
			return fmt.Errorf("transactional id %q: %w", transactionalID, err)
		}
	}
}
