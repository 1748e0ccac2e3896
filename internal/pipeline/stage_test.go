package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/wire"
)

// stage is a world of the model in which a test, not chance, decides what the
// server sends, the connections answer and the store does, and when. Its times
// are exact: a store takes no time, and an SQL query takes a millisecond.
//
// Use a stage only from the bubble's main goroutine. The world's mutex guards
// what the pipeline shares with it.
type stage struct {
	*testing.T
	world    *world
	config   Config
	process  *process
	pipeline *Pipeline
	ledger   *ledger
	began    time.Time // when the first session began

	// Guarded by the world's mutex.
	slow      time.Duration               // checks of the slot take that much longer
	silent    bool                        // the server has WAL, but does not send it by itself
	asked     func(question string) error // called before a query to PostgreSQL is answered
	questions []question
	readers   []*script
	phases    []phased
	resuming  []bool      // whether each start keeps other instances out
	seen      []time.Time // when the slot was reported
	acks      []int       // bytes in flight after each acknowledgement
	flow      *flow       // the flow of the last acknowledgement
	ended     time.Time
}

type question struct {
	at   time.Time
	what string
}

type phased struct {
	at    time.Time
	phase Phase
}

// perform plays a scene in its own bubble.
func perform(t *testing.T, scene func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.plan = plan{ownStore: true, resume: ResumeAuto, reading: ReadStream}
		s := &stage{T: t, world: w, ledger: &ledger{}}
		s.config = w.config(&process{world: w, number: 1})
		defer s.close()
		scene(s)
	})
}

// close ends everything. Any finding of the model's oracle fails the test.
func (s *stage) close() {
	s.Helper()
	s.world.kafka.Thaw()
	s.ledger.answers(nil)
	s.answers(nil)
	for _, p := range s.world.processes {
		p.cancel()
		<-p.done
	}
	s.world.kafka.Close()
	pass(context.Background(), 3*time.Minute) // abandoned calls end by themselves
	if err := s.world.verdict(); err != nil {
		s.Error(err)
	}
	if s.Failed() {
		s.Log("\n" + strings.Join(s.world.story, "\n"))
	}
}

// start starts a process, which is not streaming yet.
func (s *stage) start() {
	s.Helper()
	w := s.world
	w.mu.Lock()
	p := &process{world: w, number: len(w.processes) + 1, done: make(chan struct{})}
	w.processes = append(w.processes, p)
	w.now, s.process = p, p
	w.mu.Unlock()
	s.config.Log = slog.New(storyteller{w, p.number})
	s.config.Producer.Log = s.config.Log
	s.config.Metrics = stageMetrics{stage: s}
	connect, open, dial := w.connectDatabase(p), w.openStore(p), w.connectKafka(p)
	pipeline, err := newPipeline(s.config, servers{
		others: noOthers,
		database: func(ctx context.Context, c replication.Config) (database, error) {
			if err := s.question("connect"); err != nil {
				return nil, err
			}
			d, err := connect(ctx, c)
			if err != nil {
				return nil, err
			}
			return stageControl{d.(*modelControl), s}, nil
		},
		read: func(
			ctx context.Context, how Reading, _ replication.Config, _ replication.Server, _ replication.Slot, start replication.LSN,
		) (reader, error) {
			return s.open(ctx, p, how, start)
		},
		kafka:  dial,
		stored: w.openStored(p),
		store: func(ctx context.Context, c CheckpointConfig) (checkpoint.Store, error) {
			if c.Store == "file" {
				return openStore(ctx, c)
			}
			inner, err := open(ctx, c)
			if err != nil {
				return nil, err
			}
			return stageStore{inner.(*modelStore), s.ledger}, nil
		},
	})
	require.NoError(s, err)
	s.pipeline = pipeline
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.err = pipeline.Run(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tell("process %d ends: %v", p.number, p.err)
		s.ended = time.Now()
	}()
}

