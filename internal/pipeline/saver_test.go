package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// bareStore is a store that consists only of a ledger.
type bareStore struct {
	checkpoint.Store
	ledger *ledger
}

func (s bareStore) Save(ctx context.Context, r checkpoint.Record) error {
	return s.ledger.save(ctx, r, func() error { return nil })
}

// safe is a saver and its store.
type safe struct {
	*testing.T
	saver  *saver
	ledger *ledger
}

// saving runs a scene with a saver that begins at 0x1000.
func saving(t *testing.T, scene func(*safe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		pause := backoff.NewExponentialBackOff()
		pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 5*time.Second
		s := newSaver(bareStore{ledger: l}, resumeAt(checkpoint.Record{LSN: 0x1000, Exact: true}), pause, func() {})
		defer func() {
			s.close()
			assert.Zero(t, l.overlaps, "never two saves at once")
		}()
		scene(&safe{t, s, l})
	})
}

// stepAt is a position with its own row.
func stepAt(lsn replication.LSN) *step {
	return &step{
		lsn: lsn, point: router.Point{Position: replication.Position{Commit: lsn - 0x40, Ordinal: 1}},
		eventID: []byte(lsn.String()), commitTime: int64(lsn), exact: true,
	}
}

func (l *ledger) lsns() (all []replication.LSN) {
	for _, e := range l.stored() {
		all = append(all, e.LSN)
	}
	return all
}

// slowly is a store that takes that long.
func slowly(d time.Duration) func(context.Context, checkpoint.Record) verdict {
	return func(ctx context.Context, _ checkpoint.Record) verdict {
		pass(ctx, d)
		if ctx.Err() != nil {
			return verdict{err: ctx.Err()}
		}
		return taken
	}
}

// The newest request replaces one that is waiting. A save in progress is
// completed.
func TestSaverKeepsTheNewest(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.answers(slowly(time.Second))
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		for lsn := replication.LSN(0x3000); lsn < 0x9000; lsn += 0x1000 {
			s.save(stepAt(lsn), nil, history{})
			assert.Equal(t, lsn, s.asked().LSN)
			assert.EqualValues(t, 0x1000, s.lastSaved().LSN)
		}
		pass(t.Context(), 2500*time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []replication.LSN{0x2000, 0x8000}, l.lsns())
		assert.EqualValues(t, 0x8000, s.lastSaved().LSN)
		assert.False(t, s.busy())
	})
}

// A position never goes back: a request without a step, or with an older one,
// stores the position already stored.
func TestSaverDoesNotGoBack(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]*step{"no step": nil, "an older step": stepAt(0x1800)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			saving(t, func(t *safe) {
				s, l := t.saver, t.ledger
				s.save(stepAt(0x2000), nil, history{})
				synctest.Wait()
				s.save(older, map[string]checkpoint.Topic{"new": {}}, history{})
				synctest.Wait()
				assert.Equal(t, []replication.LSN{0x2000, 0x2000}, l.lsns())
				assert.Contains(t, l.last().Topics, "new")
				assert.Equal(t, &checkpoint.Event{Sequence: sequence(0x1fc0, 1), ID: "0/2000", CommitTime: 0x2000}, l.last().Last)
			})
		})
	}
}

// A record names the last row below its position only if that row is known, and
// says so.
func TestSaverNamesTheLastRow(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		unknown := stepAt(0x3000)
		unknown.exact = false
		s.save(stepAt(0x2000), nil, history{timeline: 3, started: "then"})
		synctest.Wait()
		assert.True(t, l.last().Exact)
		assert.EqualValues(t, 3, l.last().Timeline)
		assert.Equal(t, "then", l.last().Started)
		assert.Equal(t, time.Now().UTC(), l.last().SavedAt)
		s.save(unknown, nil, history{})
		synctest.Wait()
		assert.False(t, l.last().Exact)
		assert.Equal(t, "0/2000", l.last().Last.ID, "the newest known row stays")
	})
}

