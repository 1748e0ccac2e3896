package pipeline

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/replication"
)

var (
	modelSeed      = flag.Uint64("model.seed", 0, "play the history of this seed only, and tell it")
	modelHistories = flag.Int("model.histories", 150, "how many histories to play")
	modelFor       = flag.Duration("model.for", 0, "how long to play, instead of how many")
	modelReview    = flag.Bool("model.review", false, "play the reviewer's themes")
	modelFrom      = flag.Uint64("model.from", 1, "seed of the first; 0 chooses one by the clock")
)

// plan is the parameters of a history.
type plan struct {
	ownStore     bool
	resume       Resume
	reading      Reading
	shortStreams int // per cent of the streams that end after a few messages
	stops        int // per cent of the steps that are SIGTERMs
	actions      []action
	until        replication.LSN
	key          string
	poison       bool // some rows cannot be published
	single       bool // transactions have one row
	steps        int
}

// action is something that happens to the world.
type action struct {
	name string
	do   func(*world)
}

var (
	aCut     = action{"the walsender is terminated", func(w *world) { w.primary.cut(true, false) }}
	aSQL     = action{"the lock's session is terminated", func(w *world) { w.primary.cut(false, true) }}
	aRestart = action{"the server crashes and restarts", func(w *world) {
		w.primary.up = false
		w.primary.crash()
		w.primary.started = fmt.Sprintf("%s, run of %s", w.primary.name, time.Now())
		w.later(3*time.Second, func() { w.primary.up = true; w.primary.note() })
	}}
	aAway = action{"the server is away for a while", func(w *world) {
		s := w.primary
		s.up = false
		s.crash()
		w.later(time.Duration(5+w.random.IntN(20))*time.Second, func() { s.up = s == w.primary; s.note() })
	}}
	aFlush = action{"the server's checkpoint", func(w *world) {
		for _, s := range w.primary.slots {
			s.durable = s.confirmed
		}
	}}
	aPromote  = action{"a standby that has everything is promoted", func(w *world) { w.failOver(0) }}
	aPromote2 = action{"a standby that lags is promoted", func(w *world) { w.failOver(3) }}
	aStreamed = action{"the standby that is streamed from is promoted", func(w *world) {
		w.primary.standby = true
		w.primary.cut(true, true)
		w.later(20*time.Second, func() { w.primary.promote() })
	}}
	aBackup  = action{"a backup is taken", func(w *world) { w.backup = w.primary.copyUpTo("restored", w.primary.end) }}
	aRestore = action{"the backup is restored", func(w *world) {
		if w.backup == nil {
			return
		}
		w.replace(w.backup)
		w.backup = nil
		w.forked = true
	}}
	aFreeze = action{"Kafka is frozen", func(w *world) {
		w.kafka.Freeze()
		w.later(time.Duration(w.random.IntN(60))*time.Second, w.kafka.Thaw)
	}}
	aFaults = action{"Kafka has accidents", func(w *world) {
		kinds := []model.Kind{
			model.ErrorBefore, model.ErrorAfter, model.DropBlock, model.CutBefore, model.CutAfter, model.Ghost,
			model.RefuseSend, model.Move, model.Leaderless, model.Stall, model.Slow,
		}
		w.kafka.Lock()
		defer w.kafka.Unlock()
		for _, topic := range []string{modelEvents, modelCheckpoints} {
			for id, p := range w.kafka.Topics[topic].Partitions {
				for n := range 12 {
					if w.random.IntN(3) == 0 {
						w.kafka.Faults[model.At(topic, int32(id), p.Arrivals+n)] = model.Fail(kinds[w.random.IntN(len(kinds))], sarama.ErrNotEnoughReplicas)
					}
				}
			}
		}
	}}
	aRefuse = action{"the store refuses", func(w *world) {
		w.storeRefuses = true
		w.now.vain = 0
		w.later(20*time.Second, func() { w.storeRefuses = false })
	}}
	aSlow = action{"the store is slow", func(w *world) {
		w.storeLatency = 8 * time.Second
		w.later(30*time.Second, func() { w.storeLatency = 0 })
	}}
	aMumble = action{"the store does not say what it has done", func(w *world) {
		w.storeMumbles = true
		w.later(15*time.Second, func() { w.storeMumbles = false })
	}}
	aBroken = action{"decoding fails", func(w *world) {
		s := w.primary
		s.broken = true
		w.now.vain = 0
		s.note()
		w.later(20*time.Second, func() { s.broken = false })
	}}
	aTable = action{"the table leaves the publication and returns", func(w *world) {
		s := w.primary
		if !s.table.Published {
			return
		}
		s.entry++
		s.table.Published, w.unready = false, true
		s.commit(modelRow{id: fmt.Sprintf("unpublished-%d", w.rows), key: "k"})
		w.begun = w.begun || w.record() != nil // before the first start of a streamer, nothing is missing
		w.later(time.Duration(w.random.IntN(8000))*time.Millisecond, func() { s.table.Published = true })
	}}
	aSlot = action{"the slot is dropped and created again", func(w *world) {
		s := w.primary
		s.cut(true, false)
		delete(s.slots, modelSlotName)
		s.commit(modelRow{id: fmt.Sprintf("gap-%d", w.rows), key: "k"})
		s.wal[len(s.wal)-1].published = false
		s.slots[modelSlotName] = &modelSlot{confirmed: s.end, durable: s.end}
		if w.begun = w.begun || w.record() != nil; !w.begun { // a streamer begins where its slot begins
			for i := range s.wal {
				s.wal[i].published = false
			}
		}
	}}
	aGrow = action{"the topic grows", func(w *world) {
		w.kafka.Lock()
		defer w.kafka.Unlock()
		if t := w.kafka.Topics[modelEvents]; len(t.Partitions) < 6 {
			w.kafka.GrowLocked(t, 1)
		}
	}}
	aDeadFork = action{"a standby is promoted while the process is dead, and goes on", func(w *world) {
		w.mu.Unlock()
		w.kill()
		w.mu.Lock()
		w.failOver(w.random.IntN(6))
		for range w.random.IntN(8) {
			w.rows++
			w.primary.commit(modelRow{id: fmt.Sprintf("%s-%d", w.primary.name, w.rows), key: fmt.Sprintf("k%d", w.random.IntN(7))})
		}
		w.primary.fill(w.random.IntN(600))
	}}
	aDeadRestore = action{"the backup is restored while the process is dead, and goes on", func(w *world) {
		if w.backup == nil {
			return
		}
		w.mu.Unlock()
		w.kill()
		w.mu.Lock()
		w.replace(w.backup)
		w.backup, w.forked = nil, true
		for range w.random.IntN(8) {
			w.rows++
			w.primary.commit(modelRow{id: fmt.Sprintf("%s-%d", w.primary.name, w.rows), key: fmt.Sprintf("k%d", w.random.IntN(7))})
		}
		w.primary.fill(w.random.IntN(600))
	}}
	aZombie = action{"the process is frozen, and another one starts", func(w *world) {
		if w.now.running() && !w.now.dead {
			w.freezeLocked(w.now)
			w.mu.Unlock()
			w.start()
			w.mu.Lock()
		}
	}}
	aForget = action{"a broker restarts", func(w *world) { go w.kafka.Restart() }}
)

