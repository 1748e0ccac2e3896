package router

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// topic finds the topic of a row by its name. A new topic is not ready until
// its metadata has arrived.
func (p *Producer) topic(name, eventID []byte, at replication.Position) *topic {
	if t := p.topics[string(name)]; t != nil {
		return t
	}
	t := p.newTopic(string(name), fmt.Sprintf("outbox row %q at %s", eventID, at))
	p.topics[t.name] = t
	return t
}

func (p *Producer) newTopic(name, row string) *topic {
	t := &topic{
		name: name, row: row, partitioner: kafka.NewPartitioner(p.router.rules.Partitioner, name),
		deadLetters: name == p.router.rules.DeadLetterTopic,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = append(p.known, t)
	p.unknown[t] = struct{}{}
	p.wakeMetadata()
	return t
}

// outsideLocked returns a partition for Write. The partition is not in the
// reader's map, so no event can get into it.
func (p *Producer) outsideLocked(name string, id int32) *partition {
	for _, t := range p.known {
		if t.name == name && len(t.partitions) == 1 && t.partitions[0].id == id && !t.ready.Load() {
			return t.partitions[0]
		}
	}
	t := &topic{name: name}
	t.partitions = []*partition{{topic: t, id: id}}
	p.known = append(p.known, t)
	return t.partitions[0]
}

// allLocked returns every topic that is written to.
func (p *Producer) allLocked() []*topic { return p.known }

// lookUpLocked requests a lookup of the leader of a partition.
func (p *Producer) lookUpLocked(part *partition) {
	p.lookups[part] = struct{}{}
	p.wakeMetadata()
}

func (p *Producer) wakeMetadata() {
	select {
	case p.metadata <- struct{}{}:
	default:
	}
}

// runMetadata is the goroutine that may wait for metadata, so that no other has
// to.
func (p *Producer) runMetadata() {
	timer := time.NewTimer(p.config.MetadataInterval)
	defer timer.Stop()
	watched := time.Now()
	for {
		select {
		case <-p.metadata:
		case <-timer.C:
		case <-p.stop:
			return
		}
		r := &round{producer: p}
		p.resolveTopics(r)
		p.resolveLeaders(r)
		r.end()
		p.settleDisputes()
		again := p.renew()
		if time.Since(watched) >= p.config.MetadataInterval {
			watched = time.Now()
			p.watchGrowth()
		}
		timer.Reset(min(again, p.untilNextRetry()))
	}
}

// renew renews the fence that keeps predecessors out. During an outage of Kafka
// this takes a moment, and no leader is looked up meanwhile.
func (p *Producer) renew() time.Duration {
	again, err := p.cluster.Renew()
	if err != nil {
		p.log.Warn("fence against other instances could not be renewed", "err", err)
	}
	if classify(err) == fenced {
		p.mu.Lock()
		p.failLocked(err)
		p.mu.Unlock()
	}
	return again
}

// untilNextRetry returns the time until the next retry is due.
func (p *Producer) untilNextRetry() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := time.Now().Add(p.config.MetadataInterval)
	for t := range p.unknown {
		next = earlier(next, t.retry.at)
	}
	for part := range p.lookups {
		next = earlier(next, part.retry.at)
	}
	return max(0, time.Until(next))
}

// due lists the waiting items that may be tried again now.
func due[T comparable](p *Producer, waiting map[T]struct{}, retryOf func(T) *retry) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []T
	for item := range waiting {
		if !time.Now().Before(retryOf(item).at) {
			list = append(list, item)
		}
	}
	return list
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// resolveTopics looks up the partition counts of new topics.
func (p *Producer) resolveTopics(r *round) {
	for _, t := range due(p, p.unknown, func(t *topic) *retry { return &t.retry }) {
		err := r.refresh(t.name, &t.retry)
		count := 0
		if err == nil {
			count, err = p.cluster.Partitions(t.name)
		}
		if err != nil && errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			err = p.create(t, err)
		}
		var found FoundTopic
		if err == nil && count > 0 {
			found, err = p.admit(t, count)
		}
		p.topicResolved(t, found, err)
	}
}

