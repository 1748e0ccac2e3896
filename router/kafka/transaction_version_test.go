package kafka

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// KIP-890 made a cluster's transaction protocol a feature, transaction.version.
// At 2 brokers raise the epoch at the end of each transaction of a client that
// speaks that protocol. The streamer speaks the one that every version knows, so
// its epoch must stay and its fence must hold at each level, and while an
// operator raises the level.
func TestFenceAtEveryTransactionVersion(t *testing.T) { //nolint:tparallel // one level after the other, on one cluster
	t.Parallel()
	if !kafkatest.AtLeast(4, 0) {
		t.Skipf("Kafka %s has no choice of transaction protocols", kafkatest.Version())
	}
	const feature = "transaction.version"
	cluster := kafkatest.New(t, kafkatest.Options{Features: map[string]int{feature: 0}})
	topic, id := cluster.NewTopic(t, 1, nil), kafkatest.TopicName(t)
	owner := takeOver(t, cluster.Brokers(), id)
	sequence := int32(0)
	for level := range 3 {
		if level > 0 {
			require.NoError(t, cluster.RaiseFeature(t.Context(), feature, level))
		}
		for range 2 { // the end of a transaction that raised the epoch would show at the next
			require.NoError(t, owner.Fence(t.Context(), partitionsOf(topic, 1)))
			require.NoError(t, owner.appended(topic, 0, sequence))
			sequence++
		}
		t.Run(fmt.Sprintf("%s=%d", feature, level), func(t *testing.T) {
			t.Run("fence", func(t *testing.T) { testFence(t, cluster) })
			t.Run("on its way", func(t *testing.T) { testFenceStopsWhatIsOnItsWay(t, cluster) })
			t.Run("renew", func(t *testing.T) { testRenewWhileWriting(t, cluster) })
		})
	}
	before, epoch := owner.ID()
	after, next := takeOver(t, cluster.Brokers(), id).ID()
	assert.Equal(t, before, after)
	assert.Equal(t, epoch+1, next, "the successor has the next epoch, however often its predecessor fenced")
}
