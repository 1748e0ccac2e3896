package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

// modelKafka is a process's connection to the model broker.
type modelKafka struct {
	world   *world
	process *process
	client  *model.Client
	closing chan struct{}

	mu     sync.Mutex
	closed bool
}

var errModelKafka = errors.New("broker does not answer")

func (w *world) connectKafka(p *process) func(kafka.ClientConfig) (cluster, error) {
	return func(kafka.ClientConfig) (cluster, error) {
		k := &modelKafka{world: w, process: p, client: w.kafka.NewClient(), closing: make(chan struct{})}
		return k, k.ask(context.Background())
	}
}

// ask lets the time of a request pass. A frozen broker does not answer, and
// closing the connection ends the request.
func (k *modelKafka) ask(ctx context.Context) error {
	pass(ctx, time.Millisecond)
	k.process.thawed()
	if frozen := k.world.kafka.Frozen(); frozen != nil {
		select {
		case <-frozen:
		case <-time.After(10 * time.Second):
			return errModelKafka
		case <-k.closing:
			return errModelKafka
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	k.world.mu.Lock()
	defer k.world.mu.Unlock()
	if k.process.dead {
		return errModelKafka
	}
	return nil
}

func (k *modelKafka) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.closed = true
		close(k.closing)
	}
	k.client.Close()
}

func (k *modelKafka) TakeOver(ctx context.Context, transactionalID string) (owner, error) {
	if err := k.ask(ctx); err != nil {
		return nil, err
	}
	k.world.mayTakeOver(k.process)
	if k.world.forbidden {
		return nil, fmt.Errorf("%w: %q", kafka.ErrNoTransactions, transactionalID)
	}
	id, epoch := k.world.kafka.InitProducerID(transactionalID)
	k.world.own(k.process, id, epoch)
	return &modelOwner{modelKafka: k, transactional: transactionalID, id: id, epoch: epoch}, nil
}

func (k *modelKafka) Anonymous(ctx context.Context) (owner, error) {
	o := &modelOwner{modelKafka: k, id: k.world.kafka.NewProducerID()}
	k.world.own(k.process, o.id, 0)
	return o, k.ask(ctx)
}

func (k *modelKafka) ExpectMissing([]string) {}

func (k *modelKafka) Exist(ctx context.Context, topics ...string) ([]string, error) {
	existing, err := k.Existing(ctx, topics)
	return slices.Sorted(maps.Keys(existing)), err
}

func (k *modelKafka) Existing(ctx context.Context, topics []string) (map[string][]int32, error) {
	if err := k.ask(ctx); err != nil {
		return nil, err
	}
	k.world.kafka.Lock()
	defer k.world.kafka.Unlock()
	found := map[string][]int32{}
	for _, name := range topics {
		if t := k.world.kafka.Topics[name]; t != nil {
			for id := range t.Partitions {
				found[name] = append(found[name], int32(id))
			}
		}
	}
	return found, nil
}

func (k *modelKafka) Ends(ctx context.Context, topics []string) (map[string]map[int32]int64, error) {
	existing, err := k.Existing(ctx, topics)
	ends := map[string]map[int32]int64{}
	for name, ids := range existing {
		ends[name] = map[int32]int64{}
		for id, end := range k.world.kafka.Ends(name, len(ids)) {
			ends[name][int32(id)] = end
		}
	}
	return ends, errors.Join(err, k.ask(ctx))
}

// ReadForeign finds nothing: the model has no other publishers.
func (k *modelKafka) ReadForeign(ctx context.Context, _ router.ForeignLog) (*router.Foreign, error) {
	return &router.Foreign{}, k.ask(ctx)
}

