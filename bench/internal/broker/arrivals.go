// Package broker is the Kafka side of the benchmarks:
//   - topics
//   - the number and arrival times of the events in them
//   - the bytes that they take
//   - a consumer that measures latency
package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Partition is one of the partitions to which a contender writes.
type Partition struct {
	Topic string
	ID    int32
}

// Arrivals counts the events in topics of a cluster with one broker. It is not
// for concurrent use.
type Arrivals struct {
	client     sarama.Client
	leader     *sarama.Broker
	partitions []Partition
	isolation  sarama.IsolationLevel
	ends       map[Partition]int64
	// markers are the control records at the beginning of each partition: a
	// contender that fences its predecessor writes them before its first event.
	// Those of partitions that are still empty are not known yet. Events that are
	// written in transactions have more markers among them: those below scanned
	// are known.
	markers, scanned map[Partition]int64
}

// Config is the sarama configuration of all clients of the harness.
func Config() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "bench"
	config.Version = sarama.V3_6_0_0
	return config
}

// OpenArrivals connects to the broker and waits until it leads all partitions.
// The broker may know of new partitions before it is ready to lead them. With
// [sarama.ReadCommitted], events count once their transaction is committed. The
// caller must close the Arrivals.
func OpenArrivals(ctx context.Context, brokers, topics []string, isolation sarama.IsolationLevel) (*Arrivals, error) {
	client, err := sarama.NewClient(brokers, Config())
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	a := &Arrivals{
		client: client, isolation: isolation,
		ends: map[Partition]int64{}, markers: map[Partition]int64{}, scanned: map[Partition]int64{},
	}
	err = a.find(topics)
	if err == nil {
		err = a.awaitLeader(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return a, nil
}

func (a *Arrivals) find(topics []string) error {
	for _, topic := range topics {
		ids, err := a.client.Partitions(topic)
		if err != nil {
			return fmt.Errorf("partitions of topic %q: %w", topic, err)
		}
		for _, id := range ids {
			a.partitions = append(a.partitions, Partition{topic, id})
		}
	}
	if len(a.partitions) == 0 {
		return errors.New("no topics to count in")
	}
	var err error
	if a.leader, err = a.client.Leader(a.partitions[0].Topic, a.partitions[0].ID); err != nil {
		return fmt.Errorf("leader of topic %q: %w", a.partitions[0].Topic, err)
	}
	return nil
}

func (a *Arrivals) awaitLeader(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _, err := a.Count()
		if !errors.Is(err, sarama.ErrNotLeaderForPartition) && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// Close disconnects.
func (a *Arrivals) Close() error { return a.client.Close() }

// Partitions returns the partitions that are counted.
func (a *Arrivals) Partitions() []Partition { return a.partitions }

// Count returns the number of events in all partitions, and the time of the
// count. The markers of transactions that [Arrivals.scan] has not seen yet are
// counted as events.
func (a *Arrivals) Count() (events int64, at time.Time, err error) {
	request := &sarama.OffsetRequest{Version: 2, IsolationLevel: a.isolation}
	for _, p := range a.partitions {
		request.AddBlock(p.Topic, p.ID, sarama.OffsetNewest, 1)
	}
	response, err := a.leader.GetAvailableOffsets(request)
	if err != nil {
		return 0, at, fmt.Errorf("end offsets: %w", err)
	}
	at = time.Now()
	var unknown []Partition
	for _, p := range a.partitions {
		block := response.GetBlock(p.Topic, p.ID)
		if block == nil {
			return 0, at, fmt.Errorf("end offset of partition %d of topic %q: no answer", p.ID, p.Topic)
		}
		if block.Err != sarama.ErrNoError {
			return 0, at, fmt.Errorf("end offset of partition %d of topic %q: %w", p.ID, p.Topic, block.Err)
		}
		// More markers may follow until an event has been seen after them.
		if block.Offset != a.ends[p] && a.ends[p] <= a.markers[p] && !a.transactional() {
			unknown = append(unknown, p)
		}
		a.ends[p] = block.Offset
	}
	if err := a.findMarkers(unknown); err != nil {
		return 0, at, err
	}
	for _, p := range a.partitions {
		events += a.ends[p] - a.markers[p]
	}
	return events, at, nil
}

// findMarkers counts the control records before the first event of many
// partitions at once: a contender fences a thousand of them in a moment.
func (a *Arrivals) findMarkers(partitions []Partition) error {
	const (
		enough = 512 // bytes of each partition; a batch with one marker takes 78
		atOnce = 500
	)
	for some := range slices.Chunk(partitions, atOnce) {
		request := &sarama.FetchRequest{Version: 11, MaxBytes: 2 * atOnce * enough, SessionEpoch: -1}
		for _, p := range some {
			request.AddBlock(p.Topic, p.ID, 0, enough, -1)
		}
		response, err := a.leader.Fetch(request)
		if err != nil {
			return fmt.Errorf("beginnings of partitions: %w", err)
		}
		for _, p := range some {
			block := response.GetBlock(p.Topic, p.ID)
			if block == nil || block.Err != sarama.ErrNoError {
				return fmt.Errorf("beginning of partition %d of topic %q: no answer", p.ID, p.Topic)
			}
			a.markers[p] = min(a.ends[p], countMarkers(block.RecordsSet))
		}
	}
	return nil
}

// countMarkers counts the control records at the beginning. The last batch may
// be truncated.
func countMarkers(sets []*sarama.Records) (markers int64) {
	for _, records := range sets {
		batch := records.RecordBatch
		if batch == nil || !batch.Control || batch.PartialTrailingRecord {
			break
		}
		markers = batch.FirstOffset + int64(batch.LastOffsetDelta) + 1
	}
	return markers
}
