package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// watched runs the session, and beside it the goroutine that asks the server
// how the slot is and notices when the lock is lost, and those that keep the past
// and clean up.
func (t *tenure) watched(ctx context.Context, s *session) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	observer := t.control.observe(t.table)
	defer func() {
		observer.Close()
		t.table = observer.Table()
	}()
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() {
		if err := t.watch(watching, observer, s.watchLag); err != nil {
			s.end(err)
		}
	})
	t.purpose.accompany(watching, &beside, t, s)
	return s.run(ctx)
}

// errPromoted tells that the server has left the timeline that is being read.
var errPromoted = errors.New("server has been promoted")

// watch asks the server at intervals, and tells what it has seen; it owns the
// SQL connection meanwhile.
func (t *tenure) watch(ctx context.Context, o observer, seen func(replication.Slot)) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	var lastTable time.Time
	for {
		timed, cancel := context.WithTimeout(ctx, pingTimeout)
		slot, err := t.control.Slot(timed)
		if err == nil && time.Since(lastTable) >= tableEvery {
			lastTable = time.Now()
			err = t.inspect(timed, o, slot)
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && slot.InStandby != t.server.InStandby {
			err = errPromoted
		}
		if err != nil {
			return err
		}
		t.config.Metrics.Slot(slot)
		seen(slot)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// inspect makes sure that the table is published, and was since the last look.
func (t *tenure) inspect(ctx context.Context, o observer, slot replication.Slot) error {
	table, findings, err := o.Look(ctx)
	if err != nil {
		return err
	}
	if err := replication.Refusal(findings); err != nil {
		return &locatedError{err, fmt.Sprintf("rows committed between %s, when it was last seen in order, and %s are in question", t.inspected, slot.Flushed)}
	}
	t.pipeline.flow.saver.notePublication(t.control.membership(table))
	t.inspected = slot.Flushed
	return nil
}