// stream starts a process and waits until its first session has begun. at and
// since count from that moment.
func (s *stage) stream() {
	s.Helper()
	s.began = time.Time{}
	before := len(s.phases)
	s.start()
	for range 1000 {
		pass(s.Context(), time.Millisecond)
		synctest.Wait()
		for _, p := range s.phasesSince(before) {
			if p.phase == Streaming {
				s.began = p.at
				return
			}
		}
	}
	require.Fail(s, "no session has begun")
}

// warmUp streams, publishes the first row and has it confirmed, so that every
// topic is known. Then the server requests a reply, at 3 s. From that moment
// the session ticks every second, and confirms every five seconds.
func (s *stage) warmUp() {
	s.Helper()
	s.stream()
	s.commit(0x2000, "a")
	s.at(3 * time.Second)
	require.EqualValues(s, 0x2040, s.reader().last())
	s.idle(0x2040, true)
	synctest.Wait()
}

// at waits until that long after the first session began, and until everything
// due at that moment has happened.
func (s *stage) at(after time.Duration) {
	s.Helper()
	wait := time.Until(s.began.Add(after))
	require.GreaterOrEqual(s, wait, time.Duration(0), "the scene is already at %s", time.Since(s.began))
	pass(context.Background(), wait)
	synctest.Wait()
}

// since is how long after the first session began.
func (s *stage) since(at time.Time) time.Duration { return at.Sub(s.began) }

// stop sends SIGTERM.
func (s *stage) stop() { s.process.cancel() }

// kill sends SIGKILL.
func (s *stage) kill() {
	s.world.mu.Lock()
	s.process.dead = true
	for _, c := range s.world.primary.locks {
		if c.process == s.process {
			c.cut = true
			delete(s.world.primary.locks, modelSlotName)
		}
	}
	s.world.mu.Unlock()
	s.process.cancel()
	<-s.process.done
}

// exit waits for the end of the process, and returns its time and what Run
// returned.
func (s *stage) exit() (after time.Duration, err error) {
	s.Helper()
	select {
	case <-s.process.done:
	case <-time.After(time.Hour):
		require.Fail(s, "the process does not end")
	}
	return s.since(s.ended), s.process.err
}

// undrained is what was in flight when the process gave up.
func undrained(s *stage, err error) *DrainError {
	s.Helper()
	var drain *DrainError
	require.ErrorAs(s, err, &drain)
	return drain
}

// until waits until a condition is true, and checks it every millisecond.
func (s *stage) until(what string, condition func() bool) {
	s.Helper()
	for range 10 * 60 * 1000 {
		synctest.Wait()
		if condition() {
			return
		}
		pass(context.Background(), time.Millisecond)
	}
	require.Fail(s, "never: "+what)
}

func (s *stage) phasesSince(n int) []phased {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return slices.Clone(s.phases[n:])
}

// answers replaces the answers to queries to PostgreSQL. nil restores the true
// ones.
func (s *stage) answers(with func(question string) error) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.asked = with
}

// question records a query to PostgreSQL, and returns why there is no answer.
func (s *stage) question(what string) error {
	s.world.mu.Lock()
	s.questions = append(s.questions, question{time.Now(), what})
	asked := s.asked
	s.world.mu.Unlock()
	if asked == nil {
		return nil
	}
	return asked(what)
}

// times are the times of a query, from the n-th on, counted from the first
// session.
func (s *stage) times(what string) (at []time.Duration) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	for _, q := range s.questions {
		if q.what == what {
			at = append(at, s.since(q.at))
		}
	}
	return at
}

// told returns how often the log contains a message.
func (s *stage) told(message string) (times int) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	for _, line := range s.world.story {
		if strings.Contains(line, message) {
			times++
		}
	}
	return times
}

// reader is the reader opened last.
func (s *stage) reader() *script {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	require.NotEmpty(s, s.readers)
	return s.readers[len(s.readers)-1]
}

// opened is the number of readers opened.
func (s *stage) opened() int {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return len(s.readers)
}

