package consume

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/cloudevents/sdk-go/v2/event"
)

// item is one record on its way through a consumer.
type item struct {
	*Record
	event    event.Event
	position position
	source   string // of the claim
	id       string
	homes    homes // of the key; none if they do not matter
	home     int   // which of them the record is in; -1: in none
	judges   homes // in whose ranges the event can be
	invalid  error // why the record is no event; it is parked
	skip     bool  // not wanted: passed over
}

// arrival says with what an event's key has come to the partition. It tells the
// range of an ordered event.
func (i *item) arrival() arrival {
	if i.home < 0 {
		return arrival{stream: i.position.stream}
	}
	return arrival{i.position.stream, i.homes.since[i.home]}
}

// lost reports whether a record is in no partition that its key can be in.
func (i *item) lost() bool { return len(i.homes.at) > 0 && i.home < 0 }

// stale reports whether a record is not in the key's present partition.
func (i *item) stale() bool { return len(i.homes.at) > 0 && i.home != 0 }

// moved reports whether the key was in another partition before, and which.
func (i *item) moved() (former int32, moved bool) {
	if i.position.sequence == "" || i.home < 0 || i.home+1 >= len(i.homes.at) {
		return 0, false
	}
	return i.homes.at[i.home+1], true
}

// taken is what the inbox says about a batch.
type taken struct {
	number string // of the transaction
	parked bool   // an earlier event of the key is: the fresh ones wait behind it
	fresh  []bool // which of them have not been handled
}

const takeStatement = `select transaction, parked, fresh::text from inbox.take($1::integer, $2::text, $3::text::integer[],
	$4::bytea, $5::text::text[], $6::text::text[], $7::text::text[], $8::text::text[], $9::boolean,
	$10::text::integer[])`

// take claims a batch, in the transaction in which it will be handled.
func take(ctx context.Context, t transaction, consumer int, batch []*item, guarded bool) (taken, error) {
	first := batch[0]
	var sources, ids, streams, orders []string
	for _, i := range batch {
		sources, ids = append(sources, i.source), append(ids, i.id)
		if i.position.sequence == "" {
			streams, orders = append(streams, null), append(orders, null)
			continue
		}
		streams, orders = append(streams, i.position.stream), append(orders, i.position.sequence)
	}
	var result taken
	var fresh string
	err := t.row(ctx, takeStatement, []any{
		consumer, first.Topic, integers(first.judges.at), laneKey(first.Record),
		texts(sources), texts(ids), texts(streams), texts(orders), guarded, integers(first.judges.since),
	}, []any{&result.number, &result.parked, &fresh})
	if err != nil {
		return taken{}, &ownError{err}
	}
	result.fresh = booleans(fresh)
	if len(result.fresh) != len(batch) {
		return taken{}, &ownError{fmt.Errorf("the inbox judged %d of %d events: is its schema the one of this version?", len(result.fresh), len(batch))}
	}
	return result, nil
}

// ownError is an error of the inbox's own statements, so not the event's fault.
type ownError struct{ error }

func (o *ownError) Unwrap() error { return o.error }

// laneKey is what orders events: the key, or the partition of those without one.
func laneKey(r *Record) []byte {
	if r.Key == nil {
		return fmt.Appendf(nil, "\x00no key, partition %d", r.Partition)
	}
	return r.Key
}

// call calls the handler within the trace of the event. A panic is an error.
func (c *Consumer) call(ctx context.Context, t transaction, i *item) (err error) {
	ctx, end := c.span(ctx, i)
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", thrown, debug.Stack())
		}
		end(err)
	}()
	if err := t.handle(ctx, i.event); err != nil {
		return err
	}
	if !t.open() {
		return errHandlerEnded
	}
	return nil
}
