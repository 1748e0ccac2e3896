package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

const (
	before = "message.timestamp.before.max.ms"
	after  = "message.timestamp.after.max.ms"
	both   = "message.timestamp.difference.max.ms"
)

// The times of records are refused by the settings of a topic, not because of
// the row: production ends, and no row becomes a dead letter.
func TestProducerUntimely(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ahead    time.Duration // of the commits
		settings map[string]string
		says     string
		advises  []string
	}{
		"too old": {
			-time.Minute,
			map[string]string{before: "5000", after: "3600000"},
			before + " = 5000",
			[]string{"set " + before, `topic "outbox.event.order"`, "86400000", "LogAppendTime"},
		},
		"too old, and the setting is hidden": {
			-time.Minute, nil, before + " (its value is not known)", []string{"set " + before},
		},
		"too young": {
			2 * time.Hour,
			map[string]string{before: "9223372036854775807", after: "3600000"},
			after + " = 3600000",
			[]string{"synchronise the clocks", "raise " + after, "LogAppendTime"},
		},
		"too young for the clock of the brokers": {
			-time.Second,
			map[string]string{before: "9223372036854775807", after: "3600000"},
			after + " = 3600000",
			[]string{"synchronise the clocks"},
		},
		"an older broker": {
			-time.Minute, map[string]string{both: "5000"}, both + " = 5000", []string{"set " + both},
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			m := newOrders(2, 3)
			m.Topics[orders].Settings = test.settings
			m.Poison["event-17"] = sarama.ErrInvalidTimestamp
			r := newRig(t, m, someConfig())
			r.shift = time.Since(time.UnixMicro(numbered(0, "", "").CommitTime)) + test.ahead
			err := r.feed(60, 9)
			if err == nil {
				err = r.settle()
			}
			require.Equal(t, failure.Refused, failure.ClassOf(err))
			_, poison := errors.AsType[*PoisonError](err)
			assert.False(t, poison, "nothing is wrong with the row")
			require.ErrorContains(t, err, `topic "outbox.event.order" partition `)
			require.ErrorContains(t, err, `outbox row "event-17" at `)
			require.ErrorContains(t, err, test.says)
			for _, words := range test.advises {
				assert.Contains(t, failure.Fix(err), words)
			}
			pass(5 * time.Minute)
			require.Error(t, r.producer.Collect())
			r.requirePrefixes()
			r.confirmedNothingMissing()
		})
	}
}

// A single write that is refused because of its time is an error of its caller,
// whether it waits for the reason or not.
func TestWriteUntimely(t *testing.T) {
	t.Parallel()
	for name, patient := range map[string]bool{"patient": true, "impatient": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(1)
				m.Topic(checkpoints, 1)
				m.Faults[model.At(checkpoints, 0, 0)] = model.Fail(model.ErrorBefore, sarama.ErrInvalidTimestamp)
				r := newRig(t, m, someConfig())
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if !patient {
					m.Latency = func(int) time.Duration { return time.Second }
					time.AfterFunc(500*time.Millisecond, cancel)
				}
				err := r.producer.Write(ctx, checkpoints, 0, nil, []byte("refused"))
				if patient {
					require.ErrorIs(t, err, sarama.ErrInvalidTimestamp)
					require.NotContains(t, err.Error(), "outbox row")
					require.Equal(t, failure.Refused, failure.ClassOf(err))
				} else {
					require.ErrorIs(t, err, context.Canceled)
				}
				pass(time.Minute)
				require.NoError(t, r.producer.Write(t.Context(), checkpoints, 0, nil, []byte("next")))
				require.Equal(t, "next", m.values()[len(m.values())-1])
				require.NoError(t, r.producer.Err())
			})
		})
	}
}