// transaction appends to the server's WAL and sends nothing.
func (s *stage) transaction(at replication.LSN, ids ...string) modelTransaction {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	require.GreaterOrEqual(s, at, s.world.primary.end)
	t := modelTransaction{commit: at, end: at + 0x40, at: time.Now().UnixMicro(), published: true}
	for _, id := range ids {
		t.rows = append(t.rows, modelRow{id: id, key: "k"})
	}
	s.world.primary.wal = append(s.world.primary.wal, t)
	s.world.primary.end = t.end
	return t
}

// commit appends a transaction to the WAL and sends it.
func (s *stage) commit(at replication.LSN, ids ...string) {
	t := s.transaction(at, ids...)
	s.reader().send(t)
}

// idle reports that the WAL has reached lsn and that none of it concerns the
// streamer. With reply it requests an answer.
func (s *stage) idle(lsn replication.LSN, reply bool) {
	s.world.mu.Lock()
	s.world.primary.end = max(s.world.primary.end, lsn)
	s.world.mu.Unlock()
	s.reader().say(replication.Message{Kind: replication.Keepalive, LSN: lsn, ReplyRequested: reply})
}

// ids are the events in Kafka, in the order of writing.
func (s *stage) ids() (ids []string) {
	s.world.kafka.Lock()
	defer s.world.kafka.Unlock()
	for _, p := range s.world.kafka.Topics[modelEvents].Partitions {
		for _, r := range p.Log {
			if !r.Marker {
				ids = append(ids, r.EventID())
			}
		}
	}
	return ids
}

// flood commits a transaction, at 0x3000, that does not fit into the producer's
// memory.
func (s *stage) flood() (ids []string) {
	for i := range 200 {
		ids = append(ids, fmt.Sprintf("flood-%d", i))
	}
	s.commit(0x3000, ids...)
	return ids
}

// script is a reader that delivers what the test wants. The world's mutex
// guards it.
type script struct {
	stage     *stage
	process   *process
	how       Reading
	start     replication.LSN
	queue     []replication.Message
	err       error // comes after the queue
	described bool
	woken     chan struct{}
	confirmed []confirmation
	received  replication.LSN
	heard     time.Time
	replied   func(*script) // called after each confirmation, with the mutex held
	farewell  error         // why it cannot end cleanly
	behind    int64
	openedAt  time.Time
	finished  time.Time // cleanly
	closed    time.Time
}

type confirmation struct {
	when time.Time
	at   time.Duration // since the first session began
	lsn  replication.LSN
	ping bool
}

// catchUpScript is a script that reads by SQL.
type catchUpScript struct{ *script }

func (r catchUpScript) Behind() int64 {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	return r.behind
}

// open opens a reader for the pipeline. Unless the server is silent, the reader
// begins with what the server has from start on.
func (s *stage) open(ctx context.Context, p *process, how Reading, start replication.LSN) (reader, error) {
	err := s.question("read " + string(how))
	pass(ctx, time.Millisecond)
	if err != nil {
		return nil, err
	}
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if p.dead {
		return nil, errModelDown
	}
	r := &script{
		stage: s, process: p, how: how, start: start, received: start, heard: time.Now(), openedAt: time.Now(),
		woken: make(chan struct{}, 1),
	}
	for _, t := range s.world.primary.wal {
		if t.commit >= start && !s.silent {
			r.queue = t.messages(r.queue, &r.described)
		}
	}
	s.readers = append(s.readers, r)
	if how == ReadCatchUp {
		return catchUpScript{r}, nil
	}
	return r, nil
}

// send sends a whole transaction.
func (r *script) send(t modelTransaction) { r.say(r.parts(t)...) }

// parts are the messages of a transaction: its beginning, possibly a
// description of the table, its rows and its end.
func (r *script) parts(t modelTransaction) []replication.Message {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	return t.messages(nil, &r.described)
}

func (r *script) say(messages ...replication.Message) {
	r.stage.world.mu.Lock()
	r.queue = append(r.queue, messages...)
	r.stage.world.mu.Unlock()
	ring(r.woken)
}

// fail ends the connection, after the queued messages.
func (r *script) fail(err error) {
	r.stage.world.mu.Lock()
	r.err = err
	r.stage.world.mu.Unlock()
	ring(r.woken)
}