// replace puts another server in the place of the primary.
func (w *world) replace(s *modelServer) {
	w.primary.up = false
	w.primary.crash()
	w.primary = s
}

// failOver promotes a copy of the primary that lacks its last transactions.
func (w *world) failOver(lag int) {
	old, lsn := w.primary, w.primary.end
	if n := len(old.wal); lag > 0 && n > 0 {
		lsn = old.wal[max(0, n-1-w.random.IntN(lag))].commit // in the middle of it
	}
	s := old.copyUpTo(fmt.Sprintf("promoted%d", len(w.story)), lsn)
	for _, slot := range s.slots { // a synchronised slot is approximately where the primary's is
		slot.synced = true
		slot.confirmed = min(old.slots[modelSlotName].confirmed, s.end)
		if w.random.IntN(2) == 0 {
			slot.confirmed = min(old.slots[modelSlotName].durable, s.end)
		}
		slot.durable = slot.confirmed
	}
	s.promote()
	if lsn < old.end {
		w.forked = true
	}
	w.replace(s)
}

// later calls a function after a while, unless the history is over by then.
func (w *world) later(after time.Duration, do func()) {
	time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	})
}

var themes = [][]action{
	{aCut, aCut, aSQL, aFaults},
	{aCut, aRestart, aFlush, aFaults},
	{aPromote, aCut, aFlush, aFreeze},
	{aPromote2, aCut, aFreeze, aFlush},
	{aPromote, aPromote2, aSQL, aFlush},
	{aStreamed, aCut, aSQL},
	{aBackup, aRestore, aCut, aFlush, aFreeze},
	{aRefuse, aSlow, aMumble, aCut, aSQL},
	{aBroken, aCut},
	{aFreeze, aFaults, aCut, aRestart},
	{aAway, aFaults, aFreeze},
	{aTable, aCut},
	{aSlot, aCut},
	{aForget, aFaults, aCut},
}

