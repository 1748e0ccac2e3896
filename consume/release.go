package consume

import (
	"context"
	"fmt"
)

// serveRequests does what was requested for parked keys.
func (c *Consumer) serveRequests(ctx context.Context) error {
	type request struct {
		topic string
		key   []byte
	}
	var all []request
	parked := 0
	err := c.database.query(ctx, func(scan scanner) error {
		var r request
		var asked bool
		if err := scan(&r.topic, &r.key, &asked); err != nil {
			return err
		}
		parked++
		if asked {
			all = append(all, r)
		}
		return nil
	}, "select topic, key, request is not null from inbox.parked_key where consumer = $1", c.number)
	if err != nil {
		return fmt.Errorf("look for requests: %w", err)
	}
	c.config.Metrics.parkedKeys(c.config.Name, parked)
	for _, r := range all {
		if err := c.drain(ctx, r.topic, r.key); err != nil {
			return err
		}
	}
	return nil
}

// drain handles the events of a parked key until there are none, or until one fails
// too often.
func (c *Consumer) drain(ctx context.Context, topic string, key []byte) error {
	for failures := 0; ; {
		probe, err := c.gate.enter(ctx)
		if err != nil {
			return err
		}
		more, err := c.drainOne(ctx, topic, key)
		what := natureOfBatch(ctx, err)
		c.gate.leave(probe, err, what)
		switch {
		case err == nil && !more:
			return nil
		case err == nil:
			failures = 0
			continue
		case what == ofSetup || what == cancelled:
			return explain(err)
		case what == outage:
			continue
		case what != passing:
			failures++
		}
		if failures >= c.config.Attempts || what == hopeless {
			return c.parkAgain(ctx, topic, key, failures, err)
		}
		if !pause(ctx, jittered(c.config.Backoff, max(failures, 1))) {
			return ctx.Err()
		}
	}
}

// waiting is the first event of a parked key.
type waiting struct {
	record  Record
	request Request
	cause   DeadLetterCause
	number  string // of the transaction
}

// drainOne handles the first event of a parked key. The lock on the key keeps
// others from doing the same, and newer events from passing by.
func (c *Consumer) drainOne(ctx context.Context, topic string, key []byte) (more bool, err error) {
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer c.slots.Release(1)
	t, err := c.database.begin(ctx)
	if err != nil {
		return false, Unavailable(err)
	}
	defer t.abort(ctx)
	w, found, err := c.first(ctx, t, topic, key)
	if err != nil || !found {
		return false, own(err)
	}
	if w.record.Topic == "" { // none is left
		return false, t.seal(ctx, w.number, false)
	}
	i := c.prepare(&w.record, nil)
	switch {
	case w.request == DeadLetter && c.config.DeadLetters == nil:
		return false, nil
	case w.request == DeadLetter:
		if err := c.config.DeadLetters(ctx, w.record, w.cause); err != nil {
			return false, Unavailable(fmt.Errorf("dead letter %s: %w", i, err))
		}
		c.log.Info("event given to the dead letters", "record", i.String(), "id", i.id)
	case i.invalid != nil:
		return false, Unhandleable(i.invalid)
	default:
		if err := c.call(ctx, t, i); err != nil {
			return false, fmt.Errorf("handle %s: %w", i, err)
		}
		c.config.Metrics.handled(c.config.Name, topic)
	}
	return true, t.seal(ctx, w.number, false)
}

// first locks a key and removes its first event. If there is none it removes the
// key, and the record has no topic. found is false if nothing is requested, or if
// somebody else is at it.
func (c *Consumer) first(ctx context.Context, t transaction, topic string, key []byte) (w waiting, found bool, err error) {
	w.cause.Consumer, w.cause.Group = c.config.Name, c.config.Group
	var locked int
	err = t.row(ctx, `with locked as (
			select request, attempts, reason, parked_at from inbox.parked_key
			where consumer = $1 and topic = $2 and key = $3::bytea and request is not null for update skip locked)
		select count(*), coalesce(min(request), ''), coalesce(min(attempts), 0), coalesce(min(reason), ''),
			coalesce(min(parked_at), now()), pg_current_xact_id()::text from locked`, []any{c.number, topic, key},
		[]any{&locked, &w.request, &w.cause.Attempts, &w.cause.Reason, &w.cause.ParkedAt, &w.number})
	if err != nil || locked == 0 {
		return waiting{}, false, err
	}
	var headers string
	var noKey bool
	var left int
	err = t.row(ctx, `with gone as (
			delete from inbox.parked where consumer = $1 and topic = $2 and key = $3::bytea and number = (
				select min(number) from inbox.parked where consumer = $1 and topic = $2 and key = $3::bytea)
			returning *),
		released as (update inbox.parked_key set request = 'release' where consumer = $1 and topic = $2 and key = $3::bytea
			and request = 'dead letter' and exists (select from gone))
		select count(*), coalesce(min(partition), 0), coalesce(min("offset"), 0), coalesce(min(at), now()), coalesce(bool_or(no_key), false),
			(select value from gone), coalesce((select array_to_json(array(
				select encode(h, 'base64') from unnest(headers) with ordinality u (h, n) order by n))::text from gone), '[]')
		from gone`, []any{c.number, topic, key},
		[]any{&left, &w.record.Partition, &w.record.Offset, &w.record.Timestamp, &noKey, &w.record.Value, &headers})
	if err != nil {
		return waiting{}, false, err
	}
	if left == 0 {
		return w, true, t.row(ctx, `delete from inbox.parked_key where consumer = $1 and topic = $2 and key = $3::bytea returning attempts`,
			[]any{c.number, topic, key}, []any{&w.cause.Attempts})
	}
	w.record.Topic = topic
	if !noKey {
		w.record.Key = key
	}
	w.record.Headers, err = headersOf(headers)
	return w, true, err
}

// parkAgain takes a request back that could not be fulfilled.
func (c *Consumer) parkAgain(ctx context.Context, topic string, key []byte, attempts int, cause error) error {
	c.log.Error("key parked again", "topic", topic, "attempts", attempts, "error", cause)
	return c.database.query(ctx, ignore, `update inbox.parked_key set request = null, attempts = attempts + $4, reason = $5
		where consumer = $1 and topic = $2 and key = $3::bytea`, c.number, topic, key, attempts, reason(cause))
}
