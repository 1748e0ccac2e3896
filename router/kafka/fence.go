package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
)

// Owner is the producer that writes to Kafka. Its transactional id ensures that
// there is only one at a time. Data is not sent in transactions: the
// transactional id only serves to take over. The new owner gets the next epoch.
// One empty aborted transaction carries that epoch, in its markers, into every
// partition. From then on the partitions refuse everything that a predecessor
// still has on its way.
//
// Kafka forgets an idle transactional id after transactional.id.expiration.ms
// (7 days), and an idle producer in a partition after producer.id.expiration.ms
// (24 h). So the empty transaction is repeated. An owner that could not repeat
// it for too long stops writing by itself.
//
// An Owner without a transactional id has an ordinary producer id and fences no
// other producer.
type Owner struct {
	*Client
	transactional string // id, or empty
	id            int64
	epoch         int16

	mu         sync.Mutex
	partitions map[string][]int32
	fenced     elapsed // since when all predecessors are certainly fenced
	attempted  elapsed
	interval   time.Duration // how often the fence is renewed
	lapse      time.Duration // how old it may get before writing must stop
	remembers  time.Duration // how long brokers remember an idle producer in a partition
}

const (
	// transactionTimeout bounds an empty transaction whose owner dies between
	// its two requests.
	transactionTimeout = time.Minute
	// takeOverPatience is how long coordinators may take to load, and to abort
	// a transaction that was left open.
	takeOverPatience = 30 * time.Second
	coordinatorPause = 5 * time.Millisecond
	// renewPatience is short, because no leader is looked up meanwhile.
	renewPatience = 3 * time.Second
	admitPatience = 15 * time.Second
	// fenceChunk is how many partitions are added to a transaction at once.
	fenceChunk = 1000
	// exhausting is the epoch from which a transactional id is abandoned for
	// the next one. Epochs have 16 bits. Afterwards Kafka would issue another
	// producer id, for which the markers of this one mean nothing.
	exhausting = 30_000
	// Kafka's defaults of producer.id.expiration.ms and
	// transactional.id.expiration.ms.
	defaultExpiry              = 24 * time.Hour
	defaultTransactionalExpiry = 7 * 24 * time.Hour
	longestFence               = 6 * time.Hour
)

// ErrNoTransactions means that Kafka does not let the streamer use a
// transactional id.
var ErrNoTransactions = errors.New("transactional id cannot be used")

// ErrUnsupported is the ErrNoTransactions of brokers that lack requests, which
// may turn out only after TakeOver.
var ErrUnsupported = fmt.Errorf("%w: brokers do not support transactions", ErrNoTransactions)

// ErrLapsed means that the fence could not be renewed for so long that Kafka
// may have forgotten it. A successor might then be unable to fence this
// producer.
var ErrLapsed = errors.New("producer's fence could not be renewed in time")

