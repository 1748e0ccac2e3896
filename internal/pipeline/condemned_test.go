package pipeline

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
)

// Rows that the broker refuses late end the producer, one after the other. With
// at_least_once, a row that became a dead letter must still be known when the
// next row has ended the producer again. Otherwise the rows take turns for
// ever.
func TestLateRejectionsComeToAnEnd(t *testing.T) {
	t.Parallel()
	for _, resume := range []Resume{ResumeAuto, ResumeAtLeastOnce} {
		t.Run(string(resume), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				w.plan = plan{ownStore: true, resume: resume, reading: ReadStream, poison: true}
				w.start()
				pass(t.Context(), time.Second)
				w.mu.Lock()
				w.primary.commit(modelRow{id: "first", key: "k"})
				w.mu.Unlock()
				pass(t.Context(), 15*time.Second)
				w.kafka.Lock()
				w.kafka.Poison["bad-5"], w.kafka.Poison["bad-7"] = sarama.ErrInvalidRecord, sarama.ErrInvalidRecord
				w.kafka.Unlock()
				w.mu.Lock()
				for i := range 12 { // rows in between that make no event seal what is before them
					w.primary.commit(modelRow{id: fmt.Sprint("bad-", i), key: "k"}, modelRow{id: fmt.Sprint("null-", i), key: "k", bad: i < 4 || i >= 6})
				}
				w.mu.Unlock()
				pass(t.Context(), 20*time.Second)
				w.mu.Lock()
				w.kafka.Lock()
				letters := 0
				for _, r := range w.kafka.Topics["dead"].Partitions[0].Log {
					if !r.Marker {
						letters++
					}
				}
				w.kafka.Unlock()
				assert.LessOrEqual(t, letters, 40, "dead letters of seven rows")
				assert.NotEmpty(t, w.published()["bad-11"])
				w.mu.Unlock()
				w.over()
			})
		})
	}
}