// answer sets what the server does after each confirmation.
func (r *script) answer(replied func(*script)) {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	r.replied = replied
}

func (r *script) Next() (replication.Message, error) {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	if len(r.queue) == 0 {
		return replication.Message{}, r.err
	}
	m := r.queue[0]
	r.queue = r.queue[1:]
	r.heard = time.Now()
	if m.Kind == replication.Keepalive {
		r.received = max(r.received, m.LSN)
	}
	return m, nil
}

func (r *script) Wait(until time.Time) error {
	r.stage.world.mu.Lock()
	ready := len(r.queue) > 0 || r.err != nil
	r.stage.world.mu.Unlock()
	if ready {
		return nil
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-r.woken:
	case <-timer.C:
	}
	return nil
}

func (r *script) Wake()         { ring(r.woken) }
func (r *script) Flowing() bool { return false }

func (r *script) Received(lsn replication.LSN) {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	r.received = max(r.received, lsn)
}

func (r *script) LastReceived() time.Time {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	return r.heard
}

func (r *script) Confirm(lsn replication.LSN, ping bool) error {
	w := r.stage.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(r.queue) == 0 && r.err != nil {
		return r.err
	}
	if r.process.dead {
		return errModelCut
	}
	if lsn == 0 || lsn > r.received {
		w.failLocked("confirmation of %s, %s was received", lsn, r.received)
	}
	if !r.closed.IsZero() {
		w.failLocked("confirmation of %s on a reader that is closed", lsn)
	}
	w.confirmedLocked(r.process, w.primary, lsn)
	slot := w.primary.slots[modelSlotName]
	slot.confirmed = max(slot.confirmed, lsn)
	r.confirmed = append(r.confirmed, confirmation{when: time.Now(), lsn: lsn, ping: ping})
	if r.replied != nil {
		r.replied(r)
		ring(r.woken)
	}
	return nil
}

func (r *script) Finish(time.Time) error {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	if r.farewell != nil {
		return r.farewell
	}
	r.finished = time.Now()
	return nil
}

func (r *script) Close() {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	r.closed = time.Now()
}

// confirmations are the confirmations that the server has received so far.
func (r *script) confirmations() []confirmation {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	all := slices.Clone(r.confirmed)
	for i := range all {
		all[i].at = r.stage.since(all[i].when)
	}
	return all
}

// last is the newest position confirmed to the server, or 0 without one.
func (r *script) last() replication.LSN {
	all := r.confirmations()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].lsn
}

// isClosed reports whether the pipeline has closed the reader.
func (r *script) isClosed() bool {
	r.stage.world.mu.Lock()
	defer r.stage.world.mu.Unlock()
	return !r.closed.IsZero()
}

// stageControl is an SQL connection whose queries are recorded.
type stageControl struct {
	*modelControl
	stage *stage
}

func (c stageControl) TryLock(ctx context.Context) (bool, error) {
	if err := c.stage.question("lock"); err != nil {
		return false, err
	}
	return c.modelControl.TryLock(ctx)
}

func (c stageControl) Ping(ctx context.Context) error {
	if err := c.stage.question("ping"); err != nil {
		return err
	}
	return c.modelControl.Ping(ctx)
}

func (c stageControl) Slot(ctx context.Context) (replication.Slot, error) {
	if err := c.stage.question("slot"); err != nil {
		return replication.Slot{}, err
	}
	c.stage.world.mu.Lock()
	slow := c.stage.slow
	c.stage.world.mu.Unlock()
	pass(ctx, slow)
	return c.modelControl.Slot(ctx)
}

// stageMetrics records phases, starts and acknowledgements.
type stageMetrics struct {
	quiet
	stage *stage
}

func (m stageMetrics) Phase(p Phase) {
	m.stage.world.mu.Lock()
	defer m.stage.world.mu.Unlock()
	m.stage.phases = append(m.stage.phases, phased{time.Now(), p})
}

func (m stageMetrics) Resuming(atLeastOnce string) {
	m.stage.world.mu.Lock()
	defer m.stage.world.mu.Unlock()
	m.stage.resuming = append(m.stage.resuming, atLeastOnce == "")
}