// admit prepares the partitions of a topic for writing. Those that were read
// back at the start are already prepared.
func (p *Producer) admit(t *topic, count int) (FoundTopic, error) {
	p.mu.Lock()
	found, known := p.dormant[t.name]
	marks, missed := p.missing[t.name]
	p.mu.Unlock()
	if known && len(found.Partitions) == count {
		return found, nil
	}
	if known {
		return found, fmt.Errorf("%w: topic %q has %d partitions, but had %d", errGrownSince, t.name, count, len(found.Partitions))
	}
	admitted, err := p.cluster.Admit(t.name, count)
	found = newTopicOf(admitted)
	if err == nil && missed && (marks.ID == "" || found.ID == "" || marks.ID == found.ID) {
		return found, fmt.Errorf("%w: topic %q", errCameBack, t.name)
	}
	return found, err
}

// errGrownSince ends production, so that published events are read back again.
// What is known does not show which partitions the keys map to now.
var errGrownSince = errors.New("topic has grown since it was read back")

// errCameBack ends production so that published events are read back again: the
// topic may hold events above the checkpoint.
var errCameBack = errors.New("topic that was missing when others were read back exists after all")

// create creates a missing topic if the configuration allows it. It tries again
// only after a retryable error. The next attempt of resolveTopics finds the
// topic.
func (p *Producer) create(t *topic, missing error) error {
	if t.createTried {
		return cmp.Or(t.createErr, missing)
	}
	err := p.cluster.Create(t.name)
	if failure.ClassOf(err) == failure.Refused && !kafka.Impossible(err) {
		return fmt.Errorf("%w: %w", missing, err) // another client may create it
	}
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
		err = failure.Advise(
			err, "grant the streamer's principal Create on topic %q, or create it with `streamer setup --topic %s`", t.name, t.name,
		)
	}
	if t.createTried = err == nil || classify(err) != retryable; t.createTried {
		t.createErr = err
	}
	return cmp.Or(err, missing)
}

func (p *Producer) topicResolved(t *topic, found FoundTopic, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && len(found.Partitions) == 0 {
		err = sarama.ErrUnknownTopicOrPartition
	}
	if err == nil {
		t.addPartitions(found, p.config.Passage)
		t.lastErr, t.createErr, t.missing = nil, nil, time.Time{}
		t.hopeless.Store(nil)
		delete(p.unknown, t)
		for _, part := range t.partitions {
			p.lookUpLocked(part)
		}
		p.putLocked(t)
		return
	}
	t.lastErr = err
	t.retry.next(&p.config)
	if errors.Is(err, errGrownSince) || errors.Is(err, errCameBack) || errors.Is(err, kafka.ErrNoTransactions) {
		p.failLocked(err) // only a new session can go on
		return
	}
	switch class := classify(err); {
	case kafka.Impossible(err) && !t.deadLetters:
		t.hopeless.Store(&topicFault{PoisonRoute, err})
	case class == unknown:
		if t.missing.IsZero() {
			t.missing = time.Now()
		}
		if time.Since(t.missing) >= p.config.UnknownGrace {
			p.giveUpTopicLocked(t, t.problem(err))
		}
	case class == hopeless: // a policy of the brokers forbids to create it
		p.giveUpTopicLocked(t, err)
	case class == refused:
		p.failLocked(failure.Refuse(fmt.Errorf("route to topic %q: %w", t.name, err)))
	case class == fenced:
		p.failLocked(err)
	default: // the next attempt may succeed
	}
	p.announceLocked() // the caller may want to report what it waits for
}

// giveUpTopicLocked ends production because a topic is missing or forbidden,
// which may be the row's fault or the set-up's. If rows for the topic can become
// dead letters, it makes those rows poison instead.
func (p *Producer) giveUpTopicLocked(t *topic, err error) {
	if p.router.rules.DeadLetterTopic == "" || t.deadLetters {
		p.failLocked(failure.Refuse(fmt.Errorf("route %s to topic %q: %w", t.row, t.name, err)))
		return
	}
	t.hopeless.Store(&topicFault{PoisonTopic, fmt.Errorf("route to topic %q: %w", t.name, err)})
}

// putLocked makes a topic usable: at once if a stored checkpoint has its marks,
// otherwise when such a checkpoint has been stored.
func (p *Producer) putLocked(t *topic) {
	stored, known := p.dormant[t.name]
	delete(p.dormant, t.name)
	delete(p.missing, t.name) // it is a different topic
	if known && len(stored.Partitions) == len(t.partitions) {
		t.ready.Store(true)
	} else {
		t.ready.Store(false)
		p.unstored[t] = struct{}{}
	}
	p.announceLocked()
}

