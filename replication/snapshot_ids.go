package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
)

// idReader reads a temporary copy of the slot, from where the slot begins. The
// slot itself stays where it is.
type idReader struct{ lane *lane }

const (
	// mostMessages bounds what the server prepares for one answer.
	mostMessages = 2_000_000
	// eachAnswer is how long to wait for the server before the caller is called.
	eachAnswer = 100 * time.Millisecond
)

func openIDs(ctx context.Context, c Config, s Server, from LSN) (*idReader, error) {
	l, err := openLane(ctx, c, s, from)
	if err != nil {
		return nil, explainIDs(c, err)
	}
	return &idReader{l}, nil
}

func (r *idReader) leave() { r.lane.leave() }

// read hands out the messages of every transaction that has committed below to.
func (r *idReader) read(ctx context.Context, w *waker, to LSN, visit func([]byte) error, each func() error) error {
	for {
		messages, err := r.stretch(ctx, w, to, visit, each)
		if err != nil {
			return explainIDs(r.lane.config, err)
		}
		if messages < mostMessages {
			return nil // the limit has not cut it short
		}
	}
}

// stretch reads one answer and returns how many messages it had.
func (r *idReader) stretch(ctx context.Context, w *waker, to LSN, visit func([]byte) error, each func() error) (messages int, err error) {
	if err := r.lane.ask(r.lane.at, to, mostMessages); err != nil {
		return 0, err
	}
	for {
		m, done, err := r.lane.next()
		switch {
		case err != nil:
			return messages, err
		case done != nil:
			return messages, nil
		case m.Kind == Data:
			messages++
			if err := visit(m.Data); err != nil {
				return messages, err
			}
			continue
		}
		if ctx.Err() != nil {
			return messages, context.Cause(ctx)
		}
		if err := each(); err != nil {
			return messages, err
		}
		if _, err := w.fill(&r.lane.feed, time.Now().Add(eachAnswer)); err != nil {
			return messages, err
		}
	}
}

// explainIDs says what a snapshot needs where streaming does without.
func explainIDs(c Config, err error) error {
	if refused, ok := errors.AsType[*NoCatchUpError](err); ok {
		return failure.Advise(
			fmt.Errorf("a snapshot needs a temporary copy of slot %q: %s", c.Slot, refused.Reason),
			"make sure that one of max_replication_slots is free",
		)
	}
	return err
}