// A store that refuses is tried again after pauses that grow up to the longest
// and begin small again after a success.
func TestSaverPauses(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		fail := func(lsn replication.LSN) []time.Duration {
			l.become(turnedOff)
			before := len(l.attempts())
			s.save(stepAt(lsn), nil, history{})
			pass(t.Context(), time.Minute)
			synctest.Wait()
			require.EqualError(t, s.failed(), "checkpoint store is away")
			assert.Equal(t, s.failed(), s.problem())
			tried := l.attempts()[before:]
			var pauses []time.Duration
			for i, e := range tried[1:] {
				pauses = append(pauses, e.at.Sub(tried[i].at))
			}
			l.answers(nil)
			pass(t.Context(), 10*time.Second)
			synctest.Wait()
			require.NoError(t, s.failed())
			require.Equal(t, lsn, s.lastSaved().LSN)
			return pauses
		}
		for _, lsn := range []replication.LSN{0x2000, 0x3000} {
			pauses := fail(lsn)
			require.Greater(t, len(pauses), 14)
			longest := 100 * time.Millisecond
			for i, pause := range pauses {
				assert.GreaterOrEqual(t, pause, longest/2, "pause %d of %v", i, pauses)
				assert.LessOrEqual(t, pause, longest*3/2, "pause %d of %v", i, pauses)
				longest = min(longest*3/2, 5*time.Second)
			}
		}
	})
}

// What never succeeds again is not tried again.
func TestSaverGivesUpWhatIsHopeless(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"claimed":   {checkpoint.ErrClaimed, 1},
		"refused":   {failure.Refuse(errors.New("foreign")), 1},
		"transient": {errors.New("away"), 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			saving(t, func(t *safe) {
				s, l := t.saver, t.ledger
				l.become(verdict{err: test.err})
				s.save(stepAt(0x2000), nil, history{})
				pass(t.Context(), time.Minute)
				synctest.Wait()
				assert.GreaterOrEqual(t, len(l.attempts()), test.want)
				if test.want == 1 {
					assert.Len(t, l.attempts(), 1)
				}
				require.ErrorIs(t, s.failed(), test.err)
				assert.EqualValues(t, 0x1000, s.lastSaved().LSN)
				assert.EqualValues(t, 0x2000, s.asked().LSN)
			})
		})
	}
}

// A save without an answer is abandoned after half a minute, and tried again.
func TestSaverTimesOut(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		began := time.Now()
		l.answers(slowly(time.Hour))
		s.save(stepAt(0x2000), nil, history{})
		pass(t.Context(), 29*time.Second)
		synctest.Wait()
		require.NoError(t, s.failed())
		require.EqualError(t, s.problem(), "the checkpoint store has not answered")
		pass(t.Context(), time.Second)
		synctest.Wait()
		require.ErrorIs(t, s.failed(), context.DeadlineExceeded)
		pass(t.Context(), time.Second)
		synctest.Wait()
		require.Len(t, l.attempts(), 2)
		assert.WithinDuration(t, began.Add(30*time.Second), l.attempts()[1].at, 150*time.Millisecond)
	})
}

// A save with an unclear outcome is repeated with the newest position. Until
// then nothing counts as stored.
func TestSaverRepeatsWhatIsUnclear(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.become(unclear)
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		assert.Equal(t, []replication.LSN{0x2000}, l.lsns())
		assert.EqualValues(t, 0x1000, s.lastSaved().LSN)
		assert.True(t, s.busy())
		s.save(stepAt(0x3000), nil, history{})
		l.answers(nil)
		pass(t.Context(), 200*time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []replication.LSN{0x2000, 0x3000}, l.lsns())
		assert.EqualValues(t, 0x3000, s.lastSaved().LSN)
	})
}

// waitIdle waits for the running save, and discards what waits after it. Then
// the store and lastSaved agree.
func TestSaverRests(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.answers(slowly(4 * time.Second))
		began := time.Now()
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		s.save(stepAt(0x3000), nil, history{})
		require.NoError(t, s.waitIdle(t.Context()))
		assert.Equal(t, 4*time.Second, time.Since(began))
		assert.EqualValues(t, 0x2000, s.lastSaved().LSN)
		assert.Equal(t, []replication.LSN{0x2000}, l.lsns())
		pass(t.Context(), time.Minute)
		synctest.Wait()
		assert.Equal(t, []replication.LSN{0x2000}, l.lsns(), "what waited is not stored later")
		assert.False(t, s.busy())
	})
}