// TakeOver makes this process the owner of a transactional id. The previous
// owner can no longer start a transaction; Fence keeps it out of the
// partitions. The caller must hold the lock of the slot, because this ends a
// healthy owner. ErrNoTransactions means that only an Owner without a
// transactional id is possible.
func (c *Client) TakeOver(ctx context.Context, transactionalID string) (*Owner, error) {
	if err := c.CanFence(); err != nil {
		return nil, err
	}
	producer, transactional := c.memory()
	o := &Owner{Client: c, transactional: transactionalID, partitions: map[string][]int32{}, remembers: producer}
	expiry := min(producer, transactional, defaultExpiry)
	o.interval, o.lapse = min(expiry/3, longestFence), expiry/2
	err := o.coordinate(ctx, "take over", func(coordinator *sarama.Broker) (sarama.KError, error) {
		request := &sarama.InitProducerIDRequest{
			Version: c.newest(2, sarama.V2_7_0_0, 4), TransactionalID: &transactionalID, TransactionTimeout: transactionTimeout,
			ProducerID: -1, ProducerEpoch: -1,
		}
		response, err := coordinator.InitProducerID(request)
		if err != nil {
			return 0, err
		}
		o.id, o.epoch = response.ProducerID, response.ProducerEpoch
		return response.Err, nil
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// newest returns the version of a request: the newer one from a version of
// kafka.version on.
func (c *Client) newest(older int16, from sarama.KafkaVersion, newer int16) int16 {
	if c.client.Config().Version.IsAtLeast(from) {
		return newer
	}
	return older
}

// Anonymous returns an owner that fences no other producer.
func (c *Client) Anonymous(ctx context.Context) (*Owner, error) {
	id, epoch, err := c.InitProducerID(ctx)
	if err != nil {
		return nil, fmt.Errorf("producer id: %w", err)
	}
	remembers, _ := c.memory()
	return &Owner{Client: c, id: id, epoch: epoch, partitions: map[string][]int32{}, remembers: remembers}, nil
}

// ID returns the producer id and its epoch.
func (o *Owner) ID() (id int64, epoch int16) { return o.id, o.epoch }

// Remembers returns how long brokers remember a producer in a partition after
// the time of its newest record.
func (o *Owner) Remembers() time.Duration { return o.remembers }

// Fences reports whether this owner fences its predecessors.
func (o *Owner) Fences() bool { return o.transactional != "" }

// Exhausted reports whether the transactional id should be abandoned for the
// next one. The caller must fence with this owner before it takes over the next
// id.
func (o *Owner) Exhausted() bool { return o.epoch >= exhausting }

// Fence keeps every predecessor out of these partitions from the moment it
// returns. Renew then includes them as well.
func (o *Owner) Fence(ctx context.Context, partitions map[string][]int32) error {
	if !o.Fences() || len(partitions) == 0 || mutation.Active(mutation.NoFence) {
		return nil
	}
	began := now()
	if err := o.created(ctx, partitions); err != nil {
		return err
	}
	if err := o.emptyTransaction(ctx, partitions); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partitions) == 0 {
		o.fenced, o.attempted = began, began
	}
	maps.Copy(o.partitions, partitions)
	return nil
}

// created waits until the leader of each partition answers for it. Why: metadata
// names a new partition before its leader has it. A marker that comes too early
// is refused, and Kafka 3 may then take half a minute to end the transaction.
func (o *Owner) created(ctx context.Context, partitions map[string][]int32) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverPatience)
	defer cancel()
	_, err := o.Offsets(ctx, each(partitions), sarama.OffsetNewest)
	if err != nil && !errors.Is(err, sarama.ErrTopicAuthorizationFailed) { // the transaction says what to grant
		return fmt.Errorf("fence transactional id %q: %w", o.transactional, err)
	}
	return nil
}

// Renew repeats the fence when that is due, and returns the time until it is
// due again.
func (o *Owner) Renew() (time.Duration, error) {
	o.mu.Lock()
	partitions := maps.Clone(o.partitions)
	due := o.interval - since(o.attempted)
	o.mu.Unlock()
	if !o.Fences() || len(partitions) == 0 {
		return longestFence, nil
	}
	if due > 0 {
		return due, nil
	}
	began := now()
	partitions, err := o.existing(context.Background(), partitions) // a missing topic is confirmed in full
	ctx, cancel := context.WithTimeout(context.Background(), renewPatience)
	defer cancel()
	if err == nil {
		err = o.emptyTransaction(ctx, partitions)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		again := min(o.interval/4, time.Minute)
		o.attempted = now().minus(o.interval - again)
		return again, fmt.Errorf("renew fence: %w", err)
	}
	o.fenced, o.attempted = began, began
	return o.interval, nil
}

