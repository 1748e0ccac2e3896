package consume

import (
	"context"
	"maps"
	"slices"
	"time"
)

// A topic that gets more partitions moves keys, to new partitions and between old
// ones. The streamer writes nothing of a moved key to its new home before
// everything of its former home is in Kafka. But whoever reads the new home first
// would handle a later event before an earlier one. So the first event that has
// come from elsewhere waits until all other partitions are handled up to their
// present ends, or up to the first event that has come from elsewhere to them.

// arrival is the coming of keys to a partition. Only those that have come at the
// same time are in the order of their sequences: what a streamer that crashed had
// not yet published may be written to a partition that has later events already,
// of keys that were there before.
type arrival struct {
	stream string
	since  int32 // the number of partitions that brought them
}

// barrier is where a partition waits for others. A replay may publish what is not
// handled yet where it was, while the stream still writes there. So the stream's
// own events wait once more.
type barrier struct {
	arrival
	replay bool
}

// boundary is what separates the events of keys that are in their former partition
// from those that are in the new one.
type boundary struct {
	arrival
	former int32
}

const (
	barrierEvery = 200 * time.Millisecond
	// stuckAfter is how long partitions have to wait for each other before one of
	// them goes on.
	stuckAfter = 10 * time.Second
)

// arrive waits until everything is handled that may be from before an event whose
// key has come from another partition.
func (p *Partition) arrive(ctx context.Context, i *item, former int32) error {
	a := i.arrival()
	if i.position.ordered {
		if err := p.note(ctx, boundary{a, former}, i.position.sequence); err != nil {
			return err
		}
	}
	if p.growth.passed[barrier{a, false}] || !i.position.ordered && p.growth.passed[barrier{a, true}] {
		return nil
	}
	b := barrier{a, !i.position.ordered}
	waits, err := p.open(ctx, b, i.Offset)
	if err == nil && waits {
		err = p.wait(ctx, b)
	}
	if err != nil {
		return err
	}
	p.growth.passed[b] = true
	return nil
}

// note stores a boundary: the stream's first event beyond it is the one that comes
// first, as those that come from one partition to another are in order.
func (p *Partition) note(ctx context.Context, b boundary, sequence string) error {
	if p.growth.noted[b] {
		return nil
	}
	err := p.store(ctx, `insert into inbox.growth (consumer, topic, partition, partitions, former, stream, first)
		values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`, b.since, b.former, b.stream, sequence)
	p.growth.noted[b] = err == nil
	return err
}

// open stores where a barrier is, and reports whether it is still closed.
func (p *Partition) open(ctx context.Context, b barrier, offset int64) (waits bool, err error) {
	err = p.store(ctx, `insert into inbox.arrival (consumer, topic, partition, partitions, stream, replay, "offset")
		values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`, b.since, b.stream, b.replay, offset)
	if err != nil {
		return false, err
	}
	c := p.consumer
	err = retry(ctx, c, func() error {
		return c.database.query(ctx, func(scan scanner) error { return scan(&waits) }, `select waits from inbox.arrival
			where consumer = $1 and topic = $2 and partition = $3 and partitions = $4 and stream = $5 and replay = $6`,
			c.number, p.topic, p.number, b.since, b.stream, b.replay)
	})
	return waits, err
}

// store runs a statement about this partition until the database is there.
func (p *Partition) store(ctx context.Context, statement string, arguments ...any) error {
	c := p.consumer
	return retry(ctx, c, func() error {
		return c.database.query(ctx, ignore, statement, append([]any{c.number, p.topic, p.number}, arguments...)...)
	})
}

