package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// Resume is what a start does about events that were published after the
// checkpoint it starts from.
type Resume string

// The ways to resume.
const (
	// ResumeAuto is ResumeExactlyOnce where Kafka allows it.
	ResumeAuto Resume = "auto"
	// ResumeExactlyOnce keeps predecessors out, reads back what they published,
	// and repeats none of it.
	ResumeExactlyOnce Resume = "exactly_once"
	// ResumeAtLeastOnce repeats what was published after the checkpoint.
	ResumeAtLeastOnce Resume = "at_least_once"
)

// holding is what a tenure has of the Kafka side before anything is written. No
// predecessor can write any more, so what is stored stays.
type holding struct {
	cluster cluster
	owner   owner
	store   checkpoint.Store
	topic   compacted // of the store, if it is a topic

	stored      checkpoint.Record
	found       bool // something is stored
	generation  int  // of the transactional ID
	atLeastOnce string
	gaps        []string        // what Kafka has lost
	foreign     *router.Foreign // what a former publisher has published; nil: nothing that matters
}

func (h *holding) close() {
	if h.store != nil {
		_ = h.store.Close() // everything saved is durable
	}
	h.cluster.Close()
}

// takeOver connects to Kafka, keeps every predecessor out, and only then loads
// the checkpoint: its previous owner can no longer change it. The caller holds
// the lock. With anew, a checkpoint that cannot be used is ignored.
func (p *Pipeline) takeOver(ctx context.Context, id checkpoint.Identity, anew bool) (*holding, error) {
	cluster, err := p.servers.kafka(p.config.Client)
	if err != nil {
		return nil, err
	}
	h := &holding{cluster: cluster}
	if err := p.hold(ctx, h, id, anew); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (p *Pipeline) hold(ctx context.Context, h *holding, id checkpoint.Identity, anew bool) error {
	if err := p.openStore(ctx, h); err != nil {
		return err
	}
	// The first load shows which transactional ID to take and what to fence.
	if err := h.load(ctx, id, anew); err != nil {
		return err
	}
	// The fence makes every partition longer, so measure before fencing.
	if err := h.measure(ctx); err != nil {
		return err
	}
	for {
		h.generation = h.stored.Producer.Generation
		if err := p.becomeOwner(ctx, h, id); err != nil {
			return err
		}
		fenced, err := h.fence(ctx, nil)
		if err != nil {
			return err
		}
		if err := h.store.Claim(ctx, id); err != nil {
			return err
		}
		if err := h.load(ctx, id, anew); err != nil {
			return err
		}
		if h.stored.Producer.Generation != h.generation {
			continue // a predecessor has just moved on to the next generation
		}
		if _, err := h.fence(ctx, fenced); err != nil {
			return err
		}
		if !h.owner.Exhausted() {
			break
		}
		p.log.Info("transactional id is used up, continuing with the next one", "generation", h.generation+1)
		h.generation++
		if err := p.becomeOwner(ctx, h, id); err != nil {
			return err
		}
		if _, err := h.fence(ctx, nil); err != nil {
			return err
		}
		break
	}
	p.noteOwner(h)
	return nil
}

// load reads the stored checkpoint, if there is one.
func (h *holding) load(ctx context.Context, id checkpoint.Identity, anew bool) error {
	timed, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stored, err := h.store.Load(timed, id)
	switch {
	case errors.Is(err, checkpoint.ErrNone), anew && failure.ClassOf(err) == failure.Refused:
		h.stored, h.found = checkpoint.Record{}, false
	case err != nil:
		return fmt.Errorf("load checkpoint: %w", err)
	default:
		h.stored, h.found = stored, true
		h.cluster.ExpectMissing(stored.Missing())
	}
	return nil
}

// measure looks for partitions that end before the offset where they ended at
// the checkpoint.
func (h *holding) measure(ctx context.Context) error {
	ends, err := h.cluster.Ends(ctx, slices.Collect(maps.Keys(h.stored.Topics)))
	if err != nil {
		return err
	}
	for topic, t := range h.stored.Topics {
		for id, mark := range t.Offsets {
			if end, exists := ends[topic][int32(id)]; exists && end < mark {
				h.gaps = append(h.gaps, fmt.Sprintf(
					"topic %q partition %d ends at offset %d, although it had ended at %d: the broker has lost "+
						"acknowledged events, or the topic was deleted and created again",
					topic, id, end, mark,
				))
			}
		}
	}
	return nil
}

// becomeOwner acquires the right to write.
func (p *Pipeline) becomeOwner(ctx context.Context, h *holding, id checkpoint.Identity) (err error) {
	h.atLeastOnce = "kafka.resume is at_least_once"
	if ctx.Err() != nil {
		return context.Cause(ctx) // the lock may be lost: taking over would end a healthy owner
	}
	if p.config.Resume != ResumeAtLeastOnce {
		name := TransactionalID(p.config.TransactionalIDPrefix, id, h.generation)
		if err = p.unfenced; err == nil {
			h.owner, err = h.cluster.TakeOver(ctx, name)
		}
		if err == nil {
			h.atLeastOnce = ""
			return nil
		}
		if !errors.Is(err, kafka.ErrNoTransactions) {
			return err
		}
		if p.config.Resume == ResumeExactlyOnce {
			return failure.Refuse(fmt.Errorf("kafka.resume is exactly_once, but %w", err))
		}
		h.atLeastOnce = failure.Describe(err)
	}
	h.owner, err = h.cluster.Anonymous(ctx)
	return err
}

// TransactionalID differs for each slot and each cluster, so that two streamers
// never fence each other by accident.
func TransactionalID(prefix string, id checkpoint.Identity, generation int) string {
	name := fmt.Sprintf("%s%s-%s-%s", prefix, id.Slot, id.Database, id.SystemID)
	if generation > 0 {
		name += "-" + strconv.Itoa(generation)
	}
	return name
}

// fence keeps predecessors out of all partitions that the checkpoint names,
// except those fenced before, and returns all of them.
func (h *holding) fence(ctx context.Context, before map[string][]int32) (map[string][]int32, error) {
	names := slices.Collect(maps.Keys(h.stored.Topics))
	if h.topic != nil {
		names = append(names, h.topic.Name())
	}
	partitions, err := h.cluster.Existing(ctx, names)
	if err != nil {
		return nil, err
	}
	missing := maps.Clone(partitions)
	maps.DeleteFunc(missing, func(topic string, ids []int32) bool { return len(before[topic]) == len(ids) })
	return partitions, h.owner.Fence(ctx, missing)
}

// noteOwner logs what kind of start this is.
func (p *Pipeline) noteOwner(h *holding) {
	id, epoch := h.owner.ID()
	if !h.found && epoch > 0 && h.owner.Fences() && p.purpose.mark() == "" {
		p.log.Error(
			"no checkpoint is stored although this slot was streamed before: starting where the slot begins, later events may be repeated",
			"store", p.config.Checkpoint.Store,
		)
	}
	switch {
	case p.config.Resume == ResumeAtLeastOnce:
	case h.atLeastOnce != "":
		p.log.Warn("other instances cannot be kept out, events may be repeated after a crash", "reason", h.atLeastOnce)
	case h.found && forgotten(h.stored, h.generation, id):
		p.log.Warn(
			"Kafka has forgotten the previous producer: an instance that is still frozen somewhere is not kept out",
			"producer_id_before", h.stored.Producer.ID, "producer_id", id,
		)
	}
	p.config.Metrics.Resuming(h.atLeastOnce)
}

// forgotten reports whether Kafka gave the transactional ID another producer
// than that of the stored checkpoint. 0 is a producer ID like any other: the
// first of a new cluster.
func forgotten(stored checkpoint.Record, generation int, id int64) bool {
	return stored.AtLeastOnce == "" && stored.Producer.ID != id && stored.Producer.Generation == generation
}

// Identity is the identity under which a streamer of this slot keeps its
// checkpoint.
func Identity(s replication.Server, slot string) checkpoint.Identity {
	return checkpoint.Identity{SystemID: s.SystemID, Database: s.Database, Slot: slot}
}

// StreamID distinguishes the streamer's records from those of any other slot,
// database, cluster or history.
func StreamID(id checkpoint.Identity, history int) string {
	const shard = 0 // unsharded
	sum := sha256.Sum256(
		[]byte(id.SystemID + "\x00" + id.Database + "\x00" + id.Slot + "\x00" + strconv.Itoa(shard) + "\x00" + strconv.Itoa(history)),
	)
	return hex.EncodeToString(sum[:8])
}

// StreamIDs returns all identities under which a slot's events were published:
// one for each history up to the record's, and those of former streams. Without
// a checkpoint the record is zero.
func StreamIDs(id checkpoint.Identity, r checkpoint.Record) (ids []string) {
	for history := range r.History + 1 {
		ids = append(ids, StreamID(id, history))
	}
	return append(ids, r.Former...)
}

func (p *Pipeline) openStore(ctx context.Context, h *holding) (err error) {
	c := p.config.Checkpoint
	if c.Store != "kafka" {
		h.store, err = p.servers.store(ctx, c)
		return err
	}
	h.topic = h.cluster.Compacted(c.Topic)
	timed, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := h.topic.Ensure(timed, c.ReplicationFactor); err != nil {
		return err
	}
	h.store = checkpoint.NewKafka(h.topic)
	return nil
}

// readBack finds out what was published after the checkpoint.
func (p *Pipeline) readBack(ctx context.Context, h *holding, record resumePoint) (router.Found, error) {
	if !h.found || p.config.Resume == ResumeAtLeastOnce && !record.Snapshot.Pending() || mutation.Active(mutation.SkipReadBack) {
		return router.Found{}, nil
	}
	began := time.Now()
	marks := map[string]router.Marks{}
	for name, t := range record.Topics {
		marks[name] = router.Marks(t)
	}
	found, err := h.cluster.ReadBack(ctx, router.ReadBack{
		StreamID: p.purpose.streamID(record.Record), Replay: p.purpose.mark(), Marks: marks, Above: record.low, Log: p.log,
		Rerouted:  record.Routing != p.config.Rules.Fingerprint(),
		Scattered: func(topic string) bool { return topic == p.config.Rules.DeadLetterTopic },
	})
	if err != nil {
		return found, fmt.Errorf("read back what was published: %w", err)
	}
	for _, gap := range append(h.gaps, found.Gaps...) {
		p.log.Error("Kafka has lost what was published: events above the checkpoint may be repeated, those below it are gone", "reason", gap)
	}
	if highest := len(found.Landmarks) - 1; highest >= 0 {
		p.log.Info(
			"events above the checkpoint were published before and will be passed over",
			"records_read", found.Records, "up_to", found.Landmarks[highest].Position.String(),
			"took", time.Since(began).Round(time.Millisecond).String(),
		)
	}
	return found, nil
}