var reviewThemes = [][]action{
	{aGrow, aCut, aFaults},
	{aGrow, aGrow, aFreeze, aCut, aSQL},
	{aGrow, aPromote, aFreeze, aFlush},
	{aGrow, aPromote2, aFreeze, aFlush},
	{aGrow, aRefuse, aSlow, aMumble, aRestart},
	{aZombie, aCut, aFaults},
	{aZombie, aFreeze, aSlow, aMumble},
	{aZombie, aPromote, aPromote2, aFlush, aFreeze},
	{aZombie, aGrow, aRestart, aSQL},
	{aStreamed, aZombie, aPromote2, aFreeze},
	{aBackup, aRestore, aZombie, aFreeze, aFlush},
	{aRestart, aFlush, aGrow, aSlow},
	{aDeadFork, aSlow, aFreeze, aFlush},
	{aDeadFork, aRefuse, aFlush, aCut},
	{aDeadFork, aGrow, aMumble, aFreeze},
	{aBackup, aDeadRestore, aSlow, aFreeze},
	{aBackup, aDeadRestore, aRefuse, aCut, aFlush},
	{aBackup, aRestore, aDeadFork, aPromote, aPromote2, aFlush},
}

// planOf draws a plan. The world's own random numbers come from the seed as
// well, so a seed is a whole history.
func planOf(w *world) plan {
	r := w.random
	p := plan{stops: 3 + r.IntN(8), resume: ResumeAuto, reading: ReadStream, actions: themes[r.IntN(len(themes))], steps: 20 + r.IntN(60)}
	p.ownStore = r.IntN(2) == 0
	if r.IntN(4) == 0 {
		p.reading = ReadAuto
	}
	if *modelReview {
		p.actions = reviewThemes[r.IntN(len(reviewThemes))]
		p.poison, p.single = r.IntN(2) == 0, r.IntN(3) == 0
	}
	if r.IntN(6) == 0 {
		p.resume, p.ownStore = ResumeAtLeastOnce, true // a topic keeps no other process out without a fence
	}
	if r.IntN(2) == 0 {
		p.shortStreams = 30
	}
	return p
}

// play plays the history of a seed, and returns what was wrong with it.
func play(t *testing.T, seed uint64) (story string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.plan = planOf(w)
		w.start()
		w.live()
		w.heal()
		w.conclude()
		story, err = strings.Join(w.story, "\n"), w.verdict()
	})
	return story, err
}

