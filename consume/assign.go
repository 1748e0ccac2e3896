package consume

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"
)

// Assign begins with a partition. committed is the group's offset, negative if it
// has none. start is where to read from: what the database says counts, so that a
// database that was restored from a backup gets the events again that it lacks.
// commit is called with offsets to commit, until the partition is closed.
func (c *Consumer) Assign(ctx context.Context, topic string, number int32, committed int64, commit func(next int64)) (p *Partition, start int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("begin with %s-%d: %w", topic, number, explain(err))
		}
	}()
	p = &Partition{
		consumer: c, topic: topic, number: number, commit: commit,
		room: semaphore.NewWeighted(int64(c.config.Window)), lanes: map[string]*lane{},
		entries: map[*item]*entry{}, ranges: map[arrival]string{}, growth: growth{passed: map[barrier]bool{}, noted: map[boundary]bool{}},
	}
	oldest, err := c.client.Oldest(ctx, topic, number)
	if err != nil {
		return nil, 0, err
	}
	start, gap, err := c.startOf(ctx, topic, number, committed, oldest)
	if err != nil {
		return nil, 0, err
	}
	if err := p.load(ctx, gap); err != nil {
		return nil, 0, err
	}
	p.soft, p.end = context.WithCancel(context.WithoutCancel(ctx))
	p.hard, p.kill = context.WithCancel(context.WithoutCancel(ctx))
	c.mu.Lock()
	c.assigned[p] = struct{}{}
	c.mu.Unlock()
	return p, start, nil
}

// startOf returns where to read from, and whether records were left out.
func (c *Consumer) startOf(ctx context.Context, topic string, number int32, committed, oldest int64) (start int64, gap bool, err error) {
	stored := int64(-1)
	err = c.database.query(ctx, func(scan scanner) error { return scan(&stored) },
		"select next_offset from inbox.position where consumer = $1 and topic = $2 and partition = $3", c.number, topic, number)
	if err != nil {
		return 0, false, err
	}
	switch {
	case stored < 0:
		start = max(committed, oldest)
		err = c.database.query(ctx, ignore, `insert into inbox.position (consumer, topic, partition, next_offset)
			values ($1, $2, $3, $4) on conflict do nothing`, c.number, topic, number, start)
		return start, false, err
	case committed < 0:
		start = oldest // the group has lost its offsets: everything comes again, and is known
	default:
		start = min(stored, committed)
	}
	if committed > stored {
		c.log.Warn("the group's offset is above what the database has handled: reading from there again",
			"topic", topic, "partition", number, "committed", committed, "handled", stored)
	}
	if stored < oldest {
		c.log.Error("records were removed from Kafka before they were handled",
			"topic", topic, "partition", number, "handled", stored, "oldest", oldest)
		return oldest, true, nil
	}
	return max(start, oldest), false, nil
}

// load reads the ranges of a partition, and how many partitions the topic has had.
func (p *Partition) load(ctx context.Context, gap bool) error {
	err := p.consumer.database.query(ctx, func(scan scanner) error {
		var a arrival
		var first string
		if err := scan(&a.stream, &a.since, &first); err != nil {
			return err
		}
		if !gap {
			p.ranges[a] = first // the latest one is the last
		}
		return nil
	}, "select stream, partitions, first from inbox.range where consumer = $1 and topic = $2 and partition = $3 order by first",
		p.consumer.number, p.topic, p.number)
	if err != nil {
		return err
	}
	return p.growth.look(ctx, p)
}

// begin notes where a range begins.
func (p *Partition) begin(ctx context.Context, a arrival, first string) error {
	p.mu.Lock()
	_, known := p.ranges[a]
	p.mu.Unlock()
	if known {
		return nil
	}
	err := retry(ctx, p.consumer, func() error {
		return p.consumer.database.query(ctx, ignore, `insert into inbox.range (consumer, topic, partition, stream, partitions, first)
			values ($1, $2, $3, $4, $5, $6) on conflict do nothing`, p.consumer.number, p.topic, p.number, a.stream, a.since, first)
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges[a] = first
	return nil
}

// retry repeats what only an outage keeps from working.
func retry(ctx context.Context, c *Consumer, work func() error) error {
	for failures := 1; ; failures++ {
		err := work()
		if err == nil || ctx.Err() != nil {
			return err
		}
		c.log.Warn("will be tried again", "error", explain(err))
		if !pause(ctx, jittered(c.config.Backoff, failures)) {
			return ctx.Err()
		}
	}
}