// waitIdle also discards what waits for its next attempt, so that it cannot be
// stored after another instance has looked.
func TestSaverRestsBetweenAttempts(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.become(turnedOff)
		s.save(stepAt(0x2000), nil, history{})
		pass(t.Context(), 10*time.Second)
		synctest.Wait()
		l.answers(nil)
		require.NoError(t, s.waitIdle(t.Context()))
		pass(t.Context(), time.Minute)
		synctest.Wait()
		assert.Empty(t, l.stored())
		s.save(stepAt(0x3000), nil, history{})
		pass(t.Context(), time.Second)
		synctest.Wait()
		assert.Equal(t, []replication.LSN{0x3000}, l.lsns(), "a later request is saved again")
	})
}

// waitIdle waits no longer than its context allows.
func TestSaverRestIsInterrupted(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.answers(slowly(20 * time.Second))
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		cause := errors.New("lock is lost")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, cause)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, s.waitIdle(ctx), cause)
		assert.Equal(t, 3*time.Second, time.Since(began))
	})
}

// moveTo stores in the record where its history continues, and changes nothing
// else. It stores nothing if the record already says so.
func TestSaverMovesTo(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		s.save(stepAt(0x2000), nil, history{timeline: 1, started: "first"})
		synctest.Wait()
		before := s.lastSaved()
		same := historyIn(before.Record)
		require.NoError(t, s.moveTo(t.Context(), same))
		assert.Len(t, l.attempts(), 1)
		pass(t.Context(), time.Minute)
		next := same
		next.timeline, next.started = 2, "second"
		require.NoError(t, s.moveTo(t.Context(), next))
		require.Len(t, l.stored(), 2)
		want := before
		want.Timeline, want.Started, want.SavedAt = 2, "second", time.Now().UTC()
		assert.Equal(t, want, s.lastSaved())
		assert.Equal(t, want.Record, l.last())
	})
}

// A failed moveTo leaves everything unchanged, and waits ten seconds at most.
func TestSaverMovesToAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		before := s.lastSaved()
		l.become(turnedOff)
		require.ErrorContains(t, s.moveTo(t.Context(), history{timeline: 2}), "save checkpoint: checkpoint store is away")
		l.answers(slowly(time.Hour))
		began := time.Now()
		require.ErrorIs(t, s.moveTo(t.Context(), history{timeline: 2}), context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(began))
		assert.Equal(t, before, s.lastSaved())
	})
}

// What is known of the publication and of the past goes into the next record,
// and not into an earlier one.
func TestSaverRemembers(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		s.notePublication("entry 1")
		assert.Equal(t, "entry 1", s.lastKnown().Publication)
		assert.Empty(t, s.lastSaved().Publication)
		past := s.remember(time.Now(), time.Hour)
		require.Len(t, past, 1)
		assert.EqualValues(t, 0x1000, past[0].LSN)
		assert.False(t, past[0].At.Before(time.Now()), "not before now")
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		assert.Equal(t, "entry 1", l.last().Publication)
		assert.Equal(t, past, l.last().Past)
	})
}

// close ends a running save, and waits for it.
func TestSaverCloses(t *testing.T) {
	t.Parallel()
	saving(t, func(t *safe) {
		s, l := t.saver, t.ledger
		l.answers(slowly(time.Hour))
		s.save(stepAt(0x2000), nil, history{})
		synctest.Wait()
		began := time.Now()
		s.close()
		assert.Equal(t, time.Duration(0), time.Since(began))
		assert.Zero(t, l.running)
		s.save(stepAt(0x3000), nil, history{})
		pass(t.Context(), time.Minute)
		assert.Len(t, l.attempts(), 1, "nothing more is stored")
	})
}
