package consume

import (
	"context"
	"fmt"
	"time"
)

// park puts an event behind those of its key that are parked.
func park(ctx context.Context, t transaction, consumer int, i *item) error {
	headers := make([][]byte, 0, 2*len(i.Headers))
	for _, h := range i.Headers {
		headers = append(headers, []byte(h.Name), h.Value)
	}
	var number int64
	return t.row(ctx, `insert into inbox.parked (consumer, topic, key, partition, "offset", at, no_key, value, headers)
		values ($1, $2, $3::bytea, $4, $5, $6, $7, $8::bytea, $9::text::bytea[]) returning number`, []any{
		consumer, i.Topic, laneKey(i.Record), i.Partition, i.Offset, i.Timestamp, i.Key == nil, i.Value, binaries(headers),
	}, []any{&number})
}

// parkFirst parks the key of an event that could not be handled. It reports
// whether to go on.
func (c *Consumer) parkFirst(l *lane, i *item, cause error) bool {
	p := l.partition
	for failures := 1; ; failures++ {
		parked, err := c.parkKey(p.hard, i, l.attempts, cause)
		if err == nil {
			p.done(l, []*item{i})
			l.attempts, l.failures = 0, 0
			if parked {
				c.config.Metrics.parked(c.config.Name, i.Topic)
				c.log.Error("key parked: its events wait until it is released",
					"record", i.String(), "id", i.id, "attempts", max(l.attempts, 1), "error", cause)
			}
			return true
		}
		if natureOfBatch(p.hard, err) == ofSetup {
			c.fail(explain(err))
			return false
		}
		c.log.Warn("key not parked yet", "record", i.String(), "error", err)
		if !pause(p.soft, jittered(c.config.Backoff, failures)) {
			return false
		}
	}
}

// parkKey reports whether it has parked the key: somebody else may have handled
// the event in the meantime.
func (c *Consumer) parkKey(ctx context.Context, i *item, attempts int, cause error) (parked bool, err error) {
	t, err := c.database.begin(ctx)
	if err != nil {
		return false, fmt.Errorf("begin a transaction: %w", err)
	}
	defer t.abort(ctx)
	judged, err := take(ctx, t, c.number, []*item{i}, false)
	if err != nil || !judged.fresh[0] {
		return false, err
	}
	var key bool
	err = t.row(ctx, `insert into inbox.parked_key as k (consumer, topic, key, attempts, reason) values ($1, $2, $3::bytea, $4, $5)
		on conflict (consumer, topic, key) do update set attempts = k.attempts returning true`,
		[]any{c.number, i.Topic, laneKey(i.Record), max(attempts, 1), reason(cause)}, []any{&key})
	if err != nil {
		return false, own(err)
	}
	if err := park(ctx, t, c.number, i); err != nil {
		return false, own(err)
	}
	return true, t.seal(ctx, judged.number, false)
}

// reason is an error in a length that a table can show.
func reason(err error) string {
	const most = 1000
	text := []rune(clean(err.Error()))
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

// Parked is a key whose events wait.
type Parked struct {
	Topic    string
	Key      []byte
	Since    time.Time
	Events   int64 // that wait
	Attempts int
	Reason   string
	Request  Request // what was asked for and is not done yet
}

// Request is what to do with a parked key.
type Request string

// What can be done with a parked key. A running consumer does it.
const (
	Release    Request = "release"     // handle its events again, in order
	DeadLetter Request = "dead letter" // give the first one to Config.DeadLetters, and release the others
)

// ListParked returns the keys of a consumer that are parked, the longest parked first.
func ListParked(ctx context.Context, database Database, consumer string) (all []Parked, err error) {
	err = database.query(ctx, func(scan scanner) error {
		var p Parked
		if err := scan(&p.Topic, &p.Key, &p.Since, &p.Events, &p.Attempts, &p.Reason, &p.Request); err != nil {
			return err
		}
		all = append(all, p)
		return nil
	}, `select k.topic, k.key, k.parked_at, (select count(*) from inbox.parked e where e.consumer = k.consumer and e.topic = k.topic and e.key = k.key),
			k.attempts, k.reason, coalesce(k.request, '')
		from inbox.parked_key k join inbox.consumer c on c.number = k.consumer where c.name = $1 order by k.parked_at`, consumer)
	return all, explain(err)
}

// Ask requests something for a parked key, or for all keys of a topic if key is
// nil. It returns for how many.
func Ask(ctx context.Context, database Database, consumer, topic string, key []byte, request Request, by string) (keys int, err error) {
	err = database.query(ctx, func(scan scanner) error { return scan(&keys) }, `with asked as (
			update inbox.parked_key k set request = $4, requested_by = $5 from inbox.consumer c
			where c.number = k.consumer and c.name = $1 and k.topic = $2 and ($3::bytea is null or k.key = $3::bytea) returning 1)
		select count(*) from asked`, consumer, topic, key, string(request), by)
	return keys, explain(err)
}
