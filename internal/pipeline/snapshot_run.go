package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

const (
	// longestMoment is how long rows are read as of one moment. Meanwhile, and while
	// the stream is read up to the moment, the server keeps dead rows for the reader.
	// The sum is 10 s at most unless the server needs long to decode.
	longestMoment = 9 * time.Second
	// longestChunk bounds the rows that are asked for at once.
	longestChunk = 1 << 20
	// markEvery is the number of rows between two places at which a checkpoint can
	// be made.
	markEvery = 256
	// snapshotLogEvery is how often progress is logged.
	snapshotLogEvery = 10 * time.Second
)

var (
	// errMomentOver ends reading as of a moment. The next moment goes on after the
	// last row.
	errMomentOver = errors.New("rows were read as of one moment for long enough")
	// errUncovered ends it where the stream has to be read again first.
	errUncovered = errors.New("the IDs in the stream have to be read again")
	errTooMany   = failure.Refuse(failure.Advise(
		fmt.Errorf("the snapshot has published %d rows, which is all that sequences have room for", uint32(math.MaxUint32)),
		"select fewer rows with snapshot.where in a new slot, %s", snapshotRemedy,
	))
)

// snapshotting is the work of a snapshot, from where the checkpoint says to the
// end of the table. All its fields belong to the goroutine in run, except for
// due.
type snapshotting struct {
	ground
	flow     *flow
	source   oldRows
	order    replication.Order
	seam     *seam
	from     replication.LSN // of the slot
	messages tableMessages
	columns  []string
	// keyColumns are those of the order.
	keyColumns []string
	described  bool
	newIDs     func() *decoder.Decoder // for the stream
	idDecoder  *decoder.Decoder
	streamed   streamedIDs
	condemned  map[replication.Position]*router.PoisonError
	limiter    *rate.Limiter
	unsaved    confirmer // for its log
	asked      func() time.Time

	after    replication.Key // of the last row dealt with; nil before the first
	last     replication.Key // no old row has a higher one; nil until it is known
	limit    int             // rows of a moment
	ordinal  uint32          // of the last event
	dealt    uint64          // rows
	progress checkpoint.Snapshot
	marks    []snapshotMark
	text     []byte // of the key of the row at hand
	saved    bool   // the cursor has moved

	began  time.Time // of reading the moment's rows; zero before and after
	logged struct {
		at   time.Time
		rows int64
	}
	due   atomic.Bool // tick is due
	alarm *time.Timer
}

// snapshotMark is a place between two rows, and the tracker's name for it.
type snapshotMark struct {
	lsn      replication.LSN
	progress checkpoint.Snapshot
}

func newSnapshotting(t *tenure, f *flow, source oldRows) (*snapshotting, error) {
	saved := f.saver.lastSaved()
	mapping := decoder.Located(t.config.Mappings, t.tables, t.server.Encoding)[0]
	s := &snapshotting{
		ground: t.ground, flow: f, source: source, order: t.order, seam: f.seam, from: saved.LSN,
		messages: newTableMessages(mapping), columns: mapping.ColumnNames(), keyColumns: t.order.Columns(),
		newIDs:   t.streamedDecoder,
		streamed: streamedIDs{most: mostStreamed}, condemned: t.pipeline.condemned, asked: t.pipeline.stopping,
		limit: t.config.Snapshot.Query.ChunkRows, ordinal: f.seam.ordinal, progress: *saved.Snapshot,
		unsaved: confirmer{ground: t.ground, flow: f},
	}
	if limit := t.config.Snapshot.Rate; limit > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(limit), 1)
		s.limit = min(s.limit, limit*int(longestMoment/time.Second)/2)
	}
	s.idDecoder = s.newIDs()
	s.logged.at, s.logged.rows = time.Now(), s.progress.Rows
	for text, key := range map[string]*replication.Key{s.progress.Last: &s.last, s.progress.After: &s.after} {
		if text == "" {
			continue
		}
		var err error
		if *key, err = s.order.Parse(text); err != nil {
			return nil, err
		}
	}
	s.alarm = time.AfterFunc(s.interval(), s.nudge)
	return s, nil
}

func (s *snapshotting) interval() time.Duration {
	return min(time.Second, s.config.Checkpoint.Interval)
}

// nudge makes a tick due soon. Any goroutine may call it.
func (s *snapshotting) nudge() {
	s.due.Store(true)
	s.source.Wake()
	ring(s.flow.notified)
}

// run publishes everything that is left.
func (s *snapshotting) run(ctx context.Context) error {
	err := s.source.Settle(ctx, func(open string) {
		s.log.Warn("snapshot waits for a transaction that may have committed before the slot began", "transaction", open)
		s.state.set(Snapshotting, "waiting for "+open)
	})
	if err == nil && s.last == nil {
		err = s.begin(ctx)
	}
	for done := s.last == nil; !done && err == nil; {
		done, err = s.chunk(ctx)
	}
	if err != nil {
		return err
	}
	return s.finish(ctx)
}

