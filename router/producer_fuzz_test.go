package router

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
)

// script is what FuzzProducer reads from its bytes.
type script struct {
	nodes, partitions, keys, events int
	limit                           int
	batchBytes                      int
	linger                          time.Duration
	latency                         [3]time.Duration
	poisoned                        int // event, or -1
	poison                          sarama.KError
	restart                         int // a successor takes over before this event, or -1
	faults                          map[model.Place]model.Fault
	grows                           bool
}

// bytesReader returns 0 when nothing is left.
type bytesReader []byte

func (b *bytesReader) next(n int) int {
	if len(*b) == 0 {
		return 0
	}
	c := int((*b)[0])
	*b = (*b)[1:]
	return c % n
}

var poisonCodes = []sarama.KError{
	sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp, sarama.ErrPolicyViolation,
}

func readScript(data []byte) script {
	b := bytesReader(data)
	s := script{
		nodes: 1 + b.next(3), partitions: 1 + b.next(4), keys: 1 + b.next(20), events: 1 + b.next(160),
		limit: b.next(6), batchBytes: 512 << b.next(5), linger: time.Duration(b.next(3)) * 20 * time.Millisecond,
		poisoned: -1, restart: -1, faults: map[model.Place]model.Fault{},
	}
	for i := range s.latency {
		s.latency[i] = time.Duration(b.next(8)*b.next(100)) * time.Millisecond
	}
	if b.next(4) == 1 {
		s.poisoned, s.poison = b.next(160), poisonCodes[b.next(len(poisonCodes))]
	}
	if b.next(4) == 1 {
		s.restart = b.next(160)
	}
	for len(b) > 0 && len(s.faults) < 200 {
		at := model.At(orders, int32(b.next(s.partitions)), b.next(64))
		f := model.Fault{Kind: model.NoFault + 1 + model.Kind(b.next(int(model.KindEnd)-1)), Code: transient[b.next(len(transient))]}
		s.grows = s.grows || f.Kind == model.Growth
		s.faults[at] = f
	}
	return s
}

// FuzzProducer makes a cluster fail by script and checks:
//   - each partition is a prefix of the stream routed to it
//   - everything arrives unless a record is poison
//   - nothing unwritten is ever confirmed
func FuzzProducer(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 7, 150, 0, 1})
	f.Add([]byte{2, 3, 11, 159, 3, 3, 1, 2, 50, 3, 70, 0, 0, 0, 2})
	for kind := range int(model.KindEnd) - 1 {
		header := []byte{2, 1, 9, 150, 0, 1, 0, 1, 3, 2, 30, 0, 0, 0, 0}
		for arrival := range 40 {
			header = append(header, byte(arrival%2), byte(arrival), byte(kind), byte(arrival))
		}
		f.Add(header)
	}
	for code := range poisonCodes {
		f.Add([]byte{1, 2, 7, 150, 0, 3, 0, 1, 9, 1, 9, 1, 9, 1, 77, byte(code), 0, 0, 3, 4, 7, 1, 4, 1, 2})
		f.Add([]byte{1, 2, 7, 150, 2, 3, 0, 1, 9, 1, 9, 1, 9, 1, 20, byte(code), 1, 9, 0, 3, 4, 7, 1, 4, 1, 2})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := readScript(data)
		synctest.Test(t, func(t *testing.T) { s.run(t) })
	})
}

func (s script) run(t *testing.T) {
	t.Helper()
	m := newModel(s.nodes)
	m.Topic(orders, s.partitions)
	m.MaxRecords, m.Faults = s.limit, s.faults
	m.Latency = func(node int) time.Duration { return s.latency[node] + time.Millisecond }
	if s.poisoned >= 0 {
		m.Poison[fmt.Sprintf("event-%d", s.poisoned)] = s.poison
	}
	config := someConfig()
	config.MaxBatchBytes, config.Linger = s.batchBytes, s.linger
	config.UnknownGrace = 24 * time.Hour // scripts may take longer than that grace
	r := newRig(t, m, config)
	err := s.feed(r)
	if err == nil {
		err = r.settle()
	}
	if s.poisoned < 0 || s.poisoned >= s.events {
		require.NoError(t, err)
		r.requireComplete()
	} else {
		s.requirePoison(t, r, err)
	}
	r.confirmedNothingMissing()
	r.requireOrder()
	if !s.grows {
		r.requirePrefixes()
	}
}

// feed appends all events. Halfway a successor may take over.
func (s script) feed(r *rig) error {
	for n := range s.events {
		if n == s.restart {
			if err := r.settle(); err != nil {
				return err
			}
			confirmed := r.tracker.Confirmed()
			r.end()
			r.written = r.producer.Written()
			r.begin()
			r.tracker.Mark(confirmed)
		}
		if err := r.feed(1, s.keys); err != nil {
			return err
		}
	}
	return nil
}

func (s script) requirePoison(t *testing.T, r *rig, err error) {
	t.Helper()
	require.Equal(t, failure.Refused, failure.ClassOf(err), "%v", err)
	id, commit := fmt.Sprintf("event-%d", s.poisoned), commitOf(s.poisoned)
	if p, ok := errors.AsType[*PoisonError](err); ok {
		require.Equal(t, id, p.EventID)
		require.Equal(t, commit, p.Position.Commit)
	} else { // it names a row, and blames the topic
		require.Equal(t, sarama.ErrInvalidTimestamp, s.poison)
		require.ErrorContains(t, err, fmt.Sprintf("outbox row %q at %s", id, commit))
	}
	pass(10 * time.Minute)
	require.Error(t, r.producer.Collect())
	require.Less(t, r.tracker.Confirmed(), commitOf(s.poisoned))
}
