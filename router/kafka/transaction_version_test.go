package kafka

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// KIP-890 made a cluster's transaction protocol a feature, transaction.version.
// From 2 on the brokers increase the epoch at the end of each transaction, for
// clients that speak that protocol. The streamer speaks the one that every
// version knows, so its epoch must stay and its fence must hold at each level.
//
//nolint:paralleltest // one cluster at a time is enough
func TestFenceAtEveryTransactionVersion(t *testing.T) {
	if !kafkatest.AtLeast(4, 0) {
		t.Skipf("Kafka %s has no choice of transaction protocols", kafkatest.Version())
	}
	for level := range 3 {
		t.Run(fmt.Sprintf("transaction.version=%d", level), func(t *testing.T) {
			cluster := kafkatest.New(t, kafkatest.Options{Features: map[string]int{"transaction.version": level}})
			finalised, err := cluster.Feature(t.Context(), "transaction.version")
			require.NoError(t, err)
			require.Equal(t, level, finalised)
			t.Run("epoch", func(t *testing.T) { testEpochStays(t, cluster) })
			t.Run("fence", func(t *testing.T) { testFence(t, cluster) })
			t.Run("on its way", func(t *testing.T) { testFenceStopsWhatIsOnItsWay(t, cluster) })
			t.Run("renew", func(t *testing.T) { testRenewWhileWriting(t, cluster) })
		})
	}
}

// testEpochStays makes sure that only a takeover changes the epoch. If the end
// of a fence's transaction changed it too, the owner's next batch would carry
// an epoch that its partitions refuse.
func testEpochStays(t *testing.T, cluster *kafkatest.Cluster) {
	t.Helper()
	topic, id := cluster.NewTopic(t, 1, nil), kafkatest.TopicName(t)
	owner := takeOver(t, cluster.Brokers(), id)
	const fences = 3
	for sequence := range int32(fences) {
		require.NoError(t, owner.Fence(t.Context(), partitionsOf(topic, 1)))
		require.NoError(t, owner.appended(topic, 0, sequence), "after fence %d", sequence)
	}
	before, epoch := owner.ID()
	after, next := takeOver(t, cluster.Brokers(), id).ID()
	assert.Equal(t, before, after)
	assert.Equal(t, epoch+1, next, "the successor has the next epoch, however often its predecessor fenced")
}
