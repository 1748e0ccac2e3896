package rig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/bench/internal/broker"
	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/process"
	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/workload"
)

const (
	inserters = 4 // connections that insert at the same time
	warmUp    = 2 * time.Second
)

// steadyRun is one contender while events are created at steady rates.
type steadyRun struct {
	rig      *Rig
	workload workload.Workload
	listener *broker.Listener
	sampler  *process.Sampler
	makers   []workload.Make
	ended    <-chan struct{} // of the contender; nil: there is no process
	next     int64           // number of the next event
}

// steady measures latency. A contender of kind Producer is no process here: the
// harness itself produces into Kafka, for the floor of what is achievable.
func (r *Rig) steady(ctx context.Context, s *stage, c contender.Contender, t contender.Task) (results []report.Result, err error) {
	arrivals, err := broker.OpenArrivals(ctx, t.Brokers, t.Topics, isolation(c))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, arrivals.Close()) }()
	listener, err := broker.Listen(t.Brokers, arrivals.Partitions(), isolation(c))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	run := &steadyRun{rig: r, workload: s.workload, listener: listener}
	switch c.Kind() {
	case contender.Producer:
		results, err = run.produce(ctx, c, t)
	case contender.Writer:
		results, err = run.write(ctx, c, t)
	default:
		results, err = r.relaySteadily(ctx, run, c, t)
	}
	if err != nil {
		return nil, err
	}
	t.Rows = run.next
	last := &results[len(results)-1]
	return results, r.audit(ctx, c, t, arrivals, last)
}

// produce is the floor: nothing between the maker and Kafka.
func (run *steadyRun) produce(ctx context.Context, c contender.Contender, t contender.Task) (results []report.Result, err error) {
	producer, err := broker.OpenProducer(t.Brokers, broker.NewRecords(t.Prefix, t.Types, t.Payload))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	run.makers = []workload.Make{producer.Make}
	return run.unwatched(ctx, c)
}

// write does what an application does that needs no outbox, or thinks so: it
// commits and then produces.
func (run *steadyRun) write(ctx context.Context, c contender.Contender, t contender.Task) (results []report.Result, err error) {
	producer, err := broker.OpenProducer(t.Brokers, broker.NewRecords(t.Prefix, t.Types, t.Payload))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	closeAll, err := run.connect(ctx, t.DSN)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	for i, insert := range run.makers {
		run.makers[i] = func(ctx context.Context, n, rows int64) error {
			if err := insert(ctx, n, rows); err != nil {
				return err
			}
			return producer.Make(ctx, n, rows)
		}
	}
	return run.unwatched(ctx, c)
}

// unwatched measures without a process whose CPU could be measured.
func (run *steadyRun) unwatched(ctx context.Context, c contender.Contender) (results []report.Result, err error) {
	if run.sampler, err = process.NewSampler(0, 0); err != nil {
		return nil, err
	}
	defer run.sampler.Stop()
	return run.rates(ctx, c)
}

// relaySteadily runs a contender while the harness inserts.
func (r *Rig) relaySteadily(
	ctx context.Context, run *steadyRun, c contender.Contender, t contender.Task,
) (results []report.Result, err error) {
	closeAll, err := run.connect(ctx, t.DSN)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	if run.sampler, err = process.NewSampler(r.postgres.PID(), r.kafka.PID(0)); err != nil {
		return nil, err
	}
	defer run.sampler.Stop()
	p, err := start(ctx, c, t)
	if err != nil {
		return nil, err
	}
	defer p.process.Kill() // no effect on one that has ended
	run.sampler.Watch(p.process.PID())
	run.ended = p.process.Done()
	if results, err = run.rates(ctx, c); err != nil {
		return nil, err
	}
	return results, p.stop()
}

// connect opens the inserters' connections, and returns a function that closes
// them.
func (run *steadyRun) connect(ctx context.Context, dsn string) (closeAll func() error, err error) {
	var conns []*pgx.Conn
	closeAll = func() error {
		var problems []error
		for _, conn := range conns {
			problems = append(problems, conn.Close(context.WithoutCancel(ctx)))
		}
		return errors.Join(problems...)
	}
	for range inserters {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect to PostgreSQL: %w", err), closeAll())
		}
		conns = append(conns, conn)
		run.makers = append(run.makers, run.workload.Inserter(conn))
	}
	return closeAll, nil
}

// rates goes through the rates of the workload, after a first event that shows
// that the contender is working.
func (run *steadyRun) rates(ctx context.Context, c contender.Contender) (results []report.Result, err error) {
	if _, err := run.at(ctx, 1, 1); err != nil {
		return nil, fmt.Errorf("first event: %w", err)
	}
	for _, rate := range run.workload.Rates {
		if _, err := run.at(ctx, rate, whole(rate, warmUp)); err != nil {
			return nil, fmt.Errorf("warm-up at %d events/s: %w", rate, err)
		}
		result := report.Result{
			Workload:  report.RateName(run.workload.Name, rate),
			Contender: c.Name(),
			Events:    whole(rate, run.workload.Duration),
		}
		before, began := run.sampler.Usage(), time.Now()
		profiled := run.rig.profile(ctx, c, result.Workload, run.workload.Duration)
		took, err := run.at(ctx, rate, result.Events)
		if err == nil {
			err = profiled()
		}
		if err != nil {
			return nil, fmt.Errorf("%d events/s: %w", rate, err)
		}
		result.Seconds = time.Since(began).Seconds()
		result.Rate = float64(result.Events) / result.Seconds
		charge(&result, run.sampler.Usage(), before)
		result.Others = 0 // the inserters cannot be distinguished from others
		result.Latency = report.LatencyOf(took)
		results = append(results, result)
	}
	return results, nil
}

// whole is the number of events in the given time, without partial
// transactions.
func whole(rate int, duration time.Duration) int64 {
	events := int64(float64(rate) * duration.Seconds())
	rows := workload.RowsAtRate(rate)
	return max(rows, events-events%rows)
}

// at creates events at a rate and returns how long each took to be consumed.
func (run *steadyRun) at(ctx context.Context, rate int, events int64) ([]time.Duration, error) {
	clock := workload.NewClock(run.next, events)
	run.next += events
	run.listener.Expect(clock)
	if err := clock.Steadily(ctx, rate, run.makers); err != nil {
		return nil, err
	}
	return run.listener.Await(ctx, run.ended)
}
