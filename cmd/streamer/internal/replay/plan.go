package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
)

// replay is the command at work, with what it has found on the server.
type replay struct {
	Command
	cfg config.Config
	std console.Streams

	control *replication.Control
	server  replication.Server
	stream  checkpoint.Record // of the stream that is replayed
	rewind  *replication.Slot // nil: there is none
	left    *replication.Slot // of a replay that was interrupted
	record  *checkpoint.Record
}

// look finds out what exists. It leaves the connection open.
func (r *replay) look(ctx context.Context) (err error) {
	if r.control, _, err = site.ConnectPostgres(ctx, r.cfg); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.control.Close()
		}
	}()
	timed, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	if r.server, err = r.control.Identify(timed); err != nil {
		return err
	}
	if r.rewind, err = site.SlotIfAny(timed, r.control, replication.RewindSlot(r.cfg.Postgres.Slot)); err != nil {
		return err
	}
	if r.left, err = site.SlotIfAny(timed, r.control, replication.ReplaySlot(r.cfg.Postgres.Slot)); err != nil || r.Discard {
		return err
	}
	if r.stream, err = site.LoadCheckpoint(ctx, r.cfg, site.IdentityOf(r.server, r.cfg)); err != nil {
		return fmt.Errorf("checkpoint of the stream: %w", err)
	}
	own := site.Replaying(r.cfg)
	record, err := site.LoadCheckpoint(ctx, own, site.IdentityOf(r.server, own))
	if errors.Is(err, checkpoint.ErrNone) {
		return nil
	}
	r.record = &record
	return err
}

const (
	// leavePatience is how long a server may take to notice that a reader is
	// gone. leavePoll is how often it is asked.
	leavePatience = 10 * time.Second
	leavePoll     = leavePatience / 50
)

// drop frees the WAL that the replay keeps. The server may have been restarted
// since the replay began, or be away for a moment.
func (r *replay) drop(ctx context.Context) error {
	var last error
	dropped, _ := wait.Until(ctx, leavePatience, leavePoll, func() (bool, error) {
		last = r.dropOnce(ctx)
		return last == nil || errors.Is(last, replication.ErrSlotMissing), nil
	})
	if dropped {
		return nil
	}
	return last
}

