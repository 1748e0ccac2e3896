package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

// Cleanup configures what becomes of rows that have been published.
type Cleanup struct {
	Mode      CleanupMode
	Retention time.Duration // how long rows are kept, by Column
	Column    string        // holds the time of a row
	Batch     int           // rows per transaction
	Pause     time.Duration // between two transactions
	Interval  time.Duration // between two queries, when there was nothing to do
}

// CleanupMode is a way to remove rows.
type CleanupMode string

// The ways to remove rows.
const (
	CleanupNone           CleanupMode = "none"
	CleanupDelete         CleanupMode = "delete"
	CleanupDropPartitions CleanupMode = "drop-partitions"
)

const (
	// cleanupLook is how many batches one query may find.
	cleanupLook = 20
	// cleanupTimeout bounds one statement.
	cleanupTimeout = time.Minute
)

// cleaner removes published rows, on its own connection, while a session runs.
type cleaner struct {
	ground
	Cleanup
	flow    *flow
	entry   int // of the table, or of the pattern of tables
	control *replication.Control
}

// keepHouse removes rows until ctx ends. It logs failures, which do not affect
// the stream.
func keepHouse(ctx context.Context, g ground, how Cleanup, f *flow, source replication.Config, entry int) {
	if how.Mode == CleanupNone || how.Mode == "" {
		return
	}
	source.LockTimeout = 0 // it holds no lock
	for {
		c := &cleaner{ground: g, Cleanup: how, flow: f, entry: entry}
		err := c.run(ctx, source)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, replication.ErrLocked) {
			g.log.Warn("outbox table could not be cleaned up; streaming continues", "table", source.Outboxes[entry].Table, "err", err)
		}
		if !wait.For(ctx, how.Interval) {
			return
		}
	}
}

// run cleans up until something fails.
func (c *cleaner) run(ctx context.Context, config replication.Config) error {
	var err error
	if c.control, err = replication.Connect(ctx, config); err != nil {
		return err
	}
	defer c.control.Close()
	if err := c.control.BeGentle(ctx); err != nil {
		return err
	}
	clean := c.deleteRows
	if c.Mode == CleanupDropPartitions {
		clean = c.dropPartitions
	}
	for {
		more, err := c.cleanAll(ctx, clean)
		if err != nil {
			return err
		}
		if !more && !wait.For(ctx, c.Interval) {
			return ctx.Err()
		}
	}
}

// cleanAll cleans up the tables of the entry as they are now.
func (c *cleaner) cleanAll(
	ctx context.Context, clean func(context.Context, replication.Table) (bool, error),
) (more bool, err error) {
	var tables []replication.Table
	err = timed(ctx, func(ctx context.Context) error {
		tables, err = c.control.DescribeTables(ctx)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.Outbox.Entry != c.entry || !t.Published {
			continue
		}
		again, err := clean(ctx, t)
		if err != nil {
			return false, err
		}
		more = more || again
	}
	return more, nil
}

// deleteRows queries once and removes what it found. There may be more if it
// found as many rows as it takes at once.
func (c *cleaner) deleteRows(ctx context.Context, t replication.Table) (more bool, err error) {
	var rows replication.Removal
	err = timed(ctx, func(ctx context.Context) error {
		rows, err = c.control.Removable(ctx, t, c.Column, time.Now().Add(-c.Retention), cleanupLook*c.Batch)
		return err
	})
	if err != nil || rows.Len() == 0 {
		return false, err
	}
	more = rows.Len() == cleanupLook*c.Batch
	if err := c.wait(ctx, rows.Settled); err != nil {
		return false, err
	}
	for rows.Len() > 0 {
		err := timed(ctx, func(ctx context.Context) error {
			removed, err := c.control.Remove(ctx, rows.Cut(c.Batch))
			c.config.Metrics.Removed(int(removed))
			return err
		})
		if err != nil {
			return false, err
		}
		if !wait.For(ctx, c.Pause) {
			return false, ctx.Err()
		}
	}
	return more, nil
}

func (c *cleaner) dropPartitions(ctx context.Context, t replication.Table) (more bool, err error) {
	var partitions []string
	var settled replication.LSN
	err = timed(ctx, func(ctx context.Context) error {
		partitions, settled, err = c.control.OldPartitions(ctx, t, c.Column, time.Now().Add(-c.Retention))
		return err
	})
	if err != nil || len(partitions) == 0 {
		return false, err
	}
	if err := c.wait(ctx, settled); err != nil {
		return false, err
	}
	for _, partition := range partitions {
		if err := timed(ctx, func(ctx context.Context) error { return c.control.DropPartition(ctx, t, partition) }); err != nil {
			return false, err
		}
		c.log.Info("partition of the outbox table dropped: all of its rows were published", "partition", partition)
	}
	return false, nil
}

// timed bounds a statement.
func timed(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return do(ctx)
}

// wait returns when everything below lsn is published and a stored checkpoint
// covers it.
func (c *cleaner) wait(ctx context.Context, lsn replication.LSN) error {
	c.flow.eager.Store(true)
	defer c.flow.eager.Store(false)
	for c.flow.saver.lastSaved().LSN < lsn {
		if !wait.For(ctx, pollInterval) {
			return context.Cause(ctx)
		}
	}
	return nil
}