// begin finds out where the table ends. That is stored before the first row is
// published: rows of the stream may get higher keys any time.
func (s *snapshotting) begin(ctx context.Context) error {
	last, found, err := s.source.Highest(ctx)
	if err != nil || !found {
		return err
	}
	expected, err := s.source.Estimate(ctx, nil, last)
	if err != nil {
		return err
	}
	s.progress.Last, s.progress.Expected = string(s.order.Append(nil, last)), expected
	progress := s.progress
	if err := s.flow.saver.amend(ctx, func(r *checkpoint.Record) { r.Snapshot = &progress }); err != nil {
		return err
	}
	s.last = last
	s.log.Info("snapshot reads the table", "table", s.progress.Table, "rows_expected", expected)
	return nil
}

// chunk publishes the old rows of one moment. done reports whether there are no
// more.
func (s *snapshotting) chunk(ctx context.Context) (done bool, err error) {
	if err := s.accept(ctx); err != nil {
		return false, err
	}
	// Most of what the slot delivers is read while nothing is held back.
	if err := s.readStreamed(ctx); err != nil {
		return false, err
	}
	opened := time.Now()
	if err := s.source.Open(ctx); err != nil {
		return false, err
	}
	// What is visible now is known to the slot by the end of this.
	if err := s.readStreamed(ctx); err != nil {
		return false, err
	}
	s.began = time.Now()
	rows, err := s.read(ctx)
	drained, whole := s.began.Sub(opened), time.Since(opened)
	s.began = time.Time{}
	switch {
	case errors.Is(err, errUncovered):
		s.source.Restart()
		s.streamed.clear()
		s.idDecoder = s.newIDs()
	case errors.Is(err, errMomentOver):
	case err != nil:
		return false, err
	default:
		done = rows < s.limit
	}
	if err == nil && 2*drained > whole && s.limiter == nil {
		s.limit = min(2*s.limit, longestChunk)
	}
	return done, s.source.Done(ctx)
}

// accept waits until the broker takes events.
func (s *snapshotting) accept(ctx context.Context) error {
	for first := true; ; first = false {
		if err := s.collect(); err != nil {
			return err
		}
		if s.due.Load() || !first {
			if err := s.tick(ctx); err != nil {
				return err
			}
		}
		if s.flow.producer.Accepts() {
			s.state.set(Snapshotting, "")
			return nil
		}
		if why := s.flow.waiting(); !first {
			s.state.set(Blocked, why)
		}
		s.flow.await(time.Now().Add(pollInterval))
	}
}

// readStreamed notes the IDs that the slot delivers up to now.
func (s *snapshotting) readStreamed(ctx context.Context) error {
	err := s.source.Streamed(ctx, s.note, func() error {
		s.flow.producer.Flush(false)
		if err := s.collect(); err != nil {
			return err
		}
		return s.tickIfDue(ctx)
	})
	s.streamed.settle()
	return err
}

// note reads one message of the slot.
func (s *snapshotting) note(message []byte) error {
	kind, err := s.idDecoder.Decode(message)
	if _, poison := errors.AsType[*decoder.PoisonError](err); poison {
		err = nil // it has an ID nevertheless
	}
	if err != nil || kind != decoder.Row {
		return err
	}
	key := make(replication.Key, 0, 2)
	for _, column := range s.keyColumns {
		key = append(key, s.idDecoder.Raw(column))
	}
	if slices.ContainsFunc(key, func(value []byte) bool { return value == nil }) {
		return nil // the table has no such row
	}
	rank := rankOf(s.order, key)
	if s.order.Check(key) == nil && (s.order.Compare(key, s.last) > 0 || s.after != nil && s.order.Compare(key, s.after) <= 0) {
		return nil // it is no candidate
	}
	return s.streamed.add(key[len(key)-1], rank)
}

// read publishes the rows of the moment, and returns how many there were.
func (s *snapshotting) read(ctx context.Context) (rows int, err error) {
	if err := s.source.Ask(s.after, s.last, s.limit); err != nil {
		return 0, err
	}
	for {
		row, done, err := s.source.Next()
		switch {
		case err != nil:
			return rows, err
		case done:
			s.mark()
			return rows, nil
		case row == nil:
			err = s.idle()
		default:
			rows++
			err = s.row(ctx, row)
		}
		if err == nil && s.flow.producer.Ready() {
			err = s.collect()
		}
		if err == nil {
			err = s.tickIfDue(ctx)
		}
		if err != nil {
			s.mark()
			return rows, err
		}
	}
}

