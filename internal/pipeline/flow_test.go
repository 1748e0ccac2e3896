package pipeline

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

func TestMain(m *testing.M) { os.Exit(testserver.Main(m, pgtest.CloseShared, kafkatest.CloseShared)) }

// slowStore takes as long for a save as the test wants.
type slowStore struct {
	checkpoint.Store
	begun chan struct{}
	allow chan struct{}

	mu    sync.Mutex
	saved []checkpoint.LSN
}

func (s *slowStore) Save(_ context.Context, r checkpoint.Record) error {
	s.begun <- struct{}{}
	<-s.allow
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = append(s.saved, r.LSN)
	return nil
}

// A new topic requests another checkpoint while one is being saved. The request
// must not move the position back: PostgreSQL may have received it as
// confirmed.
func TestNewTopicDoesNotTakeTheCheckpointBack(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	client, err := kafka.Connect(kafka.ClientConfig{Brokers: cluster.Brokers(), ClientID: "streamer-test", RequestTimeout: 5 * time.Second})
	require.NoError(t, err)
	owner, err := client.Anonymous(t.Context())
	require.NoError(t, err)
	routes, err := router.NewRouter(router.Rules{
		Tables: []router.TableRules{{
			Source: "/shop", Type: "{type}", Topic: "orders", Key: "{aggregate_id}", Mode: router.Binary, NullPayload: router.NullJSON,
			Columns: map[decoder.Attribute]string{
				decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid", decoder.Type: "type",
				decoder.Payload: "payload",
			},
			Schema: "public", Table: "outbox",
		}},
		Database: "shop", StreamID: "4d2f6c1e00aa55ff",
	})
	require.NoError(t, err)
	store := &slowStore{begun: make(chan struct{}), allow: make(chan struct{})}
	begin := resumeAt(checkpoint.Record{LSN: 100})
	f := &flow{
		cluster: connected{client}, notified: make(chan struct{}, 1), tracker: checkpoint.NewTracker(100),
		trail: newTrail(begin), passage: router.NewPassage(begin.point, router.Found{}, nil),
	}
	f.producer = router.NewProducer(router.ProducerConfig{
		MaxBatchBytes: 1 << 10, MaxInFlightBytes: 1 << 20, RequestTimeout: 5 * time.Second, UnknownGrace: time.Minute,
		RetryInitial: 10 * time.Millisecond, RetryMax: time.Second, MetadataInterval: time.Second, Log: slog.New(slog.DiscardHandler),
	}, owner, routes, f.tracker, nil, f.notify)
	f.saver = newSaver(store, begin, backoff.NewExponentialBackOff(), f.notify)
	t.Cleanup(func() {
		f.producer.Close()
		f.saver.close()
		client.Close()
		f.producer.Wait()
	})

	f.trail.reach(200)
	f.tracker.Mark(200)
	f.save(f.confirmed())
	<-store.begun // 200 is being saved
	e := &decoder.Event{Position: replication.Position{Commit: 300, Ordinal: 1}}
	e.SetAttribute(decoder.ID, []byte("1"))
	e.SetAttribute(decoder.AggregateType, []byte("order"))
	e.SetAttribute(decoder.AggregateID, []byte("k"))
	e.SetAttribute(decoder.Type, []byte("placed"))
	result, err := f.producer.Append(e)
	require.NoError(t, err)
	require.Equal(t, router.Blocked, result)
	require.Eventually(t, f.producer.Unstored, 30*time.Second, time.Millisecond)
	require.NoError(t, f.collect())
	store.allow <- struct{}{} // 200 is saved
	require.Eventually(t, func() bool { return !f.saver.busy() }, 30*time.Second, time.Millisecond)
	require.NoError(t, f.collect())
	<-store.begun // what the topic has requested
	store.allow <- struct{}{}
	require.Eventually(t, func() bool { return f.saver.lastSaved().Topics["orders"].Offsets != nil }, 30*time.Second, time.Millisecond)
	assert.Equal(t, checkpoint.LSN(200), f.saver.lastSaved().LSN)
	store.mu.Lock()
	defer store.mu.Unlock()
	assert.Equal(t, []checkpoint.LSN{200, 200}, store.saved)
}