// addPartitions adds the partitions that were found and are not yet in use.
func (t *topic) addPartitions(found FoundTopic, passage *Passage) {
	t.id, t.admitted = found.ID, true
	t.mixed = later(t.mixed, found.Mixed)
	for id := int32(len(t.partitions)); int(id) < len(found.Partitions); id++ {
		at := passage.writtenTo(t.name, id, len(found.Partitions))
		t.partitions = append(t.partitions, &partition{topic: t, id: id, last: at, acknowledged: at, log: newPartitionLog(found.Partitions[id])})
	}
}

// resolveLeaders finds brokers for the partitions that need one.
func (p *Producer) resolveLeaders(r *round) {
	refreshed := map[string]error{}
	for _, part := range due(p, p.lookups, func(part *partition) *retry { return &part.retry }) {
		name := part.topic.name
		err, done := refreshed[name]
		if !done {
			err = r.refresh(name, &part.retry)
			refreshed[name] = err
		}
		var c kafka.Connection
		if err == nil {
			c, err = p.cluster.Leader(name, part.id)
		}
		p.leaderResolved(part, c, p.shrunk(part, err))
	}
}

func (p *Producer) leaderResolved(part *partition, c kafka.Connection, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.lookups, part)
		p.attachLocked(part, c)
		return
	}
	part.lastErr = err
	part.retry.next(&p.config)
	if len(part.queue) == 0 {
		return
	}
	if err := p.judge(part, part.queue[0], &rejection{error: err}); err != nil {
		p.giveUpLocked(part.queue[0], err)
	}
	p.announceLocked()
}

// watchGrowth looks for topics whose partition count has grown: the keys of
// such a topic move (K-13).
func (p *Producer) watchGrowth() {
	p.mu.Lock()
	topics := slices.Clone(p.known)
	p.mu.Unlock()
	for _, t := range topics {
		if !t.ready.Load() {
			continue
		}
		err := p.cluster.Refresh(t.name)
		if kafka.Unreachable(err) {
			return
		}
		if err != nil {
			continue // production itself finds out what is wrong
		}
		if count, err := p.cluster.Partitions(t.name); err == nil && count > p.partitionCount(t) {
			p.noteGrowth(t, count)
		}
	}
}

func (p *Producer) partitionCount(t *topic) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(t.partitions)
}

// noteGrowth prepares the new partitions. The reading goroutine starts to use
// them.
func (p *Producer) noteGrowth(t *topic, count int) {
	if t.grown.Load() == int32(count) {
		return // they are ready, and no event has arrived since
	}
	admitted, err := p.cluster.Admit(t.name, count)
	if err != nil {
		p.log.Warn("new partitions are not ready yet", "topic", t.name, "partitions", count, "err", err)
		if errors.Is(err, kafka.ErrNoTransactions) {
			p.mu.Lock()
			p.failLocked(err)
			p.mu.Unlock()
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.larger = newTopicOf(admitted)
	t.grown.Store(int32(count))
	p.announceLocked()
}

// grow starts to use new partitions once everything routed with the old count
// has been acknowledged. No key is thus ever on its way to two partitions. grow
// reports whether the topic is ready.
func (p *Producer) grow(t *topic) bool {
	p.sealAll()
	p.mu.Lock()
	defer p.mu.Unlock()
	count := int(t.grown.Load())
	if p.config.StopOnGrowth {
		p.failLocked(failure.Refuse(failure.Advise(
			fmt.Errorf(
				"topic %q has grown from %d to %d partitions and kafka.on_partition_change is stop: keys would move",
				t.name, len(t.partitions), count,
			),
			"start the streamer again to accept the new partitions",
		)))
		return false
	}
	if p.config.Passage.resuming() {
		p.failLocked(fmt.Errorf("%w: topic %q has %d partitions, but had %d", errGrownSince, t.name, count, len(t.partitions)))
		return false
	}
	for _, part := range t.partitions {
		if len(part.queue)+len(part.sent) > 0 {
			return false
		}
		t.mixed = later(t.mixed, part.last)
	}
	p.log.Warn("topic has new partitions, its keys move", "topic", t.name, "partitions_before", len(t.partitions), "partitions", count)
	t.addPartitions(t.larger, nil)
	for _, part := range t.partitions {
		if part.broker == nil {
			p.lookUpLocked(part)
		}
	}
	t.grown.Store(0)
	p.putLocked(t)
	return t.ready.Load()
}
