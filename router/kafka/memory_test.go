package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Before Kafka 3.4 producers are forgotten with transactional ids. A streamer
// that took the newer setting's default for granted sent old events with times
// that the broker had already forgotten.
func TestMemoryOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seen                    map[string]int64
		producer, transactional time.Duration
	}{
		"Kafka 3.4":          {map[string]int64{producerExpiry: 1000, transactionalExpiry: 5000}, time.Second, 5 * time.Second},
		"Kafka 3.3":          {map[string]int64{transactionalExpiry: 5000}, 5 * time.Second, 5 * time.Second},
		"its default":        {map[string]int64{transactionalExpiry: (7 * 24 * time.Hour).Milliseconds()}, defaultExpiry, 7 * 24 * time.Hour},
		"nothing is visible": {nil, defaultExpiry, defaultTransactionalExpiry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			producer, transactional := memoryOf(c.seen)
			assert.Equal(t, c.producer, producer)
			assert.Equal(t, c.transactional, transactional)
		})
	}
}
