package router

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// class is what Kafka's answer means for its batch.
type class int

const (
	retryable  class = iota // the same batch again, after a pause and with fresh metadata
	accepted                // written, now or by an earlier attempt
	outOfOrder              // an earlier batch is missing; without an earlier one the session is over
	tooLarge                // send it again in halves
	hopeless                // one record will never be accepted
	untimely                // the topic's settings refuse the time of a record
	unknown                 // topic missing or forbidden: retryable for a while
	fenced                  // this producer may no longer write
	refused                 // the operator must change something
)

// classify maps Kafka's error codes to classes. Unknown errors are retryable: a
// batch is never abandoned by mistake.
func classify(err error) class {
	if err == nil {
		return accepted
	}
	if _, ok := errors.AsType[sarama.PacketEncodingError](err); ok {
		return tooLarge // sarama itself refuses to send requests above 100 MB
	}
	code, ok := errors.AsType[sarama.KError](err)
	if !ok {
		return retryable // connection, timeout, malformed answer
	}
	switch code {
	case sarama.ErrDuplicateSequenceNumber:
		return accepted
	case sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID:
		return outOfOrder
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge:
		return tooLarge
	case sarama.ErrInvalidRecord, sarama.ErrPolicyViolation:
		return hopeless
	case sarama.ErrInvalidTimestamp:
		return untimely
	case sarama.ErrUnknownTopicOrPartition, sarama.ErrTopicAuthorizationFailed:
		return unknown
	case sarama.ErrInvalidProducerEpoch, sarama.ErrProducerFenced, sarama.ErrInvalidProducerIDMapping:
		return fenced
	default:
		if kafka.Permanent(code) {
			return refused
		}
		return retryable
	}
}

// ErrSequenceLost means that the broker does not know the preceding records.
// Only a new producer session can then prove the order.
var ErrSequenceLost = errors.New("broker has lost the producer's sequence")

// answeredLocked records the answer to one batch. Nothing after a failed batch
// is sent until every batch that has been sent is answered. Then the unfinished
// batches are sent again in their order.
func (p *Producer) answeredLocked(b *Batch, err error, records []sarama.ProduceResponseRecordError) {
	part := b.partition
	b.sending.answered = true
	if classify(err) == accepted {
		b.sending.err = nil
	} else {
		b.sending.err = &rejection{err, records}
		b.sending.uncertain = b.sending.uncertain || appendedPerhaps(err)
		part.failing = true
	}
	for len(part.sent) > 0 && part.sent[0].sending.answered && part.sent[0].sending.err == nil {
		p.finishLocked(part.sent[0])
		part.sent = part.sent[1:]
		part.retry.reset()
		part.missing, part.lastErr = time.Time{}, nil
	}
	switch {
	case len(part.sent) == 0 && !part.failing:
		part.sent = nil
		p.scheduleLocked(part)
	case part.failing && part.settled():
		p.recoverLocked(part)
	default:
		p.scheduleLocked(part)
	}
}

// rejection is an answer other than success.
type rejection struct {
	error
	records []sarama.ProduceResponseRecordError
}

func (r *rejection) Unwrap() error { return r.error }

// recoverLocked decides what happens to the failed batches of a partition. The
// oldest one decides for all.
func (p *Producer) recoverLocked(part *partition) {
	failed := part.sent[:0:0]
	for _, b := range part.sent {
		if b.sending.err == nil {
			p.finishLocked(b)
		} else {
			failed = append(failed, b)
		}
	}
	part.sent, part.failing = nil, false
	if len(failed) == 0 {
		p.scheduleLocked(part)
		return
	}
	oldest := failed[0]
	var answer *rejection
	errors.As(oldest.sending.err, &answer)
	part.lastErr = answer.error
	if part.suspect == nil {
		part.suspect = failed[len(failed)-1]
	}
	if classify(answer) == tooLarge && oldest.count() > 1 {
		if part.suspect == oldest {
			part.suspect = nil // it was not written, and its halves are new
		}
		halves := oldest.split()
		part.queue = append(append(halves[:], failed[1:]...), part.queue...)
		p.scheduleLocked(part)
		return
	}
	if p.observe != nil && !errors.Is(answer, errIdle) {
		p.observe.Failed(part.topic.name)
	}
	if classify(answer) == retryable {
		failed = p.sabotageLocked(part, failed)
	}
	part.queue = append(failed, part.queue...)
	if classify(answer) == untimely {
		p.disputeLocked(oldest, answer)
		return
	}
	if err := p.judge(part, oldest, answer); err != nil {
		p.giveUpLocked(oldest, err)
		return
	}
	p.detachLocked(part)
}

