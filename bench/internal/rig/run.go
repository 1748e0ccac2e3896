package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/outboxstream/streamer/bench/internal/broker"
	"github.com/outboxstream/streamer/bench/internal/contender"
	"github.com/outboxstream/streamer/bench/internal/report"
	"github.com/outboxstream/streamer/bench/internal/workload"
)

// Run plays every workload. Each result is added to the report as soon as it
// exists. keep is called after each workload, so that a run that is ended early
// leaves what it has.
func (r *Rig) Run(ctx context.Context, result *report.Report, keep func() error) error {
	r.describe(ctx, result)
	for _, w := range r.options.Workloads {
		w = w.Scaled(r.options.Scale)
		result.Workloads = append(result.Workloads, report.Described{Name: w.Name, About: describe(w)})
		err := r.play(ctx, w, result)
		if err := errors.Join(err, keep()); err != nil {
			return err
		}
	}
	return nil
}

// play plays all rounds of one workload. The order of the contenders changes
// from round to round, so that none always runs on a cold or a warm machine.
func (r *Rig) play(ctx context.Context, w workload.Workload, result *report.Report) (err error) {
	s, err := r.set(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.clear(s)) }() //nolint:contextcheck // cleaning up outlives the context
	for round := range r.options.Rounds {
		for i := range r.contenders {
			c := r.contenders[(i+round)%len(r.contenders)]
			if !takesPart(c, w) {
				continue
			}
			measured := r.measure(ctx, s, c)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			for i := range measured {
				measured[i].Round = round + 1
				r.tell(measured[i])
			}
			result.Results = append(result.Results, measured...)
		}
	}
	return nil
}

// takesPart reports whether a workload is for a contender. Steady rates are for
// relays, and for contenders that show their floor.
func takesPart(c contender.Contender, w workload.Workload) bool {
	switch {
	case len(w.Only) > 0:
		return matchesAny(c.Name(), w.Only)
	case c.Name() == contender.RawRequests:
		return false
	case w.Steady():
		return c.Kind() == contender.Relay || c.Kind() == contender.Writer || c.Name() == contender.RawProduce
	}
	return c.Kind() != contender.Writer
}

// measure lets a contender work on a workload once. Errors are part of the
// result.
func (r *Rig) measure(ctx context.Context, s *stage, c contender.Contender) []report.Result {
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.Limit, fmt.Errorf("not done after %v", r.options.Limit))
	defer cancel()
	r.runs++
	t, err := r.task(s)
	if err == nil {
		err = r.makeReady(ctx, s, t)
	}
	var results []report.Result
	if err == nil {
		if s.workload.Steady() {
			results, err = r.steady(ctx, s, c, t)
		} else {
			results, err = r.catchUp(ctx, s, c, t)
		}
		if err != nil {
			err = withLog(err, t)
		}
	}
	if clearErr := r.clearTask(s, t); clearErr != nil { //nolint:contextcheck // cleaning up outlives the context
		err = errors.Join(err, clearErr)
	}
	if err != nil {
		results = append(results, report.Result{Workload: s.workload.Name, Contender: c.Name(), Failure: err.Error()})
	}
	return results
}

// task names the resources of a contender: nothing is used twice.
func (r *Rig) task(s *stage) (contender.Task, error) {
	name := fmt.Sprintf("%s_%d", s.database, r.runs)
	t := contender.Task{
		Folder: filepath.Join(r.folder.Path, name), DSN: r.postgres.DSN(s.database), Port: r.postgres.Port(),
		Database: s.database, Slot: name, Publication: publication, End: s.end,
		Brokers: r.kafka.Brokers(), Prefix: name + ".",
		Rows: s.workload.Rows, Payload: s.workload.PayloadBytes, Types: s.workload.Types,
	}
	for _, name := range s.workload.TypeNames() {
		t.Topics = append(t.Topics, t.Prefix+name)
	}
	if err := os.Mkdir(t.Folder, 0o700); err != nil {
		return t, fmt.Errorf("create folder: %w", err)
	}
	return t, nil
}

func (r *Rig) makeReady(ctx context.Context, s *stage, t contender.Task) error {
	if s.workload.Steady() {
		// The audit must find the rows of this contender only.
		if err := s.execute(ctx, "TRUNCATE outbox"); err != nil {
			return err
		}
	}
	if err := s.makeSlot(ctx, t.Slot); err != nil {
		return err
	}
	return broker.CreateTopics(ctx, r.kafka, t.Topics, s.workload.Partitions)
}

func (r *Rig) clearTask(s *stage, t contender.Task) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(s.dropSlot(ctx, t.Slot), broker.DeleteTopics(r.kafka, append(t.Internal(), t.Topics...)), os.RemoveAll(t.Folder))
}

func (r *Rig) tell(result report.Result) {
	switch {
	case result.Failure != "":
		r.say("%s round %d: %s FAILED: %s", result.Workload, result.Round, result.Contender, result.Failure)
	case result.Latency != nil:
		r.say("%s round %d: %-18s p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, %.1f µs client; %s", result.Workload, result.Round, result.Contender,
			result.Latency.P50, result.Latency.P99, result.Latency.P999, result.ClientCPU, strings.TrimSpace(result.Verified+" "+result.Suspect))
	default:
		r.say(
			"%s round %d: %-18s %8.0f events/s, CPU %.1f µs client, %.1f µs backend, %d MB, first after %.0f ms; %s",
			result.Workload, result.Round, result.Contender, result.Rate, result.ClientCPU, result.BackendCPU,
			result.PeakMemory>>20, result.FirstEvent, strings.TrimSpace(result.Verified+" "+result.Suspect),
		)
	}
}
