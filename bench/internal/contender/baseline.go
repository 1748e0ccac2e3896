package contender

import (
	"context"
	"os/exec"
	"strings"
)

// Baseline is the obvious Go program, bench/baseline.
type Baseline struct{ Programs Programs }

// Name of the contender.
func (Baseline) Name() string { return "baseline" }

// About says what the program consists of.
func (Baseline) About() string {
	return "the obvious Go program: pglogrepl and sarama's AsyncProducer (idempotent, acks=all, lz4)"
}

// Kind is Relay.
func (Baseline) Kind() Kind { return Relay }

// Command needs no preparation.
func (b Baseline) Command(ctx context.Context, t Task) (*exec.Cmd, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), b.Programs.Of("baseline"),
		"-dsn", t.DSN, "-slot", t.Slot, "-publication", t.Publication, "-brokers", strings.Join(t.Brokers, ","), "-prefix", t.Prefix)
	cmd.Env, cmd.Dir = environment(), t.Folder
	return cmd, nil
}
