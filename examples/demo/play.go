package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	rollbackShare = 0.1
	statusEvery   = 2 * time.Second
	deadFor       = time.Second      // how long the killed streamer stays dead
	catchUpLimit  = 20 * time.Second // without any progress
)

// play opens the shop, with the streamer alongside it and a consumer after it.
// It kills the streamer half way, starts it again, waits until everything has
// arrived, and stops it cleanly.
func (d *demo) play(ctx context.Context) (err error) {
	defer func() { err = d.withLog(err) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	viewer := d.view(ctx)
	defer func() { err = errors.Join(err, viewer.close()) }()

	running, err := d.startStreamer(ctx)
	if err != nil {
		return err
	}
	defer func() { running.process.Kill() }() // whichever it is by then; no effect on one that has ended
	d.screen.event(bold, "streamer run: process %d streams from the slot", running.process.PID())

	sales := d.openShop(ctx)
	defer sales.close()
	if err := d.watch(ctx, sales, viewer, running, d.duration/2); err != nil {
		return err
	}
	if running, err = d.crash(ctx, sales, viewer, running); err != nil {
		return err
	}
	if err := d.watch(ctx, sales, viewer, running, d.duration/2); err != nil {
		return err
	}
	sales.close()
	if d.ledger, err = sales.ledger, sales.err; err != nil {
		return fmt.Errorf("shop: %w", err)
	}
	d.screen.event(bold, "the shop is closed: %s", sales.summary())
	if err := d.catchUp(ctx, sales, viewer, running); err != nil {
		return err
	}
	return d.stop(running)
}

// crash kills the streamer, leaves it dead for a moment and starts another one.
func (d *demo) crash(ctx context.Context, sales *sales, viewer *viewer, running *streamer) (*streamer, error) {
	before := sales.now().Events
	running.process.Kill()
	d.screen.event(bold+";"+red, "kill -9 %d: the streamer is dead, the shop goes on", running.process.PID())
	select {
	case <-time.After(deadFor):
	case <-ctx.Done():
		return running, context.Cause(ctx)
	}
	missed := sales.now().Events - before
	viewer.showNext(3)
	next, err := d.startStreamer(ctx)
	if err != nil {
		return running, err
	}
	d.screen.event(
		bold+";"+green, "streamer run: process %d takes up at the checkpoint; %s events were waiting",
		next.process.PID(), grouped(missed),
	)
	return next, nil
}

// watch reports progress at intervals until the duration has passed.
func (d *demo) watch(ctx context.Context, sales *sales, viewer *viewer, running *streamer, duration time.Duration) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	over := time.After(duration)
	for {
		select {
		case <-tick.C:
			events, _ := viewer.published()
			d.screen.event(dim, "%s; %s published", sales.summary(), grouped(events))
		case <-over:
			return nil
		case <-sales.ended:
			return fmt.Errorf("shop closed too early: %w", sales.err)
		case <-viewer.ended:
			return fmt.Errorf("consumer: %w", viewer.err)
		case <-running.process.Done():
			return running.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// catchUp waits until the consumer has seen as many events as were committed.
// If that does not happen, the audit says what is missing.
func (d *demo) catchUp(ctx context.Context, sales *sales, viewer *viewer, running *streamer) error {
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	progress, progressAt := 0, began
	for {
		events, repeated := viewer.published()
		if events >= sales.now().Events {
			d.screen.event(
				bold, "everything has arrived %d ms later: %s events, %s repeated",
				time.Since(began).Milliseconds(), grouped(events), grouped(repeated),
			)
			return nil
		}
		if events > progress {
			progress, progressAt = events, time.Now()
		}
		if time.Since(progressAt) > catchUpLimit {
			d.screen.event(bold+";"+red, "nothing has arrived for %v", catchUpLimit)
			return nil
		}
		select {
		case <-tick.C:
		case <-viewer.ended:
			return fmt.Errorf("consumer: %w", viewer.err)
		case <-running.process.Done():
			return running.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stop stops the streamer cleanly.
func (d *demo) stop(running *streamer) error {
	began := time.Now()
	if err := running.terminate(); err != nil {
		return err
	}
	d.screen.event(
		bold, "SIGTERM: the streamer has drained, saved and confirmed its position, exit code 0 after %d ms",
		time.Since(began).Milliseconds(),
	)
	return nil
}