// idle runs when every row that was received has been handled.
func (s *snapshotting) idle() error {
	held := s.flow.producer.Flush(s.source.Flowing())
	if s.flow.producer.Ready() || s.due.Load() {
		return nil
	}
	if held {
		return s.source.Wait(time.Now().Add(holdFor))
	}
	return s.source.Wait(time.Now().Add(pollInterval))
}

// row publishes a row, unless the stream will, or a former attempt has.
func (s *snapshotting) row(ctx context.Context, values [][]byte) error {
	n := len(s.columns)
	if !s.described {
		if err := s.messages.describe(s.from-1, s.progress.Begun, s.columns, s.source.Types()[:n]); err != nil {
			return err
		}
		s.described = true
	}
	key := replication.Key(values[n:])
	if s.streamed.bounded && !s.streamed.covers(s.order.Rank(key)) {
		return errUncovered
	}
	if !s.streamed.has(key[len(key)-1]) {
		if err := s.publish(ctx, key, values[:n]); err != nil {
			return err
		}
	}
	s.deal(key)
	return nil
}

// deal notes that a row has been dealt with.
func (s *snapshotting) deal(key replication.Key) {
	if s.after == nil {
		s.after = key.Clone()
	} else {
		for i := range key {
			s.after[i] = append(s.after[i][:0], key[i]...)
		}
	}
	if s.dealt++; s.dealt%markEvery == 0 {
		s.mark()
	}
}

// mark notes a place at which a checkpoint can be made.
func (s *snapshotting) mark() {
	lsn := s.from - 1 + replication.LSN(s.dealt)
	if s.after == nil || len(s.marks) > 0 && s.marks[len(s.marks)-1].lsn == lsn {
		return
	}
	s.marks = append(s.marks, snapshotMark{lsn, s.now()})
	s.flow.tracker.Mark(lsn)
}

// now is how far the snapshot has come, acknowledged or not.
func (s *snapshotting) now() checkpoint.Snapshot {
	at := s.progress
	at.Ordinal = s.ordinal
	if s.after != nil {
		at.After = string(s.order.Append(nil, s.after))
	}
	return at
}

// cursor is the last mark below which everything is acknowledged, or nil.
func (s *snapshotting) cursor() *snapshotMark {
	confirmed := s.flow.tracker.Confirmed()
	at := -1
	for at+1 < len(s.marks) && s.marks[at+1].lsn <= confirmed {
		at++
	}
	if at < 0 {
		return nil
	}
	s.marks = append(s.marks[:0], s.marks[at:]...) // the mark itself stays
	return &s.marks[0]
}

// publish gives a row to the producer.
func (s *snapshotting) publish(ctx context.Context, key replication.Key, values [][]byte) error {
	if s.ordinal == math.MaxUint32 {
		return errTooMany
	}
	s.text = s.order.Append(s.text[:0], key)
	s.seam.key = key
	e := s.messages.decoder.Event()
	e.Position = replication.Position{Commit: s.from - 1, Ordinal: s.ordinal} // the decoder counts from here
	err := s.messages.row(values)
	e.SnapshotKey = s.text
	if poison, ok := errors.AsType[*decoder.PoisonError](err); ok {
		return s.bury(ctx, e, poison, router.PoisonRow)
	}
	if err != nil {
		return err
	}
	if poison := s.wasCondemned(e); poison != nil {
		return s.bury(ctx, e, poison, poison.Class)
	}
	if err := s.throttle(ctx); err != nil {
		return err
	}
	err = s.hand(ctx, func() (router.Result, error) { return s.flow.producer.Append(e) })
	if poison, ok := errors.AsType[*router.PoisonError](err); ok && !poison.Late {
		return s.bury(ctx, e, err, poison.Class)
	}
	return err
}

// wasCondemned is why the broker has refused a row, or nil. Its position differs
// from one attempt to the next.
func (s *snapshotting) wasCondemned(e *decoder.Event) *router.PoisonError {
	for _, poison := range s.condemned {
		if poison.EventID == string(e.Attribute(decoder.ID)) {
			return poison
		}
	}
	return nil
}

// hand calls try until the producer takes what try gives it.
func (s *snapshotting) hand(ctx context.Context, try func() (router.Result, error)) error {
	for {
		result, err := try()
		switch {
		case err != nil:
			return err
		case result == router.Blocked:
			s.flow.producer.Flush(false)
			s.flow.await(time.Now().Add(pollInterval))
			if err := s.collect(); err != nil {
				return err
			}
			if err := s.tickIfDue(ctx); err != nil {
				return err
			}
			continue
		case result == router.Skipped:
			s.config.Metrics.Skipped()
		default:
			s.ordinal++
		}
		s.progress.Rows++ // in this attempt, or in a former one after its last checkpoint
		return nil
	}
}

