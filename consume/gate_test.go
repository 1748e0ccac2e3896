package consume

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errDown = errors.New("the database is down")

// While everything is unavailable, one event at a time is tried, ever less often.
func TestGateLetsOneThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(slog.New(slog.DiscardHandler), 100*time.Millisecond, func(bool) {})
		probe, err := g.enter(t.Context())
		require.NoError(t, err)
		require.False(t, probe, "the gate is open")
		g.leave(false, errDown, outage)

		var passed, probes atomic.Int32
		for range 50 {
			go func() {
				probe, err := g.enter(t.Context())
				if err != nil {
					return
				}
				passed.Add(1)
				if probe {
					probes.Add(1)
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, []int32{1, 1}, []int32{passed.Load(), probes.Load()}, "one, and nobody else while it is tried")

		g.leave(true, errDown, outage)
		synctest.Wait()
		assert.Equal(t, int32(1), passed.Load(), "there is a pause after the second failure")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, int32(2), passed.Load())

		g.leave(true, nil, ofEvent)
		synctest.Wait()
		assert.Equal(t, []int32{50, 2}, []int32{passed.Load(), probes.Load()}, "all others pass as soon as it works")
	})
}

// What is no outage opens the gate: something has answered.
func TestGateAfterAnotherError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what nature
		err  error
		open bool
	}{
		"handled":              {ofEvent, nil, true},
		"the event's fault":    {ofEvent, errDown, true},
		"hopeless":             {hopeless, errDown, true},
		"still unavailable":    {outage, errDown, false},
		"the consumer stopped": {cancelled, errDown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var states []bool
			g := newGate(slog.New(slog.DiscardHandler), time.Nanosecond, func(shut bool) { states = append(states, shut) })
			g.leave(false, errDown, outage)
			probe, err := g.enter(t.Context())
			require.NoError(t, err)
			require.True(t, probe)
			g.leave(true, c.err, c.what)
			probe, err = g.enter(t.Context())
			require.NoError(t, err)
			assert.Equal(t, c.open, !probe)
			assert.Equal(t, c.open, len(states) == 2 && !states[1])
		})
	}
}

// A transaction that had begun before the outage and fails later does not start the
// pauses again, and whoever waits ends with its context.
func TestGateStragglers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(slog.New(slog.DiscardHandler), time.Minute, func(bool) {})
		for range 20 {
			g.leave(false, errDown, outage)
		}
		assert.Equal(t, 1, g.failures)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.enter(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		probe, err := g.enter(t.Context())
		require.NoError(t, err)
		assert.True(t, probe)
	})
}

func TestJittered(t *testing.T) {
	t.Parallel()
	for failures, longest := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 10: 10 * time.Second, 1000: 10 * time.Second,
	} {
		for range 100 {
			pause := jittered(100*time.Millisecond, failures)
			assert.LessOrEqual(t, pause, longest)
			assert.GreaterOrEqual(t, pause, longest/2)
		}
	}
}