// wait waits at a barrier, and opens it.
func (p *Partition) wait(ctx context.Context, b barrier) error {
	ends, err := p.endsOfOthers(ctx)
	if err != nil {
		return err
	}
	log := p.consumer.log.With("topic", p.topic, "partition", p.number)
	said := time.Now()
	var stuck time.Time // since when; zero: not
	for {
		var seen progress
		err := retry(ctx, p.consumer, func() (err error) {
			if seen, err = p.survey(ctx); err == nil {
				err = p.drop(ctx, b, seen, ends)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(ends) == 0 {
			break
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			log.Info("keys have come from other partitions: waiting until those are handled up to here", "waits_for", slices.Sorted(maps.Keys(ends)))
		}
		switch deadlocked, err := p.deadlocked(ctx, b, seen); {
		case err != nil || !deadlocked:
			stuck = time.Time{}
		case stuck.IsZero():
			stuck = time.Now()
		case time.Since(stuck) > stuckAfter:
			log.Warn("keys of several streams have moved, and partitions wait for each other: going on, so that events of these keys may be handled before earlier ones")
			clear(ends)
			continue
		}
		if !pause(ctx, barrierEvery) {
			return ctx.Err()
		}
	}
	return p.store(ctx, `update inbox.arrival set waits = false
		where consumer = $1 and topic = $2 and partition = $3 and partitions = $4 and stream = $5 and replay = $6`, b.since, b.stream, b.replay)
}

// endsOfOthers returns where the other partitions end at present.
func (p *Partition) endsOfOthers(ctx context.Context) (map[int32]int64, error) {
	c := p.consumer
	ends := map[int32]int64{}
	err := retry(ctx, c, func() (err error) {
		for number := range slices.Max(p.growth.counts) {
			if err == nil && number != p.number {
				ends[number], err = c.client.End(ctx, p.topic, number)
			}
		}
		return err
	})
	return ends, err
}

// progress is how far partitions are, and where they wait.
type progress struct {
	handled map[int32]int64
	waits   []stand
}

type stand struct {
	barrier
	partition int32
	offset    int64
	still     bool
}

// survey asks the inbox how far the partitions of the topic are.
func (p *Partition) survey(ctx context.Context) (progress, error) {
	seen := progress{handled: map[int32]int64{}}
	c := p.consumer
	err := c.database.query(ctx, func(scan scanner) error {
		var number int32
		var next int64
		err := scan(&number, &next)
		seen.handled[number] = next
		return err
	}, "select partition, next_offset from inbox.position where consumer = $1 and topic = $2", c.number, p.topic)
	if err != nil {
		return progress{}, err
	}
	err = c.database.query(ctx, func(scan scanner) error {
		var w stand
		err := scan(&w.partition, &w.since, &w.stream, &w.replay, &w.offset, &w.still)
		seen.waits = append(seen.waits, w)
		return err
	}, `select partition, partitions, stream, replay, "offset", waits from inbox.arrival where consumer = $1 and topic = $2`, c.number, p.topic)
	return seen, err
}

// drop removes the partitions that have come as far: to their end, or to where
// keys have arrived there, too. Markers before that are nobody's to handle.
func (p *Partition) drop(ctx context.Context, b barrier, seen progress, ends map[int32]int64) error {
	for number, until := range maps.Clone(ends) {
		for _, w := range seen.waits {
			if w.partition == number && w.stream == b.stream && (b.replay || !w.replay && w.since >= b.since) {
				until = min(until, w.offset)
			}
		}
		ahead, err := p.ahead(ctx, seen, number, until)
		if err != nil {
			return err
		}
		if !ahead {
			delete(ends, number)
		}
	}
	return nil
}

// ahead reports whether a partition has something to handle below an offset.
func (p *Partition) ahead(ctx context.Context, seen progress, number int32, until int64) (bool, error) {
	next, known := seen.handled[number]
	if !known {
		return true, nil
	}
	return p.consumer.client.Holds(ctx, p.topic, number, next, until)
}

// deadlocked reports whether no partition of the topic can go on, because keys of
// several streams have moved: what one of them waits for is behind the barrier of
// another. It does so in one of these partitions, which then goes on.
func (p *Partition) deadlocked(ctx context.Context, b barrier, seen progress) (bool, error) {
	barriers := map[int32]int64{}
	foreign := false
	for _, w := range seen.waits {
		if !w.still || seen.handled[w.partition] > w.offset { // Kafka has removed what it waited with
			continue
		}
		if w.partition < p.number {
			return false, nil
		}
		barriers[w.partition] = w.offset
		foreign = foreign || w.stream != b.stream
	}
	if !foreign {
		return false, nil
	}
	for number := range slices.Max(p.growth.counts) {
		until, stands := barriers[number]
		if !stands {
			var err error
			if until, err = p.consumer.client.End(ctx, p.topic, number); err != nil {
				return false, err
			}
		}
		if ahead, err := p.ahead(ctx, seen, number, until); ahead || err != nil {
			return false, err
		}
	}
	return true, nil
}
