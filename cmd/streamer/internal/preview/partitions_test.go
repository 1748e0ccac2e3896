package preview

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// withKafka names a fake with the topics "order", of 4 partitions.
func withKafka(t *testing.T) (fake.Cluster, string) {
	t.Helper()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "order"))
	return cluster, "STREAMER_KAFKA_BROKERS=" + strings.Join(cluster.Brokers(), ",")
}

func TestPreviewShowsPartitions(t *testing.T) {
	t.Parallel()
	_, brokers := withKafka(t)
	r := newRig(t, brokers)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "a"} {
		r.insert("outbox", "order", key)
	}
	r.insert("outbox", "unknown", "1")
	r.insert("outbox", "unknown", "2")
	got := r.run(0)
	require.NoError(t, got.err)
	require.Len(t, got.lines, 9)
	used := map[int32]bool{}
	for _, l := range got.lines[:7] {
		require.NotNil(t, l.Partition)
		assert.Less(t, *l.Partition, int32(4))
		used[*l.Partition] = true
	}
	assert.Greater(t, len(used), 1)
	assert.Equal(t, *got.lines[0].Partition, *got.lines[6].Partition, "a key has one")
	assert.Nil(t, got.lines[7].Partition)
	assert.Nil(t, got.lines[8].Partition)
	assert.Equal(t, 1, strings.Count(got.told, `partitions of topic "unknown" are not known`), got.told)
}

// A topic that Kafka can never have makes the row one that cannot be published,
// whether its rival exists or will be created by an earlier row.
func TestPreviewShowsImpossibleTopics(t *testing.T) {
	t.Parallel()
	cluster, brokers := withKafka(t)
	require.NoError(t, cluster.CreateTopic("big.order", 1, nil))
	r := newRig(t, brokers)
	for _, topic := range []string{"big_order", "big.order", "a.b", "a_b", "a.b"} {
		r.insert("outbox", topic, "1")
	}
	for creates, impossible := range map[string][]bool{
		"true":  {true, false, false, true, false},
		"false": {true, false, false, false, false},
	} {
		changed := *r
		changed.environ = append(slices.Clone(r.environ), "STREAMER_KAFKA_TOPICS_CREATE="+creates)
		got := changed.run(0)
		require.NoError(t, got.err)
		require.Len(t, got.lines, len(impossible))
		for i, l := range got.lines {
			assert.Equal(t, impossible[i], l.Poison != "", "row %d: %s", i, l.Poison)
		}
		assert.Contains(t, got.lines[0].Poison, `topic "big_order" cannot exist`)
		assert.Contains(t, got.lines[0].Poison, `topic "big.order"`)
		assert.Contains(t, got.lines[0].Poison, "fix: correct the row's aggregate type")
		assert.NotContains(t, got.told, "big_order")
	}
}

func TestPreviewWithoutKafka(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert("outbox", "order", "1")
	r.insert("outbox", "user", "2")
	got := r.run(0)
	require.NoError(t, got.err)
	require.Len(t, got.lines, 2)
	assert.Nil(t, got.lines[0].Partition)
	assert.Nil(t, got.lines[1].Partition)
	assert.Equal(t, 1, strings.Count(got.told, "partitions are not known"), got.told)
	assert.Contains(t, got.told, "127.0.0.1:1")
}

// There may be many rows, so Kafka is asked once for each topic, and not at all
// without rows.
func TestPartitionCounts(t *testing.T) {
	t.Parallel()
	cluster, brokers := withKafka(t)
	r := &rig{t: t, environ: []string{brokers}}
	var asked atomic.Int64
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	var told bytes.Buffer
	counts := &partitionCounts{cfg: r.config(), std: console.Streams{Err: &told}}
	counts.close()
	assert.Zero(t, asked.Load())
	defer counts.close()

	for topic, want := range map[string]int{"order": 4, "unknown": 0} {
		count, err := counts.of(topic)
		require.NoError(t, err)
		assert.Equal(t, want, count, topic)
		before := asked.Load()
		again, err := counts.of(topic)
		require.NoError(t, err)
		assert.Equal(t, want, again, topic)
		assert.Equal(t, before, asked.Load(), topic)
	}
	assert.Equal(t, 1, strings.Count(told.String(), "not known"), told.String())
	assert.Contains(t, told.String(), `"unknown"`)
}