// live runs the actions of the history.
func (w *world) live() {
	for range w.plan.steps {
		w.mu.Lock()
		dice, wait := w.random.IntN(100), time.Duration(w.random.IntN(1500))*time.Millisecond
		w.mu.Unlock()
		switch {
		case dice < 60:
			w.write()
		case dice < 70:
			w.mu.Lock()
			w.primary.fill(w.random.IntN(4000))
			w.mu.Unlock()
			wait *= 5
		case dice < 88:
			w.mu.Lock()
			a := w.plan.actions[w.random.IntN(len(w.plan.actions))]
			w.tell("— %s", a.name)
			a.do(w)
			w.mu.Unlock()
		case dice < 88+w.plan.stops:
			w.stop()
		default:
			w.kill()
		}
		pass(context.Background(), wait)
		if !w.now.running() || w.now.dead {
			if w.now.refused() && !w.now.dead {
				return
			}
			w.start()
		}
	}
}

// heal waits until every fault has ended.
func (w *world) heal() {
	pass(context.Background(), 70*time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell("everything is healed")
	w.kafka.Lock()
	clear(w.kafka.Faults)
	w.kafka.Unlock()
	w.kafka.Thaw()
	for _, p := range w.processes {
		if p != w.now {
			p.dead = true
			if p.frozen != nil {
				close(p.frozen)
				p.frozen = nil
			}
			w.forgetLocked(p)
			p.cancel()
		}
	}
}

// conclude lets the streamer come to rest, lose its connection, stop, and start
// again: a fault that is merely quiet is not over.
func (w *world) conclude() {
	w.write()
	w.rest()
	w.mu.Lock()
	w.tell("— the last reconnect")
	w.primary.cut(true, true)
	w.mu.Unlock()
	w.write()
	w.rest()
	w.stop()
	if !w.now.refused() {
		w.start()
		w.write()
		w.rest()
		w.stop()
	}
	w.audit()
	w.kafka.Close()
	for _, p := range w.processes {
		p.cancel()
		<-p.done
	}
	pass(context.Background(), 3*time.Minute) // abandoned calls end by themselves
}

// rest waits until everything is published, or the streamer has ended.
func (w *world) rest() {
	for range 120 {
		if !w.now.running() {
			if w.now.refused() && !w.now.dead {
				return
			}
			w.start()
		}
		pass(context.Background(), 3*time.Second)
		w.mu.Lock()
		published, missing := w.published(), false
		for _, t := range w.primary.wal {
			for _, row := range t.rows {
				missing = missing || t.published && len(published[row.id]) == 0
			}
		}
		w.mu.Unlock()
		if !missing {
			pass(context.Background(), 15*time.Second)
			return
		}
	}
}

// replay plays one seed until it fails. Go chooses freely among goroutines and
// among the cases of a select, so a seed occasionally takes a different course.
func replay(t *testing.T, seed uint64) {
	t.Helper()
	for range 200 {
		if story, err := play(t, seed); err != nil {
			t.Log(story)
			t.Fatal(err)
		}
	}
}

// TestModel plays thousands of histories. A failure names its seed. Play the
// seed again with -model.seed, which also prints what happened.
func TestModel(t *testing.T) {
	t.Parallel()
	if *modelSeed != 0 {
		replay(t, *modelSeed)
		return
	}
	from := *modelFrom
	if from == 0 {
		from = uint64(time.Now().UnixNano())
		t.Logf("seeds from %d", from)
	}
	began := time.Now()
	var next atomic.Uint64
	next.Store(from - 1)
	last := from + uint64(*modelHistories) - 1
	var players sync.WaitGroup
	for range 2 {
		players.Go(func() {
			for seed := next.Add(1); (seed <= last || time.Since(began) < *modelFor) && !t.Failed(); seed = next.Add(1) {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					if story, err := play(t, seed); err != nil {
						t.Log(story)
						t.Error(err)
					}
				})
			}
		})
	}
	players.Wait()
	t.Logf("%d histories in %s", next.Load()-from+1, time.Since(began).Round(time.Second))
}
