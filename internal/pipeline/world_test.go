package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

const (
	modelEvents      = "events"
	modelCheckpoints = "checkpoints"
)

// world is everything around the pipelines: servers, a broker, a store,
// writers, and the record of what has really happened.
type world struct {
	t      testing.TB
	seed   uint64
	plan   plan
	random *rand.Rand // guarded by mu
	kafka  *model.Cluster

	forbidden bool // Kafka does not allow transactional IDs

	mu           sync.Mutex
	primary      *modelServer // the server that the connection string names
	backup       *modelServer
	stored       []byte // of the store that is not a topic
	storeEpoch   int
	storeLatency time.Duration
	storeRefuses bool
	storeMumbles bool     // the store occasionally stores but reports a failure
	rows         int      // written so far
	begun        bool     // the slot was lost, moved or the table was out: a refusal is right
	unready      bool     // the server was not set up correctly: a refusal is right, and nothing is lost
	forked       bool     // the server lacks what may have been published: a refusal may be right
	failures     []string // what must not happen but did
	story        []string
	processes    []*process
	writers      map[string]int // the process that has a producer ID and epoch
	now          *process
}

// process is one run of the streamer.
type process struct {
	world    *world
	number   int
	server   *modelServer  // the last server it connected to
	slept    bool          // it was frozen for a while
	frozen   chan struct{} // closed when it continues; nil while it runs
	dead     bool          // killed: nothing from it reaches a server any more
	unlocked time.Time     // when it lost its lock; zero while it has one, or never had one
	vain     int           // attempts to open streams or store checkpoints while that was refused
	cancel   context.CancelFunc
	done     chan struct{}
	err      error
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), kafka: model.New(2), writers: map[string]int{}}
	w.primary = newModelServer(w)
	w.kafka.Topic(modelEvents, 1+int(seed%3))
	w.kafka.Topic(modelCheckpoints, 1)
	w.kafka.Topic("dead", 1)
	return w
}

// tell adds to the story, which is printed if a history fails.
func (w *world) tell(format string, arguments ...any) {
	w.story = append(w.story, time.Now().Format("15:04:05.000")+"  "+fmt.Sprintf(format, arguments...))
}

// failLocked records what must not happen.
func (w *world) failLocked(format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	w.tell("WRONG: %s", text)
	w.failures = append(w.failures, text)
}

// storyteller adds the pipelines' logs to the story.
type storyteller struct {
	world  *world
	number int
}

func (s storyteller) Enabled(context.Context, slog.Level) bool { return true }
func (s storyteller) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s storyteller) WithGroup(string) slog.Handler            { return s }
func (s storyteller) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	fmt.Fprintf(&text, "  [%d] %s", s.number, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&text, " %s=%v", a.Key, a.Value); return true })
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.tell("%s", text.String())
	return nil
}

// quiet receives all metrics and keeps nothing.
type quiet struct{}

func (quiet) Published(router.Publication) {}
func (quiet) Failed(string)                {}
func (quiet) Reconnected()                 {}
func (quiet) Skipped()                     {}
func (quiet) Phase(Phase)                  {}
func (quiet) Position(time.Time, int, int) {}
func (quiet) DeadLetter(string)            {}
func (quiet) Resuming(string)              {}
func (quiet) CatchingUp(bool)              {}
func (quiet) Slot(replication.Slot)        {}
func (quiet) Read(string, int64)           {}
func (quiet) Removed(int)                  {}
func (quiet) Loose(int64)                  {}
func (quiet) Rewind(replication.Slot)      {}
func (quiet) Snapshot(int64, int64)        {}