// existing leaves out partitions that have been deleted meanwhile, because a
// transaction accepts all its partitions or none.
func (o *Owner) existing(ctx context.Context, partitions map[string][]int32) (map[string][]int32, error) {
	described, err := o.LookUp(ctx, slices.Sorted(maps.Keys(partitions)))
	left := map[string][]int32{}
	for topic, ids := range partitions {
		ids = slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return int(id) >= described[topic].Partitions })
		if len(ids) > 0 {
			left[topic] = ids
		}
	}
	return left, err
}

// Lapsed returns why nothing may be written any more, or nil. It is called
// before each request, because a process does not know that it was frozen.
func (o *Owner) Lapsed() error {
	if !o.Fences() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if age := since(o.fenced); len(o.partitions) > 0 && age > o.lapse {
		return fmt.Errorf("%w: last renewed %s ago, Kafka may forget it after %s", ErrLapsed, age.Round(time.Second), 2*o.lapse)
	}
	return nil
}

// Admission describes a topic whose partitions are ready for their first event.
type Admission struct {
	TopicID string  // Kafka's; empty where there is none
	Ends    []int64 // of its partitions
}

// Admit prepares a topic's partitions: it fences predecessors and finds the end
// offsets.
func (o *Owner) Admit(topic string, partitions int) (Admission, error) {
	ctx, cancel := context.WithTimeout(context.Background(), admitPatience)
	defer cancel()
	ids := make([]int32, partitions)
	for i := range ids {
		ids[i] = int32(i)
	}
	admitted := map[string][]int32{topic: ids}
	described, err := o.LookUp(ctx, []string{topic})
	if err != nil {
		return Admission{}, err
	}
	if _, exists := described[topic]; !exists {
		return Admission{}, sarama.ErrUnknownTopicOrPartition
	}
	if err := o.Fence(ctx, admitted); err != nil {
		return Admission{}, err
	}
	found, err := o.Offsets(ctx, each(admitted), sarama.OffsetNewest)
	if err != nil {
		return Admission{}, err
	}
	ends := make([]int64, partitions)
	for part, end := range found {
		ends[part.Partition] = end
	}
	return Admission{TopicID: described[topic].ID, Ends: ends}, nil
}

// emptyTransaction writes an abort marker with the owner's epoch into each
// partition.
func (o *Owner) emptyTransaction(ctx context.Context, partitions map[string][]int32) error {
	all := chunks(partitions, fenceChunk)
	if len(all) == 0 {
		return nil
	}
	if err := o.led(ctx, partitions); err != nil {
		return err
	}
	for _, chunk := range all {
		if err := o.add(ctx, chunk); err != nil {
			return err
		}
	}
	// The first response says that the abort is decided. Only the second says
	// that its markers are written. Until then predecessors still get through.
	for range 2 {
		err := o.coordinate(ctx, "fence", func(coordinator *sarama.Broker) (sarama.KError, error) {
			response, err := coordinator.EndTxn(&sarama.EndTxnRequest{
				Version: o.newest(1, sarama.V2_8_0_0, 3), TransactionalID: o.transactional, ProducerID: o.id, ProducerEpoch: o.epoch,
			})
			if err != nil {
				return 0, err
			}
			return response.Err, nil
		})
		if err != nil {
			return errors.Join(err, o.leaderless(partitions))
		}
	}
	return nil
}

// led waits until each partition has a leader. Without a leader a marker cannot
// be written, and until it is, the coordinator does nothing else for this
// transactional id.
func (o *Owner) led(ctx context.Context, partitions map[string][]int32) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverPatience)
	defer cancel()
	for wait := pausesFrom(spanPause); ; {
		err := o.leaderless(partitions)
		if err == nil {
			return nil
		}
		if !wait.wait(ctx) {
			return fmt.Errorf("fence transactional id %q: %w", o.transactional, err)
		}
		_ = o.client.RefreshMetadata(slices.Sorted(maps.Keys(partitions))...) // there may be one now
	}
}

