package consume

import (
	"context"
)

// growth is what a partition knows about how its topic has grown.
type growth struct {
	counts []int32 // of partitions, earliest first
	until  int64   // records before this offset were written when the topic had no more than that
	alien  bool    // somebody writes with another partitioner
	passed map[barrier]bool
	noted  map[boundary]bool
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
	for try := 1; i.stale() && r.Offset >= p.growth.until || i.lost() && !p.growth.alien; try++ {
		if err := retry(ctx, p.consumer, func() error { return p.growth.look(ctx, p) }); err != nil {
			return nil, err
		}
		i = p.consumer.prepare(r, p.growth.counts)
		if !i.lost() {
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
