package rig

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/outboxstream/streamer/bench/internal/broker"
	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/process"
	"github.com/outboxstream/streamer/bench/internal/report"
)

// catchUp lets a contender read what was written before.
func (r *Rig) catchUp(ctx context.Context, s *stage, c contender.Contender, t contender.Task) ([]report.Result, error) {
	result := report.Result{Workload: s.workload.Name, Contender: c.Name(), Events: t.Rows}
	sampler, err := process.NewSampler(r.postgres.PID(), r.kafka.PID(0))
	if err != nil {
		return nil, err
	}
	if c.Kind() == contender.Reader {
		err = readAll(ctx, c, t, sampler, &result)
		sampler.Stop()
		return []report.Result{result}, err
	}
	arrivals, err := broker.OpenArrivals(ctx, t.Brokers, t.Topics, isolation(c))
	if err != nil {
		sampler.Stop()
		return nil, err
	}
	err = relayAll(ctx, c, t, sampler, arrivals, &result)
	sampler.Stop()
	if err == nil {
		err = r.audit(ctx, c, t, arrivals, &result)
	}
	if err := errors.Join(err, arrivals.Close()); err != nil {
		return nil, err
	}
	return []report.Result{result}, nil
}

// readAll measures a reader, which ends on its own.
func readAll(ctx context.Context, c contender.Contender, t contender.Task, sampler *process.Sampler, result *report.Result) error {
	p, err := start(ctx, c, t)
	if err != nil {
		return err
	}
	sampler.Watch(p.process.PID())
	before := sampler.Usage()
	if err := p.wait(ctx); err != nil {
		return err
	}
	took := time.Since(p.began)
	used := sampler.Usage()
	before.Client, used.Client = 0, p.cpu()
	result.Seconds = took.Seconds()
	result.Rate = float64(t.Rows) / took.Seconds()
	result.TotalRate = result.Rate
	charge(result, used, before)
	result.ClientTotal = result.ClientCPU
	return nil
}

// relayAll measures a contender that writes into Kafka.
func relayAll(
	ctx context.Context, c contender.Contender, t contender.Task, sampler *process.Sampler,
	arrivals *broker.Arrivals, result *report.Result,
) error {
	p, err := start(ctx, c, t)
	if err != nil {
		return err
	}
	defer p.process.Kill() // no effect on one that has ended
	sampler.Watch(p.process.PID())
	var before, after process.Usage
	allocations := meter(c, t)
	moments, err := arrivals.Watch(ctx, t.Rows, p.process.Done(), broker.Observer{
		First: func() { before = sampler.Usage(); allocations(ctx) },
		Last:  func() { after = sampler.Usage() },
	})
	if err != nil {
		return err
	}
	made := allocations(ctx)
	// Asking allocates, too. A second request measures how much.
	result.Allocations = max(0, made-allocations(ctx)) / float64(t.Rows)
	if c.Kind() == contender.Producer {
		err = p.wait(ctx)
	} else {
		err = p.stop()
	}
	if err != nil {
		return err
	}
	took := moments.Last.Sub(moments.First)
	result.Seconds = took.Seconds()
	if took > 0 { // otherwise all arrived at once, which yields no rate
		result.Rate = float64(t.Rows) / took.Seconds()
	}
	result.TotalRate = float64(t.Rows) / moments.Last.Sub(p.began).Seconds()
	result.FirstEvent = float64(moments.First.Sub(p.began)) / float64(time.Millisecond)
	charge(result, after, before)
	result.ClientTotal = perEvent(p.cpu(), t.Rows)
	return nil
}

// charge divides what was consumed between two moments by the number of events.
func charge(result *report.Result, after, before process.Usage) {
	result.ClientCPU = perEvent(after.Client-before.Client, result.Events)
	result.BackendCPU = perEvent(after.Backends-before.Backends, result.Events)
	result.BrokerCPU = perEvent(after.Broker-before.Broker, result.Events)
	result.PeakMemory = after.PeakMemory
	result.Others = after.Others(before, runtime.NumCPU())
}

// perEvent is in microseconds.
func perEvent(used time.Duration, events int64) float64 {
	return float64(used) / float64(time.Microsecond) / float64(events)
}

// meter returns a function that reports how many objects a contender has
// allocated since the previous call; 0 if that is unknown.
func meter(c contender.Contender, t contender.Task) func(context.Context) float64 {
	metered, ok := c.(contender.Metered)
	last := int64(-1)
	return func(ctx context.Context) float64 {
		if !ok {
			return 0
		}
		now, err := metered.Allocations(ctx, t)
		if err != nil {
			ok = false // not measured; the events count
			return 0
		}
		before := last
		if last = now; before < 0 {
			return 0
		}
		return float64(now - before)
	}
}

// audit examines what is in Kafka after a contender has ended.
func (r *Rig) audit(
	ctx context.Context, c contender.Contender, t contender.Task, arrivals *broker.Arrivals,
	result *report.Result,
) (err error) {
	if result.TopicBytes, err = broker.Bytes(r.kafka, t.Topics); err != nil {
		return err
	}
	verifier, ok := c.(contender.Verifier)
	if ok {
		result.Verified, err = verifier.Verify(ctx, t)
		if err != nil && ctx.Err() == nil {
			result.Suspect, err = err.Error(), nil
		}
		return err
	}
	count, err := arrivals.Final(ctx)
	if err != nil {
		return err
	}
	result.Verified = fmt.Sprintf("%d records", count)
	if count != t.Rows {
		result.Suspect = fmt.Sprintf("%d rows written, %d records found", t.Rows, count)
	}
	return nil
}
