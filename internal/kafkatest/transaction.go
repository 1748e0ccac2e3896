package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactionTopic is where coordinators keep what they know about producers.
const transactionTopic = "__transaction_state"

// ForgetfulSettings make brokers forget an idle transactional ID and an idle
// producer of a partition after the given time, instead of 7 days and 24 hours.
// The brokers check often enough to do so within one more second.
func ForgetfulSettings(after time.Duration) map[string]string {
	milliseconds := strconv.FormatInt(after.Milliseconds(), 10)
	return map[string]string{
		"transactional.id.expiration.ms":                             milliseconds,
		"transaction.remove.expired.transaction.cleanup.interval.ms": "500",
		"producer.id.expiration.ms":                                  milliseconds,
		"producer.id.expiration.check.interval.ms":                   "500",
	}
}

// Coordinator returns the broker, from 0, that coordinates a transactional ID:
// the leader of its partition of an internal topic.
func (c *Cluster) Coordinator(transactionalID string) (int, error) {
	partitions, err := c.Partitions(transactionTopic)
	if err != nil {
		return 0, fmt.Errorf("coordinator of %q: %w", transactionalID, err)
	}
	return partitions[coordinatedBy(transactionalID, len(partitions))].Leader, nil
}

// MoveCoordinator makes broker i the coordinator of a transactional ID.
func (c *Cluster) MoveCoordinator(ctx context.Context, transactionalID string, i int) error {
	partitions, err := c.Partitions(transactionTopic)
	if err != nil {
		return fmt.Errorf("coordinator of %q: %w", transactionalID, err)
	}
	return c.MoveLeader(ctx, transactionTopic, coordinatedBy(transactionalID, len(partitions)), i)
}

// coordinatedBy is Java's String.hashCode, without its sign, modulo partitions.
// Transactional IDs of tests are ASCII.
func coordinatedBy(transactionalID string, partitions int) int {
	var hash int32
	for _, char := range []byte(transactionalID) {
		hash = 31*hash + int32(char)
	}
	return int(hash&math.MaxInt32) % partitions
}

// TakeOver is the first step of a new instance of a transactional producer: it
// gets the producer ID with the next epoch, and its predecessor is fenced.
// TakeOver does this n times in a row and returns the last answer.
func (c *Cluster) TakeOver(ctx context.Context, transactionalID string, n int) (producerID int64, epoch int16, err error) {
	client, err := sarama.NewClient(c.Brokers(), c.Config(Admin))
	if err != nil {
		return 0, 0, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	for range n {
		producerID, epoch, err = takeOver(ctx, client, transactionalID)
		if err != nil {
			return 0, 0, fmt.Errorf("take over transactional id %q: %w", transactionalID, err)
		}
	}
	return producerID, epoch, nil
}

func takeOver(ctx context.Context, client sarama.Client, transactionalID string) (producerID int64, epoch int16, err error) {
	request := &sarama.InitProducerIDRequest{
		Version: 4, TransactionalID: &transactionalID, TransactionTimeout: 5 * time.Second, ProducerID: -1, ProducerEpoch: -1,
	}
	if !AtLeast(2, 7) {
		request.Version = 2
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, nil, func() error {
		coordinator, err := client.TransactionCoordinator(transactionalID)
		if err != nil {
			return err
		}
		answer, err := coordinator.InitProducerID(request)
		if err == nil && answer.Err != sarama.ErrNoError {
			err = answer.Err
		}
		if err != nil {
			return errors.Join(err, client.RefreshTransactionCoordinator(transactionalID))
		}
		producerID, epoch = answer.ProducerID, answer.ProducerEpoch
		return nil
	})
	return producerID, epoch, err
}

// TransactionalIDs returns those that the brokers remember.
func (c *Cluster) TransactionalIDs(ctx context.Context) ([]string, error) {
	if !AtLeast(3, 0) {
		return c.storedTransactionalIDs(ctx)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...))
	if err != nil {
		return nil, fmt.Errorf("transactional ids: %w", err)
	}
	defer client.Close()
	request := kmsg.NewPtrListTransactionsRequest()
	var ids []string
	for _, shard := range client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			return nil, fmt.Errorf("transactional ids: %w", shard.Err)
		}
		for _, state := range shard.Resp.(*kmsg.ListTransactionsResponse).TransactionStates { //nolint:forcetypeassert // that of the request
			ids = append(ids, state.TransactionalID)
		}
	}
	return ids, nil
}

// storedTransactionalIDs returns what coordinators have stored and not deleted.
// Before 3.0 they cannot be asked.
func (c *Cluster) storedTransactionalIDs(ctx context.Context) ([]string, error) {
	stored, err := c.Consume(ctx, transactionTopic)
	if err != nil {
		return nil, fmt.Errorf("transactional ids: %w", err)
	}
	remembered := map[string]bool{}
	for _, m := range stored {
		const prefix = 4 // version of the key, and length of the ID
		if len(m.Key) < prefix {
			return nil, fmt.Errorf("transactional ids: key %q at offset %d is too short", m.Key, m.Offset)
		}
		if id := string(m.Key[prefix:]); m.Value == nil {
			delete(remembered, id)
		} else {
			remembered[id] = true
		}
	}
	return slices.Sorted(maps.Keys(remembered)), nil
}
