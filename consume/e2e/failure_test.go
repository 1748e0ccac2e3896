package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
)

// oneSentence asserts that an error names the thing, and one remedy.
func oneSentence(t *testing.T, err error, parts ...string) {
	t.Helper()
	require.Error(t, err)
	for _, part := range parts {
		assert.ErrorContains(t, err, part)
	}
	assert.Equal(t, 1, strings.Count(err.Error(), "fix: "), err.Error())
}

// An event that fails is tried again, and then its key waits. Others go on.
func TestParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var attempts atomic.Int32
	w.setBreak(func(e event.Event) error {
		if e.ID() == "e2" {
			attempts.Add(1)
			return fmt.Errorf("%w: no such account", errBroken)
		}
		return nil
	})
	config := w.config()
	config.Attempts = 3
	r := w.start(config, w.pgx())
	p := r.assign(0)
	r.deliver(p, record(0, 0, "a", 1), record(0, 1, "a", 2), record(0, 2, "b", 3), record(0, 3, "a", 4), record(0, 4, "b", 5))
	r.settled(0, 5)
	r.deliver(p, record(0, 5, "a", 6), record(0, 6, "b", 7))
	r.settled(0, 7)
	assert.ElementsMatch(t, []string{"e1", "e3", "e5", "e7"}, w.ids())
	assert.GreaterOrEqual(t, attempts.Load(), int32(3))

	parked, err := consume.ListParked(t.Context(), w.pgx(), "billing")
	require.NoError(t, err)
	require.Len(t, parked, 1)
	assert.Equal(t, "a", string(parked[0].Key))
	assert.Equal(t, int64(3), parked[0].Events)
	assert.Contains(t, parked[0].Reason, "no such account")

	// A restart changes nothing about it, and neither does a repeat.
	r.close(p)
	r.stop()
	require.NoError(t, r.failure())
	clear(w.committed)
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "a", 2), record(0, 3, "a", 4), record(0, 5, "a", 6), record(0, 7, "a", 8))
	assert.Len(t, w.ids(), 4)

	// Released while it still fails: it is parked again.
	ask := func(request consume.Request) {
		keys, err := consume.Ask(t.Context(), w.pgx(), "billing", topic, []byte("a"), request, "operator")
		require.NoError(t, err)
		assert.Equal(t, 1, keys)
	}
	r = w.start(config, w.pgx())
	p = r.assign(0)
	ask(consume.Release)
	w.eventually("it is parked again", func() bool {
		return w.count("select count(*) from inbox.parked_key where request is null and attempts > 3") == 1
	})
	w.setBreak(nil)
	ask(consume.Release)
	w.eventually("it is released", func() bool { return w.count("select count(*) from inbox.parked_key") == 0 })
	r.deliver(p, record(0, 8, "a", 9))
	r.settled(0, 9)
	assert.Equal(t, []string{"e2", "e4", "e6", "e8", "e9"}, w.ids()[4:])
	assert.Zero(t, w.count("select count(*) from inbox.parked"))
	assert.Zero(t, w.count(ledger))
}

// The event that cannot be handled is given away, and the others go on.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.setBreak(func(e event.Event) error {
		if e.ID() == "e1" {
			return consume.Unhandleable(errBroken)
		}
		return nil
	})
	var letters []consume.Record
	config := w.config()
	config.DeadLetters = func(_ context.Context, r consume.Record, cause consume.DeadLetterCause) error {
		letters = append(letters, r)
		assert.Equal(t, "billing", cause.Consumer)
		assert.Contains(t, cause.Reason, errBroken.Error())
		return nil
	}
	r := w.start(config, w.pgx())
	p := r.assign(0)
	first := record(0, 0, "a", 1, consume.Header{Name: "odd", Value: []byte{0, 0xff, '"', '\\'}}, consume.Header{Name: "null"})
	r.deliver(p, first, record(0, 1, "a", 2))
	r.settled(0, 2)
	_, err := consume.Ask(t.Context(), w.pgx(), "billing", topic, nil, consume.DeadLetter, "operator")
	require.NoError(t, err)
	w.eventually("the key is free", func() bool { return w.count("select count(*) from inbox.parked_key") == 0 })
	r.close(p)
	r.stop()
	require.NoError(t, r.failure())
	assert.Equal(t, []string{"e2"}, w.ids())
	require.Len(t, letters, 1)
	letters[0].Timestamp = letters[0].Timestamp.In(first.Timestamp.Location())
	assert.Equal(t, first, letters[0])
}

