package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// watched runs the session. Alongside it runs the goroutine that asks the
// server for the state of the slot and notices when the lock is lost. The
// goroutines that keep the past and clean up also run alongside.
func (t *tenure) watched(ctx context.Context, s *session) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	observer := t.control.observe(t.tables)
	defer func() {
		observer.Close()
		t.tables = observer.Tables()
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

// errPromoted means that the server has left the timeline being read.
var errPromoted = errors.New("server has been promoted")

// watch queries the server at intervals, and reports what it has seen. It owns
// the SQL connection meanwhile.
func (t *tenure) watch(ctx context.Context, o observer, seen func(replication.Slot)) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	var lastTable time.Time
	t.sayUnpublished(ctx)
	for {
		timed, cancel := context.WithTimeout(ctx, pingTimeout)
		slot, err := t.control.Slot(timed)
		if err == nil && time.Since(lastTable) >= tableEvery {
			lastTable = time.Now()
			err = t.inspect(timed, o, slot)
		}
		if err == nil {
			t.lookForStandbys(timed)
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

// inspect makes sure that the tables are published, and have been since the last
// look.
func (t *tenure) inspect(ctx context.Context, o observer, slot replication.Slot) error {
	tables, findings, err := o.Look(ctx)
	if err != nil {
		return err
	}
	if err := replication.Refusal(findings); err != nil {
		return &locatedError{err, fmt.Sprintf(
			"rows committed between %s, when the last check passed, and %s are in question",
			t.inspected, slot.Flushed,
		)}
	}
	t.changed(tables)
	t.pipeline.flow.saver.notePublication(t.control.membership(tables))
	t.inspected = slot.Flushed
	return nil
}
