package kafka

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// fillTopic writes records of 1 KiB with numbers as keys to partition 0.
func fillTopic(t *testing.T, cluster *kafkatest.Cluster, topic string, n int, at func(int) time.Time) {
	t.Helper()
	config := cluster.Config(kafkatest.Admin)
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for i := range n {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(strconv.Itoa(i)), Value: sarama.ByteEncoder(make([]byte, 1<<10)), Timestamp: at(i),
			Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(strconv.Itoa(i))}},
		})
	}
	require.NoError(t, producer.SendMessages(messages))
}

func second(i int) time.Time { return time.Unix(1_700_000_000+int64(i), 0) }

func TestScan(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.NewTopic(t, 2, nil)
	client := connect(t, clientConfig(cluster.Brokers()))
	fillTopic(t, cluster, topic, 100, second)
	logs, err := client.Logs(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, []Log{{Topic: topic, Partition: 0, End: 100}, {Topic: topic, Partition: 1}}, logs)
	fillTopic(t, cluster, topic, 10, second) // after the end that was requested

	numbers := func(log Log) (all []int) {
		require.NoError(t, client.Scan(t.Context(), log, func(r *LogRecord) error {
			n, err := strconv.Atoi(string(r.Key))
			require.NoError(t, err)
			assert.EqualValues(t, n, r.Offset)
			assert.True(t, second(n).Equal(r.Time))
			assert.Equal(t, []LogHeader{{[]byte("n"), r.Key}}, r.Headers)
			assert.Len(t, r.Value, 1<<10)
			assert.False(t, r.AfterGap)
			all = append(all, n)
			return nil
		}))
		return all
	}
	all := numbers(logs[0])
	assert.Len(t, all, 100)
	assert.IsIncreasing(t, all)
	for _, c := range []struct {
		at    time.Time
		first int64
	}{{second(30), 30}, {second(30).Add(-time.Millisecond), 30}, {second(-5), 0}, {second(1000), 100}} {
		log := logs[0]
		require.NoError(t, client.Seek(t.Context(), &log, c.at))
		assert.Equal(t, c.first, log.From)
		assert.Len(t, numbers(log), int(100-c.first))
	}
	missing, err := client.Logs(t.Context(), topic+"-missing")
	require.NoError(t, err)
	assert.Empty(t, missing)
}

func TestScanPassesOverWhatRetentionDeletes(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.NewTopic(t, 1, nil)
	client := connect(t, clientConfig(cluster.Brokers()))
	for range 3 { // more than one fetch each
		fillTopic(t, cluster, topic, 1500, second)
	}
	logs, err := client.Logs(t.Context(), topic)
	require.NoError(t, err)
	admin, err := cluster.Admin()
	require.NoError(t, err)
	defer admin.Close()
	var gaps []int64
	last := int64(-1)
	require.NoError(t, client.Scan(t.Context(), logs[0], func(r *LogRecord) error {
		if last < 0 {
			require.NoError(t, admin.DeleteRecords(topic, map[int32]int64{0: 4000}))
		}
		if r.AfterGap {
			gaps = append(gaps, r.Offset)
		} else {
			assert.Equal(t, last+1, r.Offset)
		}
		last = r.Offset
		return nil
	}))
	assert.Equal(t, []int64{4000}, gaps)
	assert.EqualValues(t, 4499, last)
}

func TestScanAll(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	client := connect(t, clientConfig(cluster.Brokers()))
	var logs []Log
	for range 5 {
		topic := cluster.NewTopic(t, 1, nil)
		fillTopic(t, cluster, topic, 20, second)
		of, err := client.Logs(t.Context(), topic)
		require.NoError(t, err)
		logs = append(logs, of...)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	open := func(log Log) func(*LogRecord) error {
		return func(*LogRecord) error {
			mu.Lock()
			defer mu.Unlock()
			seen[log.Topic]++
			return nil
		}
	}
	for _, parallel := range []int{0, 1, 3, 100} {
		clear(seen)
		require.NoError(t, client.ScanAll(t.Context(), logs, parallel, open))
		assert.Len(t, seen, 5)
		for topic, n := range seen {
			assert.Equal(t, 20, n, topic)
		}
	}
	require.NoError(t, client.ScanAll(t.Context(), nil, 2, open))

	stop := errors.New("stop")
	require.ErrorIs(t, client.ScanAll(t.Context(), logs, 2, func(Log) func(*LogRecord) error {
		return func(*LogRecord) error { return stop }
	}), stop)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	require.ErrorIs(t, client.ScanAll(ctx, logs, 2, open), stop)
}