// A record that is no event parks its key. The others of the partition go on.
func TestNoCloudEvent(t *testing.T) {
	t.Parallel()
	future := record(0, 1, "b", 2)
	future.Headers[0].Value = []byte("2.0")
	for _, c := range []struct {
		record consume.Record
		reason string
	}{
		{consume.Record{Topic: topic, Offset: 1, Key: []byte("b"), Value: []byte("hello")}, "no CloudEvent"},
		{consume.Record{Topic: topic, Offset: 1, Key: []byte("b")}, "no CloudEvent"},
		{future, `specversion "2.0"`},
		{foreign(0, 1, "b", ""), "no valid CloudEvent"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.handle(0, record(0, 0, "a", 1), c.record, record(0, 2, "b", 3), record(0, 3, "a", 4))
			assert.Equal(t, []string{"e1", "e4"}, w.ids())
			parked, err := consume.ListParked(t.Context(), w.pgx(), "billing")
			require.NoError(t, err)
			require.Len(t, parked, 1)
			assert.Contains(t, parked[0].Reason, c.reason)
			assert.Equal(t, int64(2), parked[0].Events)
		})
	}
}

// A handler that ends the transaction loses and repeats nothing. It is told so.
func TestHandlerEndsTheTransaction(t *testing.T) {
	t.Parallel()
	through := map[string]func(w *world, end bool) consume.Database{}
	for _, statement := range []string{"commit", "rollback", "commit; begin", "rollback; begin"} {
		through["pgx "+statement] = func(w *world, end bool) consume.Database {
			return consume.PGX(w.pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
				if _, err := tx.Exec(ctx, effect, e.Subject(), e.ID(), e.Source()); err != nil {
					return err
				}
				if end && e.ID() == "e2" {
					_, err := tx.Conn().PgConn().Exec(ctx, statement).ReadAll()
					return err
				}
				return nil
			})
		}
	}
	through["pgx Commit"] = func(w *world, end bool) consume.Database {
		return consume.PGX(w.pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
			if _, err := tx.Exec(ctx, effect, e.Subject(), e.ID(), e.Source()); err != nil || !end {
				return err
			}
			return tx.Commit(ctx)
		})
	}
	through["sql Commit"] = func(w *world, end bool) consume.Database {
		db, err := sql.Open("pgx", w.dsn)
		require.NoError(w, err)
		w.Cleanup(func() { _ = db.Close() })
		return consume.SQL(db, func(ctx context.Context, tx *sql.Tx, e event.Event) error {
			if _, err := tx.ExecContext(ctx, effect, e.Subject(), e.ID(), e.Source()); err != nil || !end {
				return err
			}
			return tx.Commit()
		})
	}
	for name, database := range through {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			r := w.start(w.config(), database(w, true))
			p := r.assign(0)
			// In one batch, as the lane is busy with the first event meanwhile.
			r.deliver(p, record(0, 0, "a", 1), record(0, 1, "a", 2), record(0, 2, "a", 3))
			err := r.failure()
			oneSentence(t, err, "transaction")
			r.close(p)
			w.handle2(database(w, false), record(0, 0, "a", 1), record(0, 1, "a", 2), record(0, 2, "a", 3))
			assert.Equal(t, []string{"e1", "e2", "e3"}, w.ids())
		})
	}
}

// handle2 is handle with a database.
func (w *world) handle2(database consume.Database, records ...consume.Record) {
	w.Helper()
	r := w.start(w.config(), database)
	p := r.assign(0)
	r.deliver(p, records...)
	r.settled(0, records[len(records)-1].Offset+1)
	r.close(p)
	r.stop()
	require.NoError(w, r.failure())
}

