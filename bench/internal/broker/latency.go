package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/bench/internal/workload"
)

// Listener consumes topics while events are created and measures the latency of
// each. Its methods may be called from any goroutine.
type Listener struct {
	client    sarama.Client
	consumer  sarama.Consumer
	consumers []sarama.PartitionConsumer
	running   sync.WaitGroup

	clock atomic.Pointer[workload.Clock] // of the events that are being counted
	mu    sync.Mutex
	took  []time.Duration
	all   chan struct{} // closed when all events of the clock have arrived
	err   error
}

// Listen begins to consume partitions from their current ends. The caller must
// close the listener.
func Listen(brokers []string, partitions []Partition, isolation sarama.IsolationLevel) (*Listener, error) {
	config := Config()
	config.Consumer.IsolationLevel = isolation
	config.Consumer.Return.Errors = false
	client, err := sarama.NewClient(brokers, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	l := &Listener{client: client, all: make(chan struct{})}
	if l.consumer, err = sarama.NewConsumerFromClient(client); err != nil {
		return nil, errors.Join(fmt.Errorf("consume: %w", err), client.Close())
	}
	for _, p := range partitions {
		of, err := l.consumer.ConsumePartition(p.Topic, p.ID, sarama.OffsetNewest)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("consume partition %d of topic %q: %w", p.ID, p.Topic, err), l.Close())
		}
		l.consumers = append(l.consumers, of)
		l.running.Go(func() {
			for message := range of.Messages() {
				l.arrived(message.Value, time.Now())
			}
		})
	}
	return l, nil
}

// Close ends the consuming.
func (l *Listener) Close() error {
	var problems []error
	for _, c := range l.consumers {
		problems = append(problems, c.Close())
	}
	l.running.Wait()
	return errors.Join(append(problems, l.consumer.Close(), l.client.Close())...)
}

// Expect begins to count the events of a clock.
func (l *Listener) Expect(clock *workload.Clock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took, l.err = make([]time.Duration, 0, clock.Events()), nil
	l.all = make(chan struct{})
	l.clock.Store(clock)
}

func (l *Listener) arrived(payload []byte, now time.Time) {
	n, err := number(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = err
		return
	}
	clock := l.clock.Load()
	if clock == nil {
		return
	}
	took, expected := clock.Since(n, now)
	if !expected {
		return
	}
	if l.took = append(l.took, took); len(l.took) == int(clock.Events()) {
		close(l.all)
	}
}

// Await returns the latencies of all events, shortest first, once all have
// arrived.
func (l *Listener) Await(ctx context.Context, ended <-chan struct{}) ([]time.Duration, error) {
	l.mu.Lock()
	all := l.all
	l.mu.Unlock()
	var problem error
	select {
	case <-all:
	case <-ended:
		problem = errors.New("the contender has ended")
	case <-ctx.Done():
		problem = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(problem, l.err); err != nil {
		return nil, fmt.Errorf("%d of %d events consumed: %w", len(l.took), l.clock.Load().Events(), err)
	}
	took := slices.Clone(l.took)
	slices.Sort(took)
	return took, nil
}

// number reads n from {"n": 123, …, which is the beginning of every payload as
// jsonb.
func number(payload []byte) (int64, error) {
	rest, ok := bytes.CutPrefix(payload, []byte(`{"n": `))
	digits, _, found := bytes.Cut(rest, []byte(","))
	if !ok || !found {
		return 0, errors.New("a record without number")
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("number of a record: %w", err)
	}
	return n, nil
}