// ReadBack does what the real one does, in the simplest way.
func (k *modelKafka) ReadBack(ctx context.Context, r router.ReadBack) (router.Found, error) {
	if err := k.ask(ctx); err != nil {
		return router.Found{}, err
	}
	k.world.kafka.Lock()
	defer k.world.kafka.Unlock()
	found := router.Found{Topics: map[string]router.FoundTopic{}, Published: map[replication.Position]struct{}{}}
	for name, marks := range r.Marks {
		t := k.world.kafka.Topics[name]
		if t == nil {
			continue
		}
		whole := r.Rerouted || marks.Mixed || len(marks.Offsets) != len(t.Partitions) || r.Scattered(name)
		read := router.FoundTopic{Partitions: make([]router.FoundPartition, len(t.Partitions))}
		for id, p := range t.Partitions {
			part := router.FoundPartition{End: int64(len(p.Log))}
			if id < len(marks.Offsets) {
				part.Mark = min(marks.Offsets[id], part.End)
			}
			var highest router.Landmark
			for _, record := range p.Log[part.Mark:] {
				at, err := wire.ParseSequence(cmp.Or(record.Header("ce_sequence"), record.Header("streamer-sequence")))
				if err != nil || record.Header(wire.StreamHeader) != r.StreamID || at.Commit < r.Above {
					continue
				}
				if whole {
					found.Published[at] = struct{}{}
				}
				if at.Compare(highest.Position) > 0 {
					highest = router.Landmark{Position: at, EventID: modelEventID(record), Topic: name, Partition: int32(id)}
				}
			}
			if highest.EventID != "" {
				part.Last = highest.Position
				if whole {
					highest.Partition = -1
				} else {
					part.Written = highest.Position
				}
				found.Landmarks = append(found.Landmarks, highest)
			}
			read.Partitions[id] = part
			if whole {
				if part.Last.Compare(read.Mixed) > 0 {
					read.Mixed = part.Last
				}
			}
		}
		found.Topics[name] = read
	}
	slices.SortFunc(found.Landmarks, func(a, b router.Landmark) int { return a.Position.Compare(b.Position) })
	return found, nil
}

func (k *modelKafka) Compacted(topic string) compacted { return &modelTopic{kafka: k, name: topic} }

// modelOwner is the producer identity that writes.
type modelOwner struct {
	*modelKafka
	transactional string
	id            int64
	epoch         int16
}

func (o *modelOwner) ID() (int64, int16)            { return o.id, o.epoch }
func (o *modelOwner) Fences() bool                  { return o.transactional != "" }
func (o *modelOwner) Exhausted() bool               { return false }
func (o *modelOwner) Renew() (time.Duration, error) { return time.Hour, nil }
func (o *modelOwner) Remembers() time.Duration      { return o.world.kafka.Expiry / 2 }
func (o *modelOwner) Lapsed() error                 { return nil }

func (o *modelOwner) TopicSetting(topic, name string) (string, error) {
	return o.world.kafka.TopicSetting(topic, name)
}

func (o *modelOwner) Fence(ctx context.Context, partitions map[string][]int32) error {
	if err := o.ask(ctx); err != nil || !o.Fences() || len(partitions) == 0 {
		return err
	}
	return o.world.kafka.Abort(o.transactional, o.id, o.epoch, partitions)
}

func (o *modelOwner) Refresh(topic string) error {
	if err := o.ask(context.Background()); err != nil {
		return err
	}
	return o.world.kafka.Refresh(topic)
}

func (o *modelOwner) Partitions(topic string) (int, error) { return o.world.kafka.Partitions(topic) }

func (o *modelOwner) Leader(topic string, partition int32) (kafka.Connection, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, sarama.ErrClosedClient
	}
	node, err := o.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	return modelConnection{node, o.process}, nil
}

func (o *modelOwner) Create(string) error { return nil }

func (o *modelOwner) Admit(topic string, partitions int) (kafka.Admission, error) {
	ids := make([]int32, partitions)
	for i := range ids {
		ids[i] = int32(i)
	}
	if err := o.Fence(context.Background(), map[string][]int32{topic: ids}); err != nil {
		return kafka.Admission{}, err
	}
	return kafka.Admission{Ends: o.world.kafka.Ends(topic, partitions)}, nil
}

// modelConnection sends nothing for a process that has been killed.
type modelConnection struct {
	*model.Node
	process *process
}

func (c modelConnection) AsyncProduce(request *sarama.ProduceRequest, callback sarama.ProduceCallback) error {
	c.process.thawed()
	c.process.world.mu.Lock()
	dead := c.process.dead
	c.process.world.mu.Unlock()
	if dead {
		return errModelKafka
	}
	return c.Node.AsyncProduce(request, callback)
}

