package consume

import (
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Home is where sarama's murmur2 partitioner, and so Java's clients, send a key.
func TestHome(t *testing.T) {
	t.Parallel()
	partitioner := sarama.NewMurmur2Partitioner("any")
	for n := range 2000 {
		key := fmt.Sprintf("%.*s", n%70, fmt.Sprintf("%x-ключ-%064d", n*7919, n))
		for _, partitions := range []int32{1, 2, 3, 8, 1000} {
			want, err := partitioner.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
			require.NoError(t, err)
			assert.Equal(t, want, Home([]byte(key), partitions), key)
		}
	}
	// Those of the tests in e2e.
	assert.Equal(t, []int32{0, 1}, []int32{Home([]byte("k3"), 2), Home([]byte("k0"), 2)})
}