// bury makes a row that can never be published a dead letter, as a session does.
func (s *snapshotting) bury(ctx context.Context, e *decoder.Event, err error, class router.PoisonClass) error {
	letter := router.NewDeadLetter(s.config.Rules.Tables[0], s.messages.decoder.Columns())
	letter.Name(e)
	if s.seam.isBuried(e.SnapshotKey) {
		s.config.Metrics.Skipped()
		s.progress.Rows++
		return nil
	}
	if !s.flow.producer.Buries(0, letter.AggregateType) {
		return failure.Refuse(withWayPastOldRow(err))
	}
	letter.Position, letter.CommitTime, letter.SnapshotKey = e.Position, e.CommitTime, e.SnapshotKey
	letter.Class, letter.Reason = class, router.Reason(err)
	if err := s.hand(ctx, func() (router.Result, error) { return s.flow.producer.Bury(&letter) }); err != nil {
		return err
	}
	s.noteBuried(&letter)
	return nil
}

// withWayPastOldRow adds how to get past a row that stops the snapshot. It is
// read from the table, so it can be corrected there.
func withWayPastOldRow(err error) error {
	return failure.Advise(err, "correct the row in the table, or delete it there; or let it become a dead letter: run "+
		"`streamer setup --set poison.policy=dead-letter`, then `streamer run --set poison.policy=dead-letter` (docs/dead-letters.md)")
}

// throttle waits for the row's time.
func (s *snapshotting) throttle(ctx context.Context) error {
	if s.limiter == nil {
		return nil
	}
	delay := s.limiter.Reserve().Delay()
	if delay < shortestPause {
		return nil
	}
	for until := time.Now().Add(delay); time.Now().Before(until); {
		s.flow.producer.Flush(false)
		s.flow.await(until)
		if err := s.collect(); err != nil {
			return err
		}
		if err := s.tickIfDue(ctx); err != nil && !errors.Is(err, errMomentOver) {
			return err
		}
	}
	return nil
}

// collect processes acknowledgements and sends the next batches.
func (s *snapshotting) collect() error {
	err := s.flow.collect()
	s.flow.producer.Flush(s.source.Flowing())
	return err
}

func (s *snapshotting) tickIfDue(ctx context.Context) error {
	if !s.due.Load() {
		return nil
	}
	return s.tick(ctx)
}

// tick does the periodic work: it saves, reports, and looks for a reason to end.
func (s *snapshotting) tick(ctx context.Context) error {
	s.due.Store(false)
	s.alarm.Reset(s.interval())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.flow.saver.age() >= s.config.Checkpoint.Interval {
		s.save()
	}
	if err := s.unsaved.unsaved(); err != nil {
		return err
	}
	s.report()
	if !s.began.IsZero() && time.Since(s.began) >= longestMoment {
		return errMomentOver
	}
	return nil
}

// save requests that the cursor be stored, if it has moved.
func (s *snapshotting) save() {
	at := s.cursor()
	if asked := s.flow.saver.asked().Snapshot; at == nil || asked != nil && asked.After == at.progress.After {
		return
	}
	s.flow.saver.saveSnapshot(at.progress, s.flow.marks(s.from-1))
	s.saved = true
}

// saveSnapshot requests that the progress of a snapshot be stored.
func (s *saver) saveSnapshot(progress checkpoint.Snapshot, topics map[string]checkpoint.Topic) {
	s.mu.Lock()
	r := s.saved
	if s.wanted != nil {
		r = *s.wanted
	}
	r.Snapshot, r.Topics, r.Publication, r.SavedAt = &progress, topics, s.publication, time.Now().UTC()
	s.wanted = &r
	s.mu.Unlock()
	ring(s.wake)
}

// report measures how far the snapshot has come.
func (s *snapshotting) report() {
	producer := s.flow.producer
	s.lag.published(s.progress.Begun, true)
	s.config.Metrics.Position(s.flow.saver.lastSaved().SavedAt, producer.InFlight(), producer.Events())
	s.config.Metrics.Snapshot(s.progress.Rows, max(s.progress.Rows, s.progress.Expected))
	passed := time.Since(s.logged.at)
	if passed < snapshotLogEvery {
		return
	}
	speed := float64(s.progress.Rows-s.logged.rows) / passed.Seconds()
	s.logged.at, s.logged.rows = time.Now(), s.progress.Rows
	left := "unknown"
	if rest := s.progress.Expected - s.progress.Rows; speed > 0 && rest >= 0 {
		left = time.Duration(float64(rest) / speed * float64(time.Second)).Round(time.Second).String()
	}
	s.log.Info("snapshot is under way", "rows", s.progress.Rows, "expected", s.progress.Expected,
		"rows_per_second", int64(speed), "time_left", left)
}
