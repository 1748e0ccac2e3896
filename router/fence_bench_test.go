package router

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router/kafka"
)

// BenchmarkTakeOver measures what it costs a start to fence predecessors and to
// learn what they have written. Each partition holds some events after its
// mark. The parts are reported as medians in milliseconds, next to the cost of
// a start without them: a producer id.
func BenchmarkTakeOver(b *testing.B) {
	cluster := kafkatest.Shared(b)
	for _, partitions := range []int{50, 1000} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			topic := cluster.NewTopic(b, partitions, nil)
			s := newScribe(b, cluster.Brokers())
			for id := range partitions {
				s.ours(topic, int32(id), 3*id, 3*id+1, 3*id+2)
			}
			r := readBackOf(map[string]Marks{topic: {Offsets: make([]int64, partitions)}})
			parts := map[string][]time.Duration{}
			for n := 0; b.Loop(); n++ {
				takeOverOnce(b, cluster.Brokers(), topic, partitions, r, parts, n == 0)
			}
			for name, took := range parts {
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-ms")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// takeOverOnce is one start on its own connection. The first start fences
// partitions to which no producer has ever written, which takes brokers longer.
func takeOverOnce(b *testing.B, brokers []string, topic string, partitions int, r ReadBack, parts map[string][]time.Duration, first bool) {
	b.Helper()
	client, err := kafka.Connect(someClient(brokers))
	require.NoError(b, err)
	defer client.Close()
	began := time.Now()
	step := func(name string) {
		if !first {
			parts[name] = append(parts[name], time.Since(began))
		}
		began = time.Now()
	}
	_, _, err = client.InitProducerID(b.Context())
	require.NoError(b, err)
	step("plain")
	start := began
	owner, err := client.TakeOver(b.Context(), topic)
	require.NoError(b, err)
	step("take-over")
	existing, err := client.Existing(b.Context(), []string{topic})
	require.NoError(b, err)
	require.NoError(b, owner.Fence(b.Context(), existing))
	step("fence")
	found, err := r.Read(b.Context(), client)
	require.NoError(b, err)
	require.Len(b, found.Landmarks, partitions)
	step("read-back")
	began = start
	step("all")
}