// What the handler needs is down: nothing is parked, and only one event at a time
// is tried.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var down atomic.Bool
	var at, most, tries atomic.Int32
	down.Store(true)
	tripped := atomic.Bool{}
	w.setBreak(func(event.Event) error {
		if tripped.Load() && down.Load() {
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
		}
		if down.Load() {
			tries.Add(1)
			return consume.Unavailable(errBroken)
		}
		return nil
	})
	config := w.config()
	config.Attempts = 2
	r := w.start(config, w.pgx())
	p := r.assign(0)
	for n := range 200 {
		r.deliver(p, record(0, int64(n), fmt.Sprint("k", n%50), n+1))
		if n == 100 {
			w.eventually("it was tried", func() bool { return tries.Load() > 20 })
			tripped.Store(true)
		}
	}
	before := tries.Load()
	w.eventually("it is tried again and again", func() bool { return tries.Load() > before+5 })
	down.Store(false)
	r.settled(0, 200)
	assert.Len(t, w.ids(), 200)
	assert.LessOrEqual(t, most.Load(), int32(1))
	assert.Zero(t, w.count("select count(*) from inbox.parked_key"))
}

// Errors of the set-up are said at once.
func TestSetUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.handle(0, record(0, 0, "a", 1))
	run := func(change func(*consume.Config)) error {
		config := w.config()
		change(&config)
		c, err := consume.New(config, w.pgx())
		if err != nil {
			return err
		}
		return c.Run(t.Context(), w, func(context.Context) error { return nil })
	}
	oneSentence(t, run(func(c *consume.Config) { c.Group = "" }), `group id of consumer "billing" is empty`)
	oneSentence(t, run(func(c *consume.Config) { c.Name = "" }), "no name")
	oneSentence(t, run(func(c *consume.Config) { c.Topics = nil }), "no topics")
	oneSentence(t, run(func(c *consume.Config) { c.Batch = -1 }), "negative")
	oneSentence(t, run(func(c *consume.Config) { c.Group = "other" }), `belongs to the group "billing", not to "other"`)
	w.exec("drop schema inbox cascade")
	oneSentence(t, run(func(*consume.Config) {}), "the inbox is missing", "schema")
}

// The inbox disappears while events are handled: nothing is handled without it.
func TestInboxDisappears(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	r := w.start(w.config(), w.pgx())
	p := r.assign(0)
	r.deliver(p, record(0, 0, "a", 1))
	r.settled(0, 1)
	w.exec("drop schema inbox cascade")
	r.deliver(p, record(0, 1, "a", 2))
	oneSentence(t, r.failure(), "the inbox is missing")
	assert.Equal(t, []string{"e1"}, w.ids())
	r.close(p)
}

// A panic is an error of the event.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.setBreak(func(e event.Event) error {
		if e.ID() == "e1" {
			panic("oh no")
		}
		return nil
	})
	config := w.config()
	config.Attempts = 1
	r := w.start(config, w.pgx())
	p := r.assign(0)
	r.deliver(p, record(0, 0, "a", 1), record(0, 1, "b", 2))
	r.settled(0, 2)
	assert.Equal(t, []string{"e2"}, w.ids())
}

// A deferred constraint fails when the batch commits, and does not say for which
// event. The others are handled all the same.
func TestDeferredConstraint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec(`create function no4() returns trigger language plpgsql as $$ begin
		if new.id = 'e4' then raise exception 'not this one'; end if; return null; end $$;
		create constraint trigger no4 after insert on effect deferrable initially deferred for each row execute function no4()`)
	config := w.config()
	config.Attempts = 2
	r := w.start(config, w.pgx())
	p := r.assign(0)
	for n := 1; n <= 8; n++ {
		r.deliver(p, record(0, int64(n-1), "a", n))
	}
	r.settled(0, 8)
	assert.Equal(t, []string{"e1", "e2", "e3"}, w.ids())
	parked, err := consume.ListParked(t.Context(), w.pgx(), "billing")
	require.NoError(t, err)
	require.Len(t, parked, 1)
	assert.Equal(t, int64(5), parked[0].Events)
	assert.Contains(t, parked[0].Reason, "not this one")
}
