package pipeline

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// ReplayTable publishes what the outbox table still holds, as of one moment, in
// the order of q. The configuration has one table. published waits until the stream has published everything
// that commits below a position. Then the table's rows are published again, and
// every other row comes from the stream. The positions of the table's rows are
// no longer known, so the events have no sequence.
func (p *Pipeline) ReplayTable(
	ctx context.Context, q replication.OutboxQuery, published func(context.Context, replication.LSN) error,
) error {
	source, err := p.replication(ctx)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, 2*source.ConnectTimeout)
	control, err := replication.Connect(timed, source)
	cancel()
	if err != nil {
		return err
	}
	defer control.Close()
	t := &tenure{ground: p.ground, pipeline: p, control: postgres{control}, source: source}
	if err := t.check(ctx); err != nil {
		return err
	}
	client, err := kafka.Connect(p.config.Client) //nolint:contextcheck // it has limits of its own, as sarama has
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := t.newTableReplay(ctx, client)
	if err != nil {
		return err
	}
	defer r.close()
	q.Outbox, q.Columns = source.Outboxes[0], p.config.Mappings[0].ColumnNames()
	err = control.ReadOutbox(ctx, q, func(s replication.OutboxSnapshot) error {
		if len(s.Types) == 0 { // no row
			return nil
		}
		// Rows that do not say when they were written get the time of the replay:
		// Kafka deletes records older than its retention.
		if err := r.messages.describe(s.Settled, time.Now(), q.Columns, s.Types); err != nil {
			return err
		}
		return published(ctx, s.Settled)
	}, func(row replication.OutboxRow) error { return r.row(ctx, row) })
	if err != nil {
		return err
	}
	return r.finish(ctx)
}

// tableReplay makes rows of the table look like rows from the WAL.
type tableReplay struct {
	ground
	messages tableMessages
	routes   *router.Router
	producer *router.Producer
	notified chan struct{}
	limiter  *rate.Limiter
}

func (t *tenure) newTableReplay(ctx context.Context, client *kafka.Client) (*tableReplay, error) {
	owner, err := client.Anonymous(ctx)
	if err != nil {
		return nil, err
	}
	rules := t.config.Rules
	rules.Database, rules.StreamID, rules.Replay, rules.Unsequenced = t.server.Database, t.config.Replay.StreamID, t.config.Replay.ID, true
	r := &tableReplay{ground: t.ground, notified: make(chan struct{}, 1), limiter: t.config.Replay.limiter()}
	if r.routes, err = router.NewRouter(rules); err != nil {
		return nil, err
	}
	mapping := t.config.Mappings[0]
	mapping.RelationID = t.tables[0].OID
	r.messages = newTableMessages(mapping)
	r.producer = router.NewProducer(
		t.config.Producer, owner, r.routes, checkpoint.NewTracker(0), t.config.Metrics, func() { ring(r.notified) },
	)
	return r, nil
}

func (r *tableReplay) close() {
	r.producer.Close()
	r.producer.Wait()
}

// row publishes a row.
func (r *tableReplay) row(ctx context.Context, row replication.OutboxRow) error {
	err := r.messages.row(row.Values)
	if poison, ok := errors.AsType[*decoder.PoisonError](err); ok {
		r.passOver(router.PoisonRow, poison)
		return nil
	}
	if err != nil {
		return err
	}
	e := r.messages.decoder.Event()
	if row.Time != 0 {
		e.Time, e.CommitTime = row.Time, row.Time
	} else {
		e.CommitTime = e.Time
	}
	if !r.config.Replay.wants(e, r.routes) {
		return nil
	}
	if r.limiter != nil {
		if delay := r.limiter.Reserve().Delay(); delay >= shortestPause {
			r.producer.Flush(false)
			if !wait.For(ctx, delay) {
				return context.Cause(ctx)
			}
		}
	}
	return r.append(ctx, e)
}

func (r *tableReplay) append(ctx context.Context, e *decoder.Event) error {
	for {
		result, err := r.producer.Append(e)
		if poison, ok := errors.AsType[*router.PoisonError](err); ok && !poison.Late {
			r.passOver(poison.Class, poison)
			return nil
		}
		if err != nil {
			return err
		}
		if r.producer.Ready() || result == router.Blocked {
			r.producer.Flush(false)
			if err := r.collect(ctx, result == router.Blocked); err != nil {
				return err
			}
		}
		if result != router.Blocked {
			return nil
		}
	}
}

// collect processes acknowledgements, and waits for one if wait is set. Topics
// seen for the first time need no checkpoint here: nothing is read back.
func (r *tableReplay) collect(ctx context.Context, wait bool) error {
	if wait {
		timer := time.NewTimer(pollInterval)
		defer timer.Stop()
		select {
		case <-r.notified:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := r.producer.Collect(); err != nil {
		return failure.Refuse(err)
	}
	if r.producer.Unstored() {
		r.producer.Stored(r.producer.Marks(0))
	}
	return nil
}

// finish waits until everything is acknowledged.
func (r *tableReplay) finish(ctx context.Context) error {
	r.producer.Seal()
	for r.producer.Events() > 0 {
		if err := r.collect(ctx, true); err != nil {
			return err
		}
	}
	return nil
}
