package consume

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Partition is a partition that is assigned to a consumer. Deliver is called by
// one goroutine at a time.
type Partition struct {
	consumer *Consumer
	topic    string
	number   int32
	commit   func(next int64)
	room     *semaphore.Weighted // what the window takes
	growth   growth

	soft, hard context.Context // soft ends when no new transaction may begin, hard ends those that there are
	end, kill  context.CancelFunc

	mu      sync.Mutex
	lanes   map[string]*lane
	window  window
	entries map[*item]*entry
	ranges  map[arrival]string // where the range begins that grows now
	closed  bool
	running sync.WaitGroup

	folding sync.Mutex
	high    atomic.Int64 // the offset after the partition's last record, as far as it is known
}

// High tells the offset after the partition's last record, for the metrics.
func (p *Partition) High(offset int64) { p.high.Store(offset) }

// Deliver takes a record, in the order of offsets. It waits while the window is
// full, and while the record's key has earlier events in another partition.
func (p *Partition) Deliver(ctx context.Context, r Record) error {
	i, err := p.place(ctx, &r)
	if err != nil {
		return err
	}
	if i.invalid == nil && !i.skip {
		if err := p.consumer.admit(i); err != nil {
			p.consumer.fail(err)
			return err
		}
	}
	if i.position.ordered {
		if err := p.begin(ctx, i.arrival(), i.position.sequence); err != nil {
			return err
		}
	}
	if former, moved := i.moved(); moved {
		if err := p.arrive(ctx, i, former); err != nil {
			return err
		}
	}
	if err := p.room.Acquire(ctx, 1); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return context.Canceled
	}
	e := p.window.add(i)
	if i.skip {
		e.done = true
		p.advanceLocked()
		return nil
	}
	p.entries[i] = e
	key := string(laneKey(i.Record))
	l := p.lanes[key]
	if l != nil {
		l.waiting = append(l.waiting, i)
		return nil
	}
	l = &lane{partition: p, key: key, waiting: []*item{i}}
	p.lanes[key] = l
	p.running.Go(func() { p.consumer.work(l) })
	return nil
}

// next returns the first events of a lane, or nil if the lane has ended. None of
// them is there twice, and the same ranges judge them all.
func (p *Partition) next(l *lane, most int) []*item {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(l.waiting) == 0 || p.closed {
		delete(p.lanes, l.key)
		return nil
	}
	batch := l.waiting[:min(most, len(l.waiting))]
	for n, i := range batch {
		same := func(before *item) bool { return before.id == i.id && before.source == i.source }
		if !i.judges.equal(batch[0].judges) || slices.ContainsFunc(batch[:n], same) {
			batch = batch[:n]
			break
		}
	}
	return slices.Clone(batch)
}

// done notes that events are handled, parked, or passed over.
func (p *Partition) done(l *lane, items []*item) {
	if len(items) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.waiting = l.waiting[len(items):]
	for _, i := range items {
		p.entries[i].done = true
		delete(p.entries, i)
	}
	p.advanceLocked()
}

func (p *Partition) advanceLocked() {
	p.room.Release(int64(p.window.advance(p.consumer.config.Keep > 0)))
}

// abandon ends a lane whose events stay undone.
func (p *Partition) abandon(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lanes, l.key)
}

const foldStatement = `select inbox.fold($1::integer, $2::text, $3::integer, $4::bigint,
	$5::text::text[], $6::text::integer[], $7::text::text[], $8::text::text[], $9::text::text[], $10::text::text[])`

// fold stores what is done without a gap, and then commits its offset.
func (p *Partition) fold(ctx context.Context) error {
	p.folding.Lock()
	defer p.folding.Unlock()
	p.mu.Lock()
	ready := p.window.ready
	p.window.ready = folded{}
	var streams, firsts, lasts []string
	var since []int32
	for a, sequence := range ready.streams {
		streams, since = append(streams, a.stream), append(since, a.since)
		firsts, lasts = append(firsts, p.ranges[a]), append(lasts, sequence)
	}
	p.mu.Unlock()
	if ready.next == 0 {
		return nil
	}
	err := p.consumer.database.query(ctx, ignore, foldStatement, p.consumer.number, p.topic, p.number, ready.next,
		texts(streams), integers(since), texts(firsts), texts(lasts), texts(ready.sources), texts(ready.ids))
	if err != nil {
		p.mu.Lock()
		p.window.ready.merge(ready)
		p.mu.Unlock()
		return fmt.Errorf("store how far %s-%d is handled: %w", p.topic, p.number, err)
	}
	p.commit(ready.next)
	p.consumer.config.Metrics.behind(p.consumer.config.Name, p.topic, strconv.Itoa(int(p.number)), max(0, p.high.Load()-ready.next))
	return nil
}

func ignore(scanner) error { return nil }

// Close ends the partition: transactions that have begun are finished, unless ctx
// ends before, and what is done is committed. Nothing is committed after it.
func (p *Partition) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	stop := context.AfterFunc(ctx, p.kill)
	p.running.Wait()
	stop()
	p.kill()
	p.consumer.forget(p)
	defer p.consumer.config.Metrics.gone(p.consumer.config.Name, p.topic, strconv.Itoa(int(p.number)))
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFold)
	defer cancel()
	return p.fold(last)
}