// leaderless returns an error that names a partition without a known leader, or
// nil.
func (o *Owner) leaderless(partitions map[string][]int32) error {
	for _, topic := range slices.Sorted(maps.Keys(partitions)) {
		for _, id := range partitions[topic] {
			if _, err := o.client.Leader(topic, id); errors.Is(err, sarama.ErrLeaderNotAvailable) {
				return fmt.Errorf("topic %q partition %d: %w", topic, id, err)
			}
		}
	}
	return nil
}

// add adds partitions to the transaction, all or none.
func (o *Owner) add(ctx context.Context, partitions map[string][]int32) error {
	var at string
	err := o.coordinate(ctx, "fence", func(coordinator *sarama.Broker) (sarama.KError, error) {
		response, err := coordinator.AddPartitionsToTxn(&sarama.AddPartitionsToTxnRequest{
			Version: o.newest(1, sarama.V2_8_0_0, 3), TransactionalID: o.transactional, ProducerID: o.id, ProducerEpoch: o.epoch,
			TopicPartitions: partitions,
		})
		if err != nil {
			return 0, err
		}
		code := sarama.ErrNoError
		at = ""
		for topic, errs := range response.Errors {
			for _, e := range errs {
				// A partition that was not attempted says nothing about itself.
				if e.Err != sarama.ErrNoError && e.Err != sarama.ErrOperationNotAttempted {
					code, at = e.Err, fmt.Sprintf("topic %q partition %d: ", topic, e.Partition)
				}
			}
		}
		return code, nil
	})
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return failure.Refuse(failure.Advise(fmt.Errorf("%s%w", at, err), "grant the streamer's principal Describe, Read and Write on the topic"))
	}
	if err != nil {
		return fmt.Errorf("%s%w", at, err)
	}
	return nil
}

// coordinate calls ask with the transaction coordinator, and again while the
// coordinator is not ready.
func (o *Owner) coordinate(ctx context.Context, what string, ask func(*sarama.Broker) (sarama.KError, error)) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverPatience)
	defer cancel()
	err := o.persist(ctx, func() (*sarama.Broker, error) { return o.coordinator(o.transactional) }, ask)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sarama.ErrInvalidProducerEpoch), errors.Is(err, sarama.ErrProducerFenced),
		errors.Is(err, sarama.ErrInvalidProducerIDMapping):
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	case errors.Is(err, sarama.ErrConcurrentTransactions):
		err = fmt.Errorf("%w: the previous transaction does not end while one of its partitions has no leader or too few replicas in sync", err)
	default:
		err = unusable(o.transactional, err)
	}
	return fmt.Errorf("%s transactional id %q: %w", what, o.transactional, err)
}

// unusable recognises the answers that mean that transactional ids cannot be
// used.
func unusable(transactionalID string, err error) error {
	switch {
	case errors.Is(err, sarama.ErrTransactionalIDAuthorizationFailed):
		return failure.Advise(
			fmt.Errorf("%w: %w", ErrNoTransactions, err),
			"grant the streamer's principal Describe and Write on transactional id %q", transactionalID,
		)
	case errors.Is(err, sarama.ErrInvalidTransactionTimeout):
		return failure.Advise(
			fmt.Errorf("%w: %w", ErrNoTransactions, err), "raise transaction.max.timeout.ms of the brokers to %d", transactionTimeout.Milliseconds(),
		)
	case unknownRequest(err):
		return unsupported(err)
	}
	return err
}

// chunks splits a set of partitions into sets of at most n.
func chunks(partitions map[string][]int32, n int) []map[string][]int32 {
	var all []map[string][]int32
	room := 0
	for _, topic := range slices.Sorted(maps.Keys(partitions)) {
		for ids := partitions[topic]; len(ids) > 0; {
			if room == 0 {
				all, room = append(all, map[string][]int32{}), n
			}
			m := min(room, len(ids))
			all[len(all)-1][topic] = ids[:m:m]
			ids, room = ids[m:], room-m
		}
	}
	return all
}