func (m stageMetrics) Slot(replication.Slot) {
	m.stage.world.mu.Lock()
	defer m.stage.world.mu.Unlock()
	m.stage.seen = append(m.stage.seen, time.Now())
}

// Published is called by the goroutine that owns the producer.
func (m stageMetrics) Published(router.Publication) {
	inFlight := m.stage.pipeline.flow.producer.InFlight()
	m.stage.world.mu.Lock()
	defer m.stage.world.mu.Unlock()
	m.stage.acks, m.stage.flow = append(m.stage.acks, inFlight), m.stage.pipeline.flow
}

// verdict is the outcome of a save.
type verdict struct {
	stored bool
	err    error
}

var (
	taken     = verdict{stored: true}
	turnedOff = verdict{err: errors.New("checkpoint store is away")}
	// unclear is a save that is done but reported as failed.
	unclear = verdict{true, errors.New("connection was lost before the answer")}
)

// ledger records what is saved and when, and gives each save the outcome that
// the test wants.
type ledger struct {
	mu       sync.Mutex
	answer   func(ctx context.Context, r checkpoint.Record) verdict // nil takes everything at once
	tried    []entry
	kept     []entry
	running  int
	overlaps int // of saves with others
}

type entry struct {
	at time.Time
	checkpoint.Record
}

// answers replaces the outcome of saves. nil accepts everything at once.
func (l *ledger) answers(with func(context.Context, checkpoint.Record) verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = with
}

// become gives every save the same outcome, at once.
func (l *ledger) become(v verdict) {
	l.answers(func(context.Context, checkpoint.Record) verdict { return v })
}

func (l *ledger) save(ctx context.Context, r checkpoint.Record, keep func() error) error {
	l.mu.Lock()
	l.tried = append(l.tried, entry{time.Now(), r})
	if l.running++; l.running > 1 {
		l.overlaps++
	}
	answer := l.answer
	l.mu.Unlock()
	v := taken
	if answer != nil {
		v = answer(ctx, r)
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running--
	}()
	if v.stored {
		if err := keep(); err != nil {
			return err
		}
		l.mu.Lock()
		l.kept = append(l.kept, entry{time.Now(), r})
		l.mu.Unlock()
	}
	return v.err
}

// attempts are the saves that were begun. stored are the saves that were done.
func (l *ledger) attempts() []entry { return l.copied(&l.tried) }
func (l *ledger) stored() []entry   { return l.copied(&l.kept) }

func (l *ledger) copied(of *[]entry) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(*of)
}

// last is the stored record.
func (l *ledger) last() checkpoint.Record {
	all := l.stored()
	if len(all) == 0 {
		return checkpoint.Record{}
	}
	return all[len(all)-1].Record
}

// stageStore is the model's store with a ledger.
type stageStore struct {
	*modelStore
	ledger *ledger
}

func (s stageStore) Save(ctx context.Context, r checkpoint.Record) error {
	encoded, err := checkpoint.Encode(r)
	if err != nil {
		return err
	}
	return s.ledger.save(ctx, r, func() error {
		s.world.saving(s.process, encoded)
		s.world.mu.Lock()
		defer s.world.mu.Unlock()
		switch {
		case s.process.dead:
			return errModelStore
		case s.epoch != s.world.storeEpoch:
			return checkpoint.ErrClaimed
		}
		s.world.stored = encoded
		return nil
	})
}

// preload stores a record as an earlier process would have left it.
func (s *stage) preload(r checkpoint.Record) {
	s.Helper()
	r.Identity = checkpoint.Identity{SystemID: modelSystem, Database: modelDatabase, Slot: modelSlotName}
	if r.Timeline == 0 {
		r.Timeline, r.Started = 1, "first"
	}
	encoded, err := checkpoint.Encode(r)
	require.NoError(s, err)
	s.world.stored = encoded
}

// sequence is a position as a checkpoint names it.
func sequence(commit replication.LSN, ordinal uint32) string {
	return wire.FormatSequence(replication.Position{Commit: commit, Ordinal: ordinal})
}
