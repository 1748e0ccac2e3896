package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// locatedError is a refusal that names the range in which events are in
// question.
type locatedError struct {
	error
	where string
}

func (e *locatedError) Error() string { return e.error.Error() + "; " + e.where }
func (e *locatedError) Unwrap() error { return e.error }

// locate adds to a refusal the position from which events are in question. Up
// to the checkpoint everything is published.
func (p *Pipeline) locate(ctx context.Context, err error) error {
	if failure.ClassOf(err) != failure.Refused || !aboutHistory(err) {
		return err
	}
	if _, ok := errors.AsType[*locatedError](err); ok {
		return err
	}
	last, ok := p.lastKnown(ctx)
	if !ok || strings.Contains(err.Error(), last.LSN.String()) {
		return err
	}
	return &locatedError{err, fmt.Sprintf(
		"everything committed before the checkpoint %s is published; what was committed from there on is in question",
		last.LSN,
	)}
}

// aboutHistory reports whether a refusal is about what PostgreSQL delivers.
func aboutHistory(err error) bool {
	_, finding := errors.AsType[replication.Finding](err)
	return finding || errors.Is(err, router.ErrOtherHistory) ||
		errors.Is(err, replication.ErrSlotMissing) || errors.Is(err, replication.ErrPublicationSkipped)
}

// lastKnown is the checkpoint, if it can be determined quickly.
func (p *Pipeline) lastKnown(ctx context.Context) (checkpoint.Record, bool) {
	if p.flow != nil {
		return p.flow.saver.lastSaved().Record, true
	}
	if p.left != nil {
		return p.left.saved.Record, true
	}
	if p.server == (replication.Server{}) {
		return checkpoint.Record{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := wait.Talk(ctx, p.peek, nil)
	return r, err == nil
}

// peek reads the stored checkpoint without changing anything.
func (p *Pipeline) peek(ctx context.Context) (checkpoint.Record, error) {
	store, err := openStored(ctx, p.config.Checkpoint, func() (cluster, error) { return p.servers.kafka(p.config.Client) }, p.servers.stored)
	if err != nil {
		return checkpoint.Record{}, err
	}
	defer store.Close()
	return store.Load(ctx, Identity(p.server, p.config.Replication.Slot))
}
