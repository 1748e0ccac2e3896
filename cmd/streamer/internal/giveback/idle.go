package giveback

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

const (
	lookEvery = 200 * time.Millisecond
	// standbyTime is more than a streamer that stands by needs to take a free lock.
	standbyTime = 1500 * time.Millisecond
)

var errInUse = errors.New("the slot is in use")

// holders returns who uses the slot.
func (g *giveBack) holders(ctx context.Context) ([]replication.Holder, error) {
	control, _, err := site.ConnectPostgres(ctx, g.cfg)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	asking, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	return control.Holders(asking)
}

// idle waits until nobody uses the slot.
func (g *giveBack) idle(ctx context.Context, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for said := false; ; said = true {
		holders, err := g.holders(ctx)
		if err != nil {
			return err
		}
		if g.report.Holders = holders; len(holders) == 0 {
			return nil
		}
		if !said && patience > standbyTime {
			fmt.Fprintf(g.std.Err, "waiting for %s until it is free: slot %s is used by %s\n",
				patience, g.cfg.Postgres.Slot, list(holders))
		}
		if time.Now().After(deadline) {
			return inUse(g.cfg.Postgres.Slot, holders)
		}
		if !wait.For(ctx, lookEvery) {
			return context.Cause(ctx)
		}
	}
}

// remain makes sure that nobody uses the slot after the time in which a streamer
// that stands by takes the lock. It finds the checkpoint and ends.
func (g *giveBack) remain(ctx context.Context) error {
	if !wait.For(ctx, standbyTime) {
		return context.Cause(ctx)
	}
	return g.idle(ctx, standbyTime)
}

func inUse(slot string, holders []replication.Holder) error {
	return failure.Refuse(failure.Advise(
		fmt.Errorf("%w: slot %q by %s", errInUse, slot, list(holders)),
		"stop it, and disable it where it would be started again: all instances, also those that stand by"))
}

func list(holders []replication.Holder) string {
	if len(holders) == 0 {
		return "a streamer that has taken it meanwhile"
	}
	var all []string
	for _, h := range holders {
		all = append(all, h.String())
	}
	return strings.Join(all, "; ")
}