func (w *world) config(p *process) Config {
	log := slog.New(storyteller{w, p.number})
	columns := map[decoder.Attribute]string{
		decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid",
		decoder.Type: "type", decoder.Payload: "payload",
	}
	store := "kafka"
	if w.plan.ownStore {
		store = "model"
	}
	var poison router.Policy
	letters := ""
	if w.plan.poison {
		poison, letters = router.PolicyDeadLetter, "dead"
	}
	return Config{
		DSN: func(context.Context) (string, error) { return "", nil },
		Replication: replication.Config{
			Slot: modelSlotName, Publication: "streamer", Outboxes: []replication.Outbox{{Table: "public.outbox", Columns: modelColumns}},
			ConnectTimeout: 5 * time.Second, SenderTimeout: 30 * time.Second,
		},
		Mappings: []decoder.Mapping{{Schema: "public", Table: "outbox", Columns: columns}},
		Rules: router.Rules{
			Tables: []router.TableRules{{
				Source: "/shop", Type: "{type}", Topic: modelEvents, Key: cmp.Or(w.plan.key, "{aggregate_id}"),
				Mode: router.Binary, NullPayload: router.NullJSON, Columns: columns, Schema: "public", Table: "outbox", Poison: poison,
			}},
			DeadLetterTopic: letters,
		},
		Cleanups: []Cleanup{{}},
		Producer: router.ProducerConfig{
			Compression: "none", MaxBatchBytes: 1 << 10, MaxInFlightBytes: 16 << 10, RequestTimeout: 10 * time.Second, UnknownGrace: time.Hour,
			RetryInitial: 100 * time.Millisecond, RetryMax: 5 * time.Second, MetadataInterval: 15 * time.Second, Log: log,
		},
		Checkpoint: CheckpointConfig{Store: store, Interval: time.Second, Topic: modelCheckpoints},
		Resume:     w.plan.resume, Reading: w.plan.reading, CatchUpFrom: 2 << 10,
		StatusInterval: 5 * time.Second, BlockedTimeout: 30 * time.Second, DrainTimeout: 10 * time.Second,
		RetryInitial: 100 * time.Millisecond, RetryMax: 5 * time.Second, Log: log, Metrics: quiet{}, Until: w.plan.until,
	}
}

// attemptedLocked notes that a process tries what is currently refused, for 20
// seconds.
func (w *world) attemptedLocked(p *process, what string) {
	if p.vain++; p.vain == 60 {
		w.failLocked("process %d has tried %d times in less than a minute to %s", p.number, p.vain, what)
	}
}

// own notes the process that writes with a producer ID and epoch.
func (w *world) own(p *process, id int64, epoch int16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writers[fmt.Sprint(id, epoch)] = p.number
}

func modelEventID(r model.Record) string {
	if id := r.Header("streamer-event-id"); id != "" {
		return id
	}
	return r.EventID()
}

