package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// growing fails unless pauses begin small and grow by half up to the longest,
// each with jitter of half its length. late is the duration of an attempt
// itself.
func (s *stage) growing(attempts []time.Duration, late time.Duration) {
	s.Helper()
	middle := s.config.RetryInitial
	for i, at := range attempts[1:] {
		pause := at - attempts[i]
		assert.GreaterOrEqual(s, pause, middle/2, "pause %d of %v", i, attempts)
		assert.LessOrEqual(s, pause, middle*3/2+late, "pause %d of %v", i, attempts)
		middle = min(middle*3/2, s.config.RetryMax)
	}
}

// A server that cannot be reached is tried again after growing pauses.
func TestRetriesGrow(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.answers(func(string) error { return errModelDown })
		s.start()
		s.began = time.Now()
		s.at(2 * time.Minute)
		attempts := s.times("connect")
		require.Greater(s, len(attempts), 20)
		require.Less(s, len(attempts), 60)
		s.growing(attempts, 0)
		assert.Equal(s, Waiting, s.pipeline.Status().Phase)
		assert.Equal(s, "connection refused", s.pipeline.Status().Detail)
	})
}

// Opening a stream is not progress: a stream that repeatedly ends at once is
// opened again after growing pauses.
func TestRetriesOfAStreamThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		ends := make(chan struct{})
		go func() {
			for opened := 0; ; {
				select {
				case <-ends:
					return
				case <-time.After(time.Millisecond):
				}
				if now := s.opened(); now > opened {
					opened = now
					s.reader().fail(errors.New("could not open relation mapping file (SQLSTATE XX000)"))
				}
			}
		}()
		s.at(2 * time.Minute)
		close(ends)
		opened := []time.Duration{3 * time.Second} // the first has ended
		s.world.mu.Lock()
		for _, r := range s.readers[1:] {
			opened = append(opened, s.since(r.openedAt))
		}
		s.world.mu.Unlock()
		require.Greater(s, len(opened), 20)
		require.Less(s, len(opened), 60)
		s.growing(opened, 50*time.Millisecond)
	})
}

// failFor makes PostgreSQL unavailable for a while, and returns the times of
// the attempts meanwhile.
func (s *stage) failFor(d time.Duration) []time.Duration {
	s.Helper()
	before := len(s.times("connect"))
	s.answers(func(string) error { return errModelDown })
	s.reader().fail(errModelCut)
	opened := s.opened()
	pass(s.Context(), d)
	s.answers(nil)
	s.until("it streams again", func() bool { return s.opened() > opened })
	return s.times("connect")[before:]
}

// Pauses begin small again when the checkpoint has moved, or after a minute,
// and not before.
func TestRetriesBeginAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		between func(*stage)
		small   bool
	}{
		"nothing was achieved": {func(s *stage) { pass(s.Context(), 10*time.Second) }, false},
		"the checkpoint has moved": {func(s *stage) {
			s.commit(0x3000, "b")
			pass(s.Context(), 3*time.Second)
		}, true},
		"for less than a minute": {func(s *stage) { pass(s.Context(), 55*time.Second) }, false},
		"for a minute":           {func(s *stage) { pass(s.Context(), time.Minute) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				s.warmUp()
				first := s.failFor(time.Minute)
				require.GreaterOrEqual(s, first[len(first)-1]-first[len(first)-2], s.config.RetryMax/2, "the pause has grown")
				test.between(s)
				began := time.Since(s.began)
				second := s.failFor(time.Minute)
				if test.small {
					s.growing(append([]time.Duration{began}, second...), 50*time.Millisecond)
					return
				}
				assert.GreaterOrEqual(s, second[0]-began, s.config.RetryMax/2)
			})
		})
	}
}

// A mistake in the configuration ends a process for which nothing has worked
// yet. Later the cause is more likely a password being changed.
func TestMisconfigured(t *testing.T) {
	t.Parallel()
	wrong := failure.Misconfigure(errors.New("no password"))
	perform(t, func(s *stage) {
		s.config.DSN = func(context.Context) (string, error) { return "", failure.Misconfigure(errors.New("file is empty")) }
		s.start()
		after, err := s.exit()
		assert.Equal(s, failure.Misconfigured, failure.ClassOf(err))
		require.EqualError(s, err, "postgres.dsn: file is empty")
		assert.Equal(s, s.since(time.Now()), after, "at once")
	})
	for _, question := range []string{"connect", "read stream"} {
		t.Run(question, func(t *testing.T) {
			t.Parallel()
			perform(t, func(s *stage) {
				refuse := func(q string) error {
					if q == question {
						return wrong
					}
					return nil
				}
				s.warmUp()
				s.answers(refuse)
				s.reader().fail(errModelCut)
				s.at(3 * time.Minute)
				require.Greater(s, len(s.times(question)), 10)
				s.answers(nil)
				s.at(4 * time.Minute)
				assert.Equal(s, Streaming, s.pipeline.Status().Phase)
			})
		})
	}
}

// Before anything was streamed, a mistake that shows only when the stream is
// opened ends the process as long as there is no flow.
func TestMisconfiguredBeforeTheFirstStream(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.answers(func(q string) error {
			if q == "lock" {
				return failure.Misconfigure(errors.New("no such function"))
			}
			return nil
		})
		s.start()
		_, err := s.exit()
		require.EqualError(s, err, "no such function")
	})
}

// What needs a decision ends the process, whatever has worked before.
func TestRefusedIsFinal(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		s.answers(func(q string) error {
			if q == "read stream" {
				return failure.Refuse(fmt.Errorf("%w: it was dropped", replication.ErrSlotMissing))
			}
			return nil
		})
		s.reader().fail(errModelCut)
		_, err := s.exit()
		assert.Equal(s, failure.Refused, failure.ClassOf(err))
		assert.Contains(s, err.Error(), "everything committed before the checkpoint 0/2040 is published")
	})
}

// A process whose Run ends leaves nothing behind in PostgreSQL: neither the
// lock nor a reader.
func TestRunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	perform(t, func(s *stage) {
		s.warmUp()
		require.True(s, s.holdsLock())
		s.stop()
		_, err := s.exit()
		require.NoError(s, err)
		assert.False(s, s.holdsLock())
		assert.True(s, s.reader().isClosed())
		s.world.mu.Lock()
		defer s.world.mu.Unlock()
		assert.Empty(s, s.world.primary.locks)
	})
}