func (r *replay) dropOnce(ctx context.Context) error {
	control, _, err := site.ConnectPostgres(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	return control.Of(replication.ReplaySlot(r.cfg.Postgres.Slot)).DropSlot(ctx)
}

// unused waits a moment for the reader of the replay's slot to leave it.
func (r *replay) unused(ctx context.Context) error {
	if r.left == nil || !r.left.InUse() {
		return nil
	}
	name := r.left.Name
	free, err := wait.Until(ctx, leavePatience, leavePoll, func() (_ bool, err error) {
		r.left, err = site.SlotIfAny(ctx, r.control, name)
		return r.left == nil || !r.left.InUse(), err
	})
	if err == nil && !free {
		err = failure.Refuse(fmt.Errorf("a replay is running: slot %q is in use", name))
	}
	return err
}

// resume returns the interrupted replay, or nil.
func (r *replay) resume(ctx context.Context) (*pipeline.Replay, error) {
	if err := r.unused(ctx); err != nil || r.left == nil {
		return nil, err
	}
	if r.complete() {
		return nil, errors.Join(errWasComplete, r.drop(ctx))
	}
	stored := r.unfinished()
	if stored == nil { // it ended before it had published anything, or when all was done
		return nil, r.drop(ctx)
	}
	if stored.Request != r.request() {
		return nil, failure.Refuse(failure.Advise(
			fmt.Errorf("replay %s (streamer replay %s) was interrupted at %s", stored.ID, stored.Request, r.record.LSN),
			"run that command to continue the replay, or give it up with `streamer replay --discard`",
		))
	}
	began, err := time.Parse(replayTime, stored.ID)
	if err != nil {
		return nil, failure.Refuse(failure.Advise(
			fmt.Errorf("replay %s was begun by another version of streamer", stored.ID),
			"finish it with that version, or give it up with `streamer replay --discard`",
		))
	}
	plan, err := r.filters(began)
	if err != nil {
		return nil, err
	}
	var from, until error
	plan.From, from = replication.ParseLSN(stored.From)
	plan.Until, until = replication.ParseLSN(stored.Until)
	return plan, errors.Join(from, until)
}

// errWasComplete ends the same command after a replay that published everything
// but could not drop its slot.
var errWasComplete = errors.New("the replay was complete")

// complete reports whether the remaining slot is that of the same replay and
// the replay has reached its end.
func (r *replay) complete() bool {
	until, ended := r.ended()
	return ended && r.record.Replay.Request == r.request() && r.left.Confirmed >= until
}

// ended reports whether the record is of a replay that has reached its end, and
// returns that end.
func (r *replay) ended() (until replication.LSN, ended bool) {
	if r.record == nil || r.record.Replay == nil {
		return 0, false
	}
	until, err := replication.ParseLSN(r.record.Replay.Until)
	return until, err == nil && r.record.LSN >= until
}

// unfinished returns what the record says of a replay that has not reached its
// end.
func (r *replay) unfinished() *checkpoint.Replay {
	if _, ended := r.ended(); ended || r.record == nil {
		return nil
	}
	return r.record.Replay
}

// plan makes a new replay.
func (r *replay) plan() (*pipeline.Replay, error) {
	if r.rewind == nil {
		return nil, failure.Refuse(failure.Advise(
			fmt.Errorf("there is no rewind slot %q, so the server has not kept the WAL of the past", replication.RewindSlot(r.cfg.Postgres.Slot)),
			"set rewind.keep, for example to 24h: the running streamer then keeps the WAL from that moment on",
		))
	}
	if err := replication.Refusal(replication.CheckSlot(*r.rewind, r.server)); err != nil {
		return nil, fmt.Errorf("rewind slot: %w", err)
	}
	began := time.Now()
	plan, err := r.filters(began)
	if err != nil {
		return nil, err
	}
	if plan.From, err = r.beginAt(began); err != nil {
		return nil, err
	}
	if plan.Until, err = r.endAt(began); err != nil {
		return nil, err
	}
	if plan.From > plan.Until {
		return nil, failure.Misconfigure(fmt.Errorf("--from (%s) is after --to (%s)", plan.From, plan.Until))
	}
	return plan, nil
}

// replayTime has milliseconds: no two replays begin at the same time.
const replayTime = "20060102T150405.000Z"

// replayID returns the time at which a replay began.
func replayID(began time.Time) string { return began.UTC().Format(replayTime) }

// filters returns the parts of a replay that come from the command alone, or
// from the stream. Durations count from the time at which the replay began.
func (r *replay) filters(began time.Time) (*pipeline.Replay, error) {
	plan := &pipeline.Replay{
		ID: replayID(began), Request: r.request(), AggregateTypes: r.AggregateType, Keys: r.Key, Topics: r.Topic, Rate: r.Rate,
		StreamID: pipeline.StreamID(r.stream.Identity, r.stream.History),
	}
	from, err := r.begins(began)
	if err != nil {
		return nil, err
	}
	to, err := r.ends(began)
	if err != nil {
		return nil, err
	}
	plan.Since, plan.Before = from.Time, to.Time
	if !plan.Before.IsZero() && !plan.Since.Before(plan.Before) {
		return nil, failure.Misconfigure(fmt.Errorf("--to %s is not after --from %s", r.To, r.From))
	}
	if plan.Since.After(began) {
		return nil, failure.Misconfigure(fmt.Errorf("--from %s is in the future", r.From))
	}
	return plan, nil
}

// clocks is how far the streamer's clock and the server's may be apart.
const clocks = time.Minute

// begins and ends read --from and --to for a replay that began at the given
// time.
func (r *replay) begins(began time.Time) (console.Position, error) {
	return console.ParsePosition("--from", r.From, began, console.AtLSN, console.AtTime, console.Beginning)
}

func (r *replay) ends(began time.Time) (console.Position, error) {
	return console.ParsePosition("--to", r.To, began, console.AtLSN, console.AtTime)
}

// beginAt returns where a replay that begins now starts to read.
func (r *replay) beginAt(now time.Time) (replication.LSN, error) {
	from, err := r.begins(now)
	if err != nil {
		return 0, err
	}
	kept := r.rewind.Confirmed
	tooOld := func(since string) error {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("--from %s is older than what rewind slot %q keeps, which begins at %s%s", r.From, r.rewind.Name, kept, since),
			"use --from beginning for everything that is kept; raise rewind.keep and rewind.max_bytes to keep more",
		))
	}
	switch {
	case from.Kind == console.Beginning:
		return kept, nil
	case from.Kind == console.AtTime:
		since := site.KeptSince(r.stream.Past, kept)
		if since.IsZero() || from.Time.Before(since) {
			return 0, tooOld(when(since))
		}
		if m, found := checkpoint.Before(r.stream.Past, from.Time.Add(-clocks)); found {
			return max(m.LSN, kept), nil
		}
		return kept, nil
	case from.LSN < kept:
		return 0, tooOld("")
	case from.LSN > r.stream.LSN:
		return 0, aboveCheckpoint("--from", from.LSN, r.stream.LSN)
	}
	return from.LSN, nil
}

func aboveCheckpoint(flag string, lsn, checkpoint replication.LSN) error {
	return failure.Misconfigure(fmt.Errorf("%s %s is above the checkpoint %s: "+
		"the stream itself publishes what comes there", flag, lsn, checkpoint))
}

// when formats a time, if it is known.
func when(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return " (" + at.UTC().Format(time.RFC3339) + ")"
}

// endAt returns where to end: at the checkpoint at the latest, because the
// stream itself publishes beyond it.
func (r *replay) endAt(now time.Time) (replication.LSN, error) {
	to, err := r.ends(now)
	switch {
	case err != nil:
		return 0, err
	case to.Kind != console.AtLSN:
		return r.stream.LSN, nil
	case to.LSN > r.stream.LSN:
		return 0, aboveCheckpoint("--to", to.LSN, r.stream.LSN)
	}
	return to.LSN, nil
}

// pipeline returns the streamer that publishes the replay.
func (r *replay) pipeline(plan *pipeline.Replay, metrics *replayMetrics) (*pipeline.Pipeline, error) {
	own := site.Replaying(r.cfg)
	if plan.Rate > 0 {
		// The server prepares the whole answer to an SQL call and holds back
		// vacuum until the answer has been read. A slow reader must not use it.
		own.Replication.Reader = string(pipeline.ReadStream)
	}
	quiet := own.Log
	if quiet.Level == "info" {
		quiet.Level = "warn"
	}
	c := site.PipelineConfig(own, console.NewLogger(r.std.Err, quiet), metrics)
	c.Replay, c.Until = plan, plan.Until
	return pipeline.New(c)
}