// judge returns why production cannot continue, or nil if trying again may
// help.
func (p *Producer) judge(part *partition, b *Batch, answer *rejection) error {
	switch classify(answer) {
	case tooLarge:
		return p.hopeless(b, 0, PoisonSize, errors.New("is larger than the topic's max.message.bytes: "+
			"raise it there (and the broker's message.max.bytes), or publish a reference to the value"))
	case hopeless:
		index := 0
		if len(answer.records) > 0 {
			index = int(answer.records[0].BatchIndex)
		}
		return p.hopeless(b, index, PoisonRejected, fmt.Errorf("was rejected by the broker: %w", answer.error))
	case outOfOrder:
		return fmt.Errorf("%w: %s: %w", ErrSequenceLost, part, answer.error)
	case fenced:
		return fmt.Errorf("%w: %s: %w", kafka.ErrFenced, part, answer.error)
	case refused:
		return failure.Refuse(fmt.Errorf("write to %s: %w", part, answer.error))
	case unknown:
		if part.missing.IsZero() {
			part.missing = time.Now()
		}
		absent := time.Since(part.missing)
		if errors.Is(answer, errShrunk) && absent >= min(shrinkPatience, p.config.UnknownGrace) {
			return p.judgeShrunk(answer.error)
		}
		if absent >= p.config.UnknownGrace {
			return failure.Refuse(fmt.Errorf("write to %s: %w", part, part.topic.problem(answer.error)))
		}
	default: // trying again may help
	}
	return nil
}

// problem is topicProblem for a known topic: `streamer setup` creates the dead
// letter topic without being told to.
func (t *topic) problem(err error) error {
	if failure.Fix(err) != "" {
		return err
	}
	if t.deadLetters && !errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return failure.Advise(err, "create the dead letter topic %q with `streamer setup`", t.name)
	}
	return topicProblem(t.name, err)
}

// topicProblem adds the remedy for a topic that is missing or forbidden.
func topicProblem(topic string, err error) error {
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		return failure.Advise(err, "grant the streamer's principal Describe and Write on topic %q", topic)
	}
	return failure.Advise(err, "create it with `streamer setup --topic %s`, or let the streamer do it with kafka.topics.create: true", topic)
}

// hopeless returns the error that names the record at fault.
func (p *Producer) hopeless(b *Batch, index int, class PoisonClass, reason error) error {
	e := PoisonError{Position: b.first, Class: class, Reason: reason, Late: !b.partition.topic.deadLetters}
	if index < b.count() {
		id, position := identify(b.record(index))
		if e.EventID = id; id != "" { // a tombstone in structured mode has none
			e.Position = position
		}
	}
	return failure.Refuse(fmt.Errorf("%s: %w", b.partition, &e))
}

// identify reads the event ID and position back from a record of the streamer.
func identify(r *sarama.Record) (id string, position replication.Position) {
	var sequence string
	letter := false // it may have no ID
	for _, h := range r.Headers {
		switch string(h.Key) {
		case wire.DeadLetterHeader:
			letter = true
		case headerID, deadLetterEventID:
			id = string(h.Value)
		case headerSequence, deadLetterSequence:
			sequence = string(h.Value)
		}
	}
	if id == "" && !letter { // structured mode
		var envelope struct{ ID, Sequence string }
		if json.Unmarshal(r.Value, &envelope) == nil {
			id, sequence = envelope.ID, envelope.Sequence
		}
	}
	position, _ = wire.ParseSequence(sequence)
	return id, position
}

// appendedPerhaps reports whether a batch with this answer may be in the
// partition, now or a moment later. When Kafka refuses a batch, it has appended
// nothing of it. Every other answer may come after the append. That includes
// NOT_LEADER_OR_FOLLOWER: the leader that appended the batch may lose
// leadership while it waits for the replicas.
func appendedPerhaps(err error) bool {
	return classify(err) == retryable && !errors.Is(err, sarama.ErrNotEnoughReplicas) && !errors.Is(err, sarama.ErrInvalidMessage)
}

// giveUpLocked ends production, or only the one write that is not part of the
// stream.
func (p *Producer) giveUpLocked(b *Batch, err error) {
	part := b.partition
	if b.done == nil || errors.Is(err, ErrSequenceLost) || errors.Is(err, kafka.ErrFenced) {
		p.stopPartitionLocked(part, err)
		return
	}
	b.done <- err
	if !part.withdraw(b) {
		part.queue = part.queue[1:]
		// Only a new epoch distinguishes the next batch from a repetition of b.
		// An error that refuses b does not refuse the stream.
		p.stopPartitionLocked(part, fmt.Errorf("%w: %s: a record that may have been written was given up: %s",
			ErrSequenceLost, part, err.Error()))
		return
	}
	if len(part.queue) > 0 {
		p.detachLocked(part)
	}
}

// stopPartitionLocked ends production because of this partition and passes err
// to all callers that wait for a write to it.
func (p *Producer) stopPartitionLocked(part *partition, err error) {
	part.stopped = err
	part.queue = slices.DeleteFunc(part.queue, func(b *Batch) bool {
		if b.done == nil {
			return false
		}
		b.done <- err
		return true
	})
	p.failLocked(err)
}
