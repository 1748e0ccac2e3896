package consume

import (
	"context"
	"maps"
	"slices"
	"time"
)

// growth is what a partition knows about how its topic has grown.
//
// A topic that gets more partitions moves keys, to new partitions and between old
// ones. The streamer writes nothing of a moved key to its new home before
// everything of its former home is in Kafka. But whoever reads the new home first
// would handle a later event before an earlier one. So the first event that has
// come from elsewhere waits until all other partitions are handled up to their
// present ends, or up to the first event that has come from elsewhere to them.
type growth struct {
	counts []int32          // of partitions, earliest first
	until  int64            // records before this offset were written when the topic had no more than that
	alien  bool             // somebody writes with another partitioner
	passed map[arrival]bool // whose barrier is passed
}

// arrival is the coming of keys to a partition. Only those that have come at the
// same time are in the order of their sequences: what a streamer that crashed had
// not yet published may be written to a partition that has later events already,
// of keys that were there before.
type arrival struct {
	stream string
	since  int32 // the number of partitions that brought them
}

// look asks how many partitions the topic has had, and has now.
func (g *growth) look(ctx context.Context, p *Partition) error {
	c := p.consumer
	end, err := c.client.End(ctx, p.topic, p.number) // before the question: see until
	if err != nil {
		return err
	}
	count, err := c.client.Partitions(ctx, p.topic)
	if err != nil {
		return err
	}
	err = c.database.query(ctx, ignore, `insert into inbox.topic (consumer, topic, partitions)
		select $1, $2, n from unnest($3::text::integer[]) as former (n) on conflict do nothing`,
		c.number, p.topic, integers(append([]int32{count}, c.config.FormerPartitions[p.topic]...)))
	if err != nil {
		return err
	}
	var counts []int32
	err = c.database.query(ctx, func(scan scanner) error {
		var n int32
		if err := scan(&n); err != nil {
			return err
		}
		counts = append(counts, n)
		return nil
	}, "select partitions from inbox.topic where consumer = $1 and topic = $2 and partitions <= $3 order by partitions", c.number, p.topic, count)
	if err == nil {
		g.counts, g.until = counts, end
	}
	return err
}

// place finds out what a record is. If it is not where its key belongs now, the
// topic may have grown.
func (p *Partition) place(ctx context.Context, r *Record) (*item, error) {
	const tries = 10
	i := p.consumer.prepare(r, p.growth.counts)
	for try := 1; i.former && r.Offset >= p.growth.until || i.lost && !p.growth.alien; try++ {
		if err := retry(ctx, p.consumer, func() error { return p.growth.look(ctx, p) }); err != nil {
			return nil, err
		}
		i = p.consumer.prepare(r, p.growth.counts)
		if !i.lost {
			break
		}
		// Some broker may not know of the new partitions yet.
		if p.growth.alien = try == tries; p.growth.alien {
			p.consumer.log.Warn("records are not where Java's partitioner puts their keys: after a growth of the topic, replays are not recognized, and keys are not kept in order",
				"topic", p.topic, "partition", p.number)
		} else if !pause(ctx, barrierEvery) {
			return nil, ctx.Err()
		}
	}
	return i, nil
}

const barrierEvery = 200 * time.Millisecond

// barrier waits until everything is handled that may be from before an arrival.
func (p *Partition) barrier(ctx context.Context, i *item) error {
	a := i.arrival()
	if p.growth.passed[a] {
		return nil
	}
	c := p.consumer
	ends := map[int32]int64{}
	err := retry(ctx, c, func() error {
		err := c.database.query(ctx, ignore, `insert into inbox.growth (consumer, topic, partition, partitions, stream, first, "offset")
			values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing`, c.number, p.topic, p.number, a.since, a.stream, i.position.sequence, i.Offset)
		for number := range slices.Max(p.growth.counts) {
			if err == nil && number != p.number {
				ends[number], err = c.client.End(ctx, p.topic, number)
			}
		}
		return err
	})
	for said := time.Now(); err == nil && len(ends) > 0; {
		if err = retry(ctx, c, func() error { return p.behind(ctx, a, ends) }); err != nil || len(ends) == 0 {
			break
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			c.log.Info("keys have come from other partitions: waiting until those are handled up to here",
				"topic", p.topic, "partition", p.number, "waits_for", slices.Sorted(maps.Keys(ends)))
		}
		if !pause(ctx, barrierEvery) {
			err = ctx.Err()
		}
	}
	if err == nil {
		p.growth.passed[a] = true
	}
	return err
}

// behind removes the partitions that have come as far: to their end, or to where
// keys have arrived there, too. Markers before that are nobody's to handle.
func (p *Partition) behind(ctx context.Context, a arrival, ends map[int32]int64) error {
	c := p.consumer
	handled := map[int32]int64{}
	targets := maps.Clone(ends)
	err := c.database.query(ctx, func(scan scanner) error {
		var number int32
		var offset int64
		var arrived *int64
		if err := scan(&number, &offset, &arrived); err != nil {
			return err
		}
		handled[number] = offset
		if end, waited := targets[number]; waited && arrived != nil {
			targets[number] = min(end, *arrived)
		}
		return nil
	}, `select p.partition, p.next_offset, (
			select min(g."offset") from inbox.growth g where g.consumer = p.consumer and g.topic = p.topic
				and g.partition = p.partition and g.partitions >= $3 and g.stream = $4)
		from inbox.position p where p.consumer = $1 and p.topic = $2`, c.number, p.topic, a.since, a.stream)
	if err != nil {
		return err
	}
	for number, until := range targets {
		from, known := handled[number]
		if !known {
			continue
		}
		holds, err := c.client.Holds(ctx, p.topic, number, from, until)
		if err != nil {
			return err
		}
		if !holds {
			delete(ends, number)
		}
	}
	return nil
}
