package router

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
)

var coreColumns = map[decoder.Attribute]string{
	decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid",
	decoder.Type: "type", decoder.Payload: "payload",
}

// someRules returns the rules of a plain outbox table.
func someRules() Rules {
	return Rules{
		Tables: []TableRules{{
			Schema: "public", Table: "outbox", Columns: coreColumns,
			Source: "/shop/outbox", Type: "{type}", Topic: "outbox.event.{aggregate_type}", Key: "{aggregate_id}",
			Mode: Binary, NullPayload: NullJSON,
		}},
		Database: "shop", StreamID: "4d2f6c1e00aa55ff",
		Reserved: []Reserved{{"streamer.checkpoints", "the streamer's checkpoints"}, {"outbox.dead-letters", "the dead letters"}},
	}
}

func someConfig() ProducerConfig {
	return ProducerConfig{
		Compression: "none", MaxBatchBytes: 2 << 10, MaxInFlightBytes: 64 << 10, RequestTimeout: 10 * time.Second,
		UnknownGrace: time.Minute, RetryInitial: 100 * time.Millisecond, RetryMax: 5 * time.Second, MetadataInterval: 15 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// numbered returns the n-th event of a stream with one event per transaction.
func numbered(n int, aggregateType, aggregateID string) *decoder.Event {
	at := int64(1_700_000_000_000_000) + int64(n)*1234
	e := &decoder.Event{
		Position: replication.Position{Commit: commitOf(n), Ordinal: 1}, CommitTime: at, Time: at,
		Data: fmt.Appendf(nil, `{"n": %d}`, n), HasData: true, DataKind: decoder.JSON,
	}
	e.SetAttribute(decoder.ID, fmt.Appendf(nil, "event-%d", n))
	e.SetAttribute(decoder.AggregateType, []byte(aggregateType))
	e.SetAttribute(decoder.AggregateID, []byte(aggregateID))
	e.SetAttribute(decoder.Type, []byte("order.placed"))
	return e
}

func commitOf(n int) replication.LSN { return replication.LSN(0x1000 + 16*n) }

// rig is a producer with a cluster, usually a model, and the goroutine that
// reads the stream.
type rig struct {
	*testing.T
	model    *modelled // or nil
	cluster  Cluster   // the model, or a real one
	close    func()    // closes the cluster
	producer *Producer
	tracker  *checkpoint.Tracker
	notified chan struct{}
	config   ProducerConfig
	rules    Rules
	found    Found                             // what was read back
	written  map[string][]replication.Position // what a predecessor left
	shift    time.Duration                     // added to the commit times
	next     int                               // number of the next event
	stream   []*decoder.Event                  // everything that was appended
	silent   bool                              // has been closed
}

func newRig(t *testing.T, m *modelled, config ProducerConfig) *rig {
	t.Helper()
	return newRigWith(t, m, config, someRules())
}

// newOrdersRig returns a rig with the topic of orders and the usual settings.
func newOrdersRig(t *testing.T, nodes, partitions int) *rig {
	t.Helper()
	return newRig(t, newOrders(nodes, partitions), someConfig())
}

func newRigWith(t *testing.T, m *modelled, config ProducerConfig, rules Rules) *rig {
	t.Helper()
	r := &rig{T: t, model: m, cluster: m, close: m.Close, config: config, rules: rules, found: config.Found, notified: make(chan struct{}, 1)}
	r.begin()
	return r
}

// begin starts a producer. It is the successor of the previous producer, if
// there was one.
func (r *rig) begin() {
	r.Helper()
	routes, err := NewRouter(r.rules)
	require.NoError(r, err)
	r.tracker = checkpoint.NewTracker(0)
	r.config.Found, r.config.Passage = r.found, NewPassage(Point{}, r.found, r.written)
	r.silent = false
	r.producer = NewProducer(r.config, r.cluster, routes, r.tracker, nil, func() {
		select {
		case r.notified <- struct{}{}:
		default:
		}
	})
	r.Cleanup(r.end)
}

func (r *rig) end() {
	if r.silent {
		return
	}
	r.silent = true
	r.producer.Close()
	r.close()
	r.producer.Wait()
	if r.model != nil {
		r.close() // closes connections that a running lookup has opened
	}
}

// patience is longer than anything may take. In a bubble that costs nothing.
const patience = 30 * time.Minute

// await waits for a notification of the producer and collects.
func (r *rig) await() error {
	select {
	case <-r.notified:
	case <-time.After(patience):
		require.Fail(r, "stuck", "waiting: %s; in flight %d bytes, %d events", r.producer.Waiting(), r.producer.InFlight(), r.producer.Events())
	}
	return r.collect()
}

func (r *rig) collect() error {
	err := r.producer.Collect()
	confirmed := r.tracker.Confirmed()
	marks := r.producer.Marks(confirmed)
	if r.model != nil {
		r.model.checkMarks(r, marks, confirmed, r.written)
	}
	if r.producer.Unstored() {
		r.producer.Stored(marks)
	}
	if err == nil {
		r.producer.Flush(false)
	}
	return err
}

// append passes one event to the producer as the session does.
func (r *rig) append(e *decoder.Event) (Result, error) {
	published, err := r.config.Passage.Pass(e.Position, e.Attribute(decoder.ID), e.CommitTime)
	if err != nil || published {
		return Skipped, err
	}
	for {
		result, err := r.producer.Append(e)
		if err != nil || result != Blocked {
			r.config.Passage.Dealt()
			r.tracker.Mark(e.Position.Commit)
			return result, err
		}
		if most := r.config.MaxInFlightBytes + 4<<10; r.producer.InFlight() > most {
			assert.Fail(r, "in flight above its bound", "%d", r.producer.InFlight())
		}
		r.producer.Flush(false)
		if err := r.await(); err != nil {
			return result, err
		}
	}
}

// feed appends n more events with alternating keys.
func (r *rig) feed(n, keys int) error {
	for range n {
		e := numbered(r.next, "order", fmt.Sprintf("key-%d", r.next%keys))
		e.CommitTime += r.shift.Microseconds()
		e.Time = e.CommitTime
		r.next++
		r.stream = append(r.stream, e)
		if _, err := r.append(e); err != nil {
			return err
		}
		if r.producer.Ready() {
			if err := r.collect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle waits until everything is acknowledged.
func (r *rig) settle() error {
	r.producer.Seal()
	for {
		if err := r.producer.Collect(); err != nil {
			return err
		}
		if r.tracker.Idle() {
			return nil
		}
		if err := r.await(); err != nil {
			return err
		}
	}
}

// partitionFor returns the partition that Java's partitioner chooses for a key.
func partitionFor(key string, partitions int) int {
	return int(javaMurmur2([]byte(key))&0x7fffffff) % partitions
}

// routed is a record as the model should have it.
type routed struct{ id, key, value string }

func routedAs(r model.Record) routed { return routed{r.EventID(), string(r.Key), string(r.Value)} }

// requirePrefixes checks that each partition is a prefix of the stream routed
// to it, byte for byte.
func (r *rig) requirePrefixes() {
	r.Helper()
	r.model.Lock()
	defer r.model.Unlock()
	partitions := r.model.Topics[orders].Partitions
	stream := make([][]routed, len(partitions))
	for _, e := range r.stream {
		key := string(e.Attribute(decoder.AggregateID))
		id := partitionFor(key, len(partitions))
		stream[id] = append(stream[id], routed{id: string(e.Attribute(decoder.ID)), key: key, value: string(e.Data)})
	}
	for id, p := range partitions {
		require.LessOrEqual(r, len(p.Log), len(stream[id]), "partition %d has more events than were routed to it: %v", id, p.Log)
		for i, record := range p.Log {
			require.Equal(r, stream[id][i], routedAs(record), "partition %d, record %d", id, i)
		}
	}
}

// requireOrder checks that each key's events arrived in stream order, at most
// once, even if the key has moved to another partition.
func (r *rig) requireOrder() {
	r.Helper()
	r.model.Lock()
	defer r.model.Unlock()
	stamps := map[string]int{}
	for _, p := range r.model.Topics[orders].Partitions {
		for _, record := range p.Log {
			_, repeated := stamps[record.EventID()]
			require.False(r, repeated, "%s is in Kafka twice", record.EventID())
			stamps[record.EventID()] = record.Stamp
		}
	}
	last := map[string]int{}
	for _, e := range r.stream {
		key, id := string(e.Attribute(decoder.AggregateID)), string(e.Attribute(decoder.ID))
		stamp, there := stamps[id]
		switch before := last[key]; {
		case !there:
			last[key] = int(^uint(0) >> 1) // no event of this key may follow
		default:
			require.Greater(r, stamp, before, "%s of key %s comes after a later event", id, key)
			last[key] = stamp
		}
	}
}

func (r *rig) inKafka() int {
	r.model.Lock()
	defer r.model.Unlock()
	n := 0
	for _, t := range r.model.Topics {
		for _, p := range t.Partitions {
			n += len(p.Log)
		}
	}
	return n
}

// requireComplete checks what must hold when nothing is in flight any more.
func (r *rig) requireComplete() {
	r.Helper()
	require.NoError(r, r.settle())
	r.requireOrder()
	require.Equal(r, len(r.stream), r.inKafka(), "events in Kafka")
	require.Zero(r, r.producer.InFlight())
	require.Zero(r, r.producer.Events())
	if n := len(r.stream); n > 0 {
		require.Equal(r, r.stream[n-1].Position.Commit, r.tracker.Confirmed())
	}
	require.NoError(r, r.producer.Err())
}

// confirmedNothingMissing checks that everything at or below the confirmed
// position is in Kafka.
func (r *rig) confirmedNothingMissing() {
	r.Helper()
	r.model.Lock()
	defer r.model.Unlock()
	there := map[string]bool{}
	for _, t := range r.model.Topics {
		for _, p := range t.Partitions {
			for _, record := range p.Log {
				there[record.EventID()] = true
			}
		}
	}
	for _, e := range r.stream {
		if e.Position.Commit <= r.tracker.Confirmed() {
			require.True(r, there[string(e.Attribute(decoder.ID))], "%s is confirmed but not in Kafka", e.Attribute(decoder.ID))
		}
	}
}

// pass lets a bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// inBubble runs a parallel subtest in a bubble, whose time costs nothing.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
}