// thawed waits while the process is frozen.
func (p *process) thawed() {
	p.world.mu.Lock()
	frozen := p.frozen
	p.world.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// freezeLocked sends SIGSTOP, and the network lets the server notice it.
func (w *world) freezeLocked(p *process) {
	p.frozen, p.slept = make(chan struct{}), true
	w.forgetLocked(p)
	frozen := p.frozen
	w.later(time.Duration(5+w.random.IntN(40))*time.Second, func() {
		if p.frozen == frozen {
			w.tell("process %d goes on", p.number)
			close(frozen)
			p.frozen = nil
		}
	})
}

// forgetLocked ends what the server holds for a process.
func (w *world) forgetLocked(p *process) {
	for _, c := range w.primary.locks {
		if c.process == p {
			c.cut = true
			delete(w.primary.locks, modelSlotName)
		}
	}
	for _, s := range w.primary.slots {
		if s.reader != nil && s.reader.process == p {
			s.reader.end()
		}
	}
	w.primary.note()
}

// start starts a process.
func (w *world) start() {
	w.mu.Lock()
	p := &process{world: w, number: len(w.processes) + 1, done: make(chan struct{})}
	w.processes = append(w.processes, p)
	w.now = p
	w.tell("process %d starts", p.number)
	w.mu.Unlock()
	pipeline, err := newPipeline(w.config(p), servers{
		others:   noOthers,
		database: w.connectDatabase(p), read: w.read(p), kafka: w.connectKafka(p), store: w.openStore(p), stored: w.openStored(p),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.err = pipeline.Run(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tell("process %d ends: %v", p.number, p.err)
		w.endedLocked(p)
	}()
}

// endedLocked judges how a process has ended.
func (w *world) endedLocked(p *process) {
	switch {
	case p.dead:
	case failure.ClassOf(p.err) == failure.Refused:
		if !w.begun && !w.forked && !w.unready && !strings.Contains(p.err.Error(), "was rejected by the broker") {
			w.failLocked("process %d refuses without a reason: %v", p.number, p.err)
		}
	case p.err == nil:
		w.cleanLocked(p)
	}
}

// running reports whether the current process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// refused reports whether it has ended because the operator must decide.
func (p *process) refused() bool {
	return !p.running() && failure.ClassOf(p.err) == failure.Refused && !strings.Contains(p.err.Error(), "was rejected by the broker")
}

// stop sends SIGTERM. It reports whether the process ended cleanly and in time.
func (w *world) stop() {
	w.mu.Lock()
	w.tell("SIGTERM to process %d", w.now.number)
	w.mu.Unlock()
	w.now.cancel()
	select {
	case <-w.now.done:
	case <-time.After(2 * time.Minute):
		w.mu.Lock()
		w.failLocked("process %d does not stop", w.now.number)
		w.mu.Unlock()
		w.kill()
	}
}

// kill sends SIGKILL: the process no longer reaches anything. What it leaves in
// memory is ended as well, but the result does not count.
func (w *world) kill() {
	w.mu.Lock()
	p := w.now
	p.dead = true
	w.tell("SIGKILL to process %d", p.number)
	for _, c := range w.primary.locks {
		if c.process == p {
			delete(w.primary.locks, modelSlotName)
		}
	}
	for _, s := range w.primary.slots {
		if s.reader != nil && s.reader.process == p {
			s.reader.end()
		}
	}
	w.primary.note()
	w.mu.Unlock()
	p.cancel()
}

// write commits a transaction of some rows.
func (w *world) write() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.primary.up || w.primary.standby {
		return
	}
	n := 1 + w.random.IntN(4)
	if w.plan.single {
		n = 1
	}
	if w.random.IntN(20) == 0 {
		n = 40
	}
	rows := make([]modelRow, n)
	for i := range rows {
		w.rows++
		bad := w.plan.poison && w.random.IntN(8) == 0
		rows[i] = modelRow{bad: bad, id: fmt.Sprintf("%s-%d", w.primary.name, w.rows), key: fmt.Sprintf("k%d", w.random.IntN(7))}
	}
	if w.plan.poison && w.random.IntN(6) == 0 {
		w.kafka.Lock()
		w.kafka.Poison[rows[w.random.IntN(n)].id] = sarama.ErrInvalidRecord
		w.kafka.Unlock()
	}
	w.primary.commit(rows...)
	w.tell("commit at %s of %s … (%d rows)", w.primary.wal[len(w.primary.wal)-1].commit, rows[0].id, n)
}

// published are the events in Kafka by id, in the order of writing.
func (w *world) published() map[string][]model.Record {
	w.kafka.Lock()
	defer w.kafka.Unlock()
	all := map[string][]model.Record{}
	for _, name := range []string{modelEvents, "dead"} {
		for _, p := range w.kafka.Topics[name].Partitions {
			for _, r := range p.Log {
				if !r.Marker {
					all[modelEventID(r)] = append(all[modelEventID(r)], r)
				}
			}
		}
	}
	return all
}

// record is the stored checkpoint, or nil if there is none.
func (w *world) record() *checkpoint.Record {
	stored := w.stored
	if !w.plan.ownStore {
		w.kafka.Lock()
		for _, r := range w.kafka.Topics[modelCheckpoints].Partitions[0].Log {
			if !r.Marker {
				stored = r.Value
			}
		}
		w.kafka.Unlock()
	}
	if stored == nil {
		return nil
	}
	r, err := checkpoint.Decode(stored, checkpoint.Identity{SystemID: modelSystem, Database: modelDatabase, Slot: modelSlotName}, "model")
	if err != nil {
		w.failLocked("stored checkpoint: %v", err)
	}
	return &r
}

// noOthers is for worlds with no other publisher.
func noOthers(context.Context, cluster, replication.Config, predecessor.Outbox) (*predecessor.Published, error) {
	return nil, nil
}
