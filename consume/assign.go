package consume

import (
	"context"
	"fmt"
	"slices"
	"time"

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
		entries: map[*item]*entry{}, ranges: map[string]span{},
	}
	if p.partitions, err = c.client.Partitions(ctx, topic); err != nil {
		return nil, 0, err
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
		var stream, first string
		var begun bool
		if err := scan(&stream, &first, &begun); err != nil {
			return err
		}
		if !gap {
			p.ranges[stream] = span{first: first, begun: begun} // the latest one is the last
		}
		return nil
	}, `select stream, first, last is not null from inbox.range
		where consumer = $1 and topic = $2 and partition = $3 order by first`, p.consumer.number, p.topic, p.number)
	if err != nil {
		return err
	}
	return p.consumer.database.query(ctx, func(scan scanner) error {
		var count int32
		if err := scan(&count); err != nil {
			return err
		}
		p.counts = append(p.counts, count)
		return nil
	}, `select distinct partitions from inbox.range where consumer = $1 and topic = $2 and partitions < $3 order by 1`,
		p.consumer.number, p.topic, p.partitions)
}

// begin opens the range of a stream in this partition with the first event that
// is seen of it, once everything before that event is handled in the others.
//
// A topic that gets more partitions moves keys. The streamer writes nothing of a
// moved key to its new partition before everything old is in the former one. But
// whoever reads the new one first would handle a later event before an earlier
// one. So a partition that is new waits until each other one has come as far, or
// has nothing left. Two new ones do not wait for each other: of two first events
// one is the earlier.
func (p *Partition) begin(ctx context.Context, at position) error {
	p.mu.Lock()
	s, known := p.ranges[at.stream]
	p.mu.Unlock()
	if known && s.begun {
		return nil
	}
	c := p.consumer
	if !known {
		s.first = at.sequence
		err := retry(ctx, c, func() error {
			return c.database.query(ctx, ignore, `insert into inbox.range (consumer, topic, partition, stream, first, partitions)
				values ($1, $2, $3, $4, $5, $6) on conflict do nothing`, c.number, p.topic, p.number, at.stream, s.first, p.partitions)
		})
		if err != nil {
			return err
		}
	}
	if err := p.barrier(ctx, at); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges[at.stream] = span{first: s.first, begun: true}
	return nil
}

const barrierEvery = 200 * time.Millisecond

func (p *Partition) barrier(ctx context.Context, at position) error {
	said := time.Now()
	for {
		var behind []int32
		err := retry(ctx, p.consumer, func() (err error) {
			behind, err = p.othersBehind(ctx, at)
			return err
		})
		if err != nil || len(behind) == 0 {
			return err
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			p.consumer.log.Info("a new partition waits until the others have come as far",
				"topic", p.topic, "partition", p.number, "waits_for", behind)
		}
		if !pause(ctx, barrierEvery) {
			return ctx.Err()
		}
	}
}

// othersBehind returns the partitions that may still have events from before.
func (p *Partition) othersBehind(ctx context.Context, at position) (behind []int32, err error) {
	c := p.consumer
	passed, offsets := map[int32]bool{}, map[int32]int64{}
	err = c.database.query(ctx, func(scan scanner) error {
		var number int32
		var offset int64
		var far bool
		if err := scan(&number, &offset, &far); err != nil {
			return err
		}
		offsets[number], passed[number] = offset, far
		return nil
	}, `select p.partition, p.next_offset, exists (
			select from inbox.range r where r.consumer = p.consumer and r.topic = p.topic and r.partition = p.partition
				and r.stream = $3 and (r.last >= $4::text collate "C" or r.first > $4::text collate "C"))
		from inbox.position p where p.consumer = $1 and p.topic = $2`, c.number, p.topic, at.stream, at.sequence)
	if err != nil {
		return nil, err
	}
	for number := range p.partitions {
		offset, known := offsets[number]
		if number == p.number || passed[number] {
			continue
		}
		if known {
			more, err := c.client.Behind(ctx, p.topic, number, offset)
			if err != nil {
				return nil, err
			}
			if !more {
				continue
			}
		}
		behind = append(behind, number)
	}
	slices.Sort(behind)
	return behind, nil
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
