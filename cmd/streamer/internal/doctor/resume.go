package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/router/kafka"
)

// takeOver checks whether a start could fence other instances. It does not try,
// because that would end the running streamer.
func (d *doctor) takeOver(ctx context.Context, client *kafka.Client) {
	const what = "transactional id"
	resume := pipeline.Resume(d.cfg.Kafka.Resume)
	if resume == pipeline.ResumeAtLeastOnce {
		d.say(Fine, what, "not used: kafka.resume is at_least_once, so a crash repeats what was published after the checkpoint", "")
		return
	}
	err := client.CanFence()
	if err == nil && d.server == nil {
		return // the name contains the server's identity
	}
	name := ""
	if err == nil {
		name, err = d.coordinated(ctx, client)
	}
	if errors.Is(err, kafka.ErrNoTransactions) && resume == pipeline.ResumeAuto {
		d.say(Warned, what, "events are repeated after a crash: "+err.Error(), failure.Fix(err))
		return
	}
	d.outcome(err, what, fmt.Sprintf("%q is visible; only a start shows whether the streamer may write with it", name))
}

// coordinated asks for the coordinator of the transactional id, and returns that
// id.
func (d *doctor) coordinated(ctx context.Context, client *kafka.Client) (name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	id := site.IdentityOf(*d.server, d.cfg)
	generation := 0
	if record, err := site.LoadCheckpoint(ctx, d.cfg, id); err == nil {
		generation = record.Producer.Generation
	}
	name = pipeline.TransactionalID(d.cfg.Kafka.TransactionalID, id, generation)
	return name, client.Coordinated(ctx, name)
}

// resumes reports what the stored checkpoint says about repeats.
func (d *doctor) resumes(record checkpoint.Record) {
	r := status.ResumeOf(record)
	switch {
	case r.ExactlyOnce:
		d.say(Fine, "resume", "exactly once: a start from the checkpoint repeats nothing", "")
	case d.cfg.Kafka.Resume == string(pipeline.ResumeAtLeastOnce):
		d.say(Fine, "resume", r.String(), "")
	default:
		d.say(Warned, "resume", r.String()+": a start from the checkpoint may repeat events",
			"grant what is missing, and restart the streamer")
	}
}