// modelTopic is the compacted topic of checkpoints.
type modelTopic struct {
	kafka *modelKafka
	name  string
	write kafka.Write
}

func (t *modelTopic) Name() string                                { return t.name }
func (t *modelTopic) WriteWith(write kafka.Write, _ *slog.Logger) { t.write = write }

func (t *modelTopic) Ensure(ctx context.Context, _ int) (created bool, err error) {
	return false, t.kafka.ask(ctx)
}

func (t *modelTopic) Last(ctx context.Context, key []byte) ([]byte, error) {
	return t.Find(ctx, func(have []byte) bool { return string(have) == string(key) })
}

func (t *modelTopic) Find(ctx context.Context, matches func([]byte) bool) ([]byte, error) {
	if err := t.kafka.ask(ctx); err != nil {
		return nil, err
	}
	m := t.kafka.world.kafka
	m.Lock()
	defer m.Unlock()
	for _, r := range slices.Backward(m.Topics[t.name].Partitions[0].Log) {
		if !r.Marker && matches(r.Key) {
			return r.Value, nil
		}
	}
	return nil, nil
}

func (t *modelTopic) Append(ctx context.Context, key, value []byte) error {
	t.kafka.world.saving(t.kafka.process, value)
	return t.write(ctx, t.name, 0, key, value)
}

// modelStore keeps records like a table: a process that claims a record shuts
// others out. The store may be slow, refuse, or store without being able to
// report it.
type modelStore struct {
	world   *world
	process *process
	epoch   int
}

func (w *world) openStore(p *process) func(context.Context, CheckpointConfig) (checkpoint.Store, error) {
	return func(ctx context.Context, _ CheckpointConfig) (checkpoint.Store, error) {
		s := &modelStore{world: w, process: p}
		_, err := s.Load(ctx, checkpoint.Identity{})
		if errors.Is(err, checkpoint.ErrNone) {
			err = nil
		}
		return s, err
	}
}

// openStored opens the store for reading.
func (w *world) openStored(p *process) func(context.Context, CheckpointConfig) (checkpoint.Reader, error) {
	open := w.openStore(p)
	return func(ctx context.Context, c CheckpointConfig) (checkpoint.Reader, error) { return open(ctx, c) }
}

var errModelStore = errors.New("checkpoint store is not available")

// use lets the time of a request pass.
func (s *modelStore) use(ctx context.Context) error {
	s.world.mu.Lock()
	latency := s.world.storeLatency
	s.world.mu.Unlock()
	pass(ctx, latency+time.Millisecond)
	s.process.thawed()
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.process.dead || s.world.storeRefuses {
		return errModelStore
	}
	return nil
}

func (s *modelStore) Load(ctx context.Context, id checkpoint.Identity) (checkpoint.Record, error) {
	if err := s.use(ctx); err != nil {
		return checkpoint.Record{}, err
	}
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if s.world.stored == nil || id == (checkpoint.Identity{}) {
		return checkpoint.Record{}, checkpoint.ErrNone
	}
	return checkpoint.Decode(s.world.stored, id, "model")
}

func (s *modelStore) Claim(ctx context.Context, _ checkpoint.Identity) error {
	if err := s.use(ctx); err != nil {
		return err
	}
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.storeEpoch++
	s.epoch = s.world.storeEpoch
	return nil
}

func (s *modelStore) Save(ctx context.Context, r checkpoint.Record) error {
	encoded, err := checkpoint.Encode(r)
	if err != nil {
		return err
	}
	s.world.mu.Lock()
	if s.world.storeRefuses {
		s.world.attemptedLocked(s.process, "store a checkpoint")
	}
	s.world.mu.Unlock()
	if err := s.use(ctx); err != nil {
		return err
	}
	s.world.saving(s.process, encoded)
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if s.epoch != s.world.storeEpoch {
		return checkpoint.ErrClaimed
	}
	s.world.stored = encoded
	if s.world.storeMumbles && s.world.random.IntN(2) == 0 {
		return errModelStore
	}
	return nil
}

func (s *modelStore) Close() error { return nil }
