package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// modelServer is a PostgreSQL server with a WAL of transactions. Its copies,
// made for a standby or a backup, share what was written before and diverge
// afterwards. The world's mutex guards all of it.
type modelServer struct {
	world    *world
	name     string
	timeline int32
	switches []modelSwitch // where earlier timelines were left
	wal      []modelTransaction
	end      replication.LSN
	slots    map[string]*modelSlot
	locks    map[string]*modelControl
	standbys []*modelControl
	table    replication.Table
	entry    int // number of the table's current entry in the publication
	up       bool
	started  string
	standby  bool            // in recovery
	replayed replication.LSN // how far it has replayed its WAL since it was started; 0: all of it
	broken   bool            // decoding fails as soon as it begins
	changed  chan struct{}
}

type modelSwitch struct {
	timeline int32
	at       replication.LSN
}

type modelTransaction struct {
	commit, end replication.LSN
	at          int64 // microseconds since the Unix epoch
	rows        []modelRow
	published   bool // the table was in the publication
}

type modelRow struct {
	id, key string
	bad     bool // its type is NULL
}

type modelSlot struct {
	confirmed, durable replication.LSN // durable is what survives a crash
	synced             bool
	reader             *modelReader
}

const (
	modelSystem   = "7431000000000000001"
	modelDatabase = "shop"
	modelSlotName = "streamer"
	firstLSN      = replication.LSN(0x1000)
)

var modelColumns = []string{"id", "aggregatetype", "aggregateid", "type", "payload"}

func newModelServer(w *world) *modelServer {
	s := &modelServer{
		world: w, name: "first", timeline: 1, end: firstLSN, slots: map[string]*modelSlot{},
		locks: map[string]*modelControl{}, up: true, started: "first", changed: make(chan struct{}),
	}
	s.table = replication.Table{
		Exists: true, OID: 16400, Kind: "r", Persistence: "p", Publication: true,
		Inserts: true, ViaRoot: true, Published: true,
	}
	for _, name := range modelColumns {
		s.table.Columns = append(s.table.Columns, replication.Column{Name: name, Type: "text"})
	}
	s.slots[modelSlotName] = &modelSlot{confirmed: firstLSN, durable: firstLSN}
	return s
}

// copyUpTo is a copy of the server with its WAL up to an LSN.
func (s *modelServer) copyUpTo(name string, lsn replication.LSN) *modelServer {
	c := &modelServer{
		world: s.world, name: name, timeline: s.timeline, switches: slices.Clone(s.switches),
		slots: map[string]*modelSlot{}, locks: map[string]*modelControl{}, table: s.table, entry: s.entry, up: true,
		started: name, changed: make(chan struct{}),
	}
	for _, t := range s.wal {
		if t.end <= lsn {
			c.wal = append(c.wal, t)
		}
	}
	c.end = min(s.end, lsn)
	for name, slot := range s.slots {
		at := min(slot.durable, c.end)
		c.slots[name] = &modelSlot{confirmed: at, durable: at}
	}
	return c
}

// flushed is the LSN up to which the WAL can be read.
func (s *modelServer) flushed() replication.LSN {
	if s.replayed != 0 {
		return s.replayed
	}
	return s.end
}

// note wakes all goroutines that wait for the server.
func (s *modelServer) note() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// commit appends a transaction.
func (s *modelServer) commit(rows ...modelRow) {
	start := (s.end + 8 + replication.LSN(s.world.random.IntN(40))) &^ 7
	t := modelTransaction{commit: start, end: start + 48, at: time.Now().UnixMicro(), rows: rows, published: s.table.Published}
	s.wal = append(s.wal, t)
	s.end = t.end
	s.note()
}

// fill appends WAL that does not concern the streamer.
func (s *modelServer) fill(bytes int) {
	s.end += replication.LSN(bytes) &^ 7
	s.note()
}

// cut ends every connection of a kind.
func (s *modelServer) cut(readers, controls bool) {
	for _, slot := range s.slots {
		if slot.reader != nil && readers {
			slot.reader.cut = errModelCut
			slot.reader = nil
		}
	}
	if controls {
		for _, c := range s.locks {
			c.cut = true
			c.process.unlocked = time.Now()
		}
		clear(s.locks)
	}
	s.note()
}

// crash ends all connections and resets slots to what is on disk.
func (s *modelServer) crash() {
	s.cut(true, true)
	for _, slot := range s.slots {
		slot.confirmed = slot.durable
	}
}

// promote begins a new timeline.
func (s *modelServer) promote() {
	s.switches = append(s.switches, modelSwitch{s.timeline, s.end})
	s.timeline++
	s.standby = false
	s.note()
}

// last is the last published row whose transaction ends at or below an LSN.
func (s *modelServer) last(lsn replication.LSN) (at replication.Position, id string) {
	for _, t := range s.wal {
		if t.end <= lsn && len(t.rows) > 0 && t.published {
			at, id = replication.Position{Commit: t.commit, Ordinal: uint32(len(t.rows))}, t.rows[len(t.rows)-1].id
		}
	}
	return at, id
}

var (
	errModelCut  = errors.New("connection was terminated")
	errModelDown = errors.New("connection refused")
)

// modelControl is an SQL connection.
type modelControl struct {
	process *process
	server  *modelServer
	used    time.Time
	cut     bool
}

// idleTimeout is how long the server keeps an idle session and its lock
// (idle_session_timeout).
const idleTimeout = 15 * time.Second

func (w *world) connectDatabase(p *process) func(context.Context, replication.Config) (database, error) {
	return func(ctx context.Context, _ replication.Config) (database, error) {
		pass(ctx, time.Millisecond)
		p.thawed()
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.dead || !w.primary.up || ctx.Err() != nil {
			return nil, errModelDown
		}
		return &modelControl{process: p, server: w.primary, used: time.Now()}, nil
	}
}

// use runs do while the connection is alive.
func (c *modelControl) use(ctx context.Context, do func() error) error {
	pass(ctx, time.Millisecond)
	w := c.server.world
	c.process.thawed()
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.process.dead || c.cut || !c.server.up {
		return errModelCut
	}
	if idle := time.Since(c.used); idle > idleTimeout {
		if c.process.slept {
			c.cut = true
			return errModelCut
		}
		w.failLocked("process %d has left the session that holds its lock idle for %s", c.process.number, idle)
	}
	c.used = time.Now()
	return do()
}

func (c *modelControl) TryLock(ctx context.Context) (locked bool, err error) {
	err = c.use(ctx, func() error {
		if holder := c.server.locks[modelSlotName]; holder == nil {
			c.server.locks[modelSlotName] = c
		}
		if locked = c.server.locks[modelSlotName] == c; locked {
			c.process.unlocked = time.Time{}
		}
		return nil
	})
	return locked, err
}

// StandBy, Company and Holders decide nothing, and take no time.
func (c *modelControl) StandBy(context.Context) error {
	c.server.world.mu.Lock()
	defer c.server.world.mu.Unlock()
	c.server.standbys = append(c.server.standbys, c)
	return nil
}

func (c *modelControl) Company(context.Context) (found replication.Company, err error) {
	c.server.world.mu.Lock()
	defer c.server.world.mu.Unlock()
	for _, other := range c.server.standbys {
		if other != c && !other.cut {
			found.Standbys = append(found.Standbys, replication.Holder{PID: other.process.number})
		}
	}
	return found, nil
}

func (c *modelControl) Holders(context.Context) (found []replication.Holder, err error) {
	c.server.world.mu.Lock()
	defer c.server.world.mu.Unlock()
	if holder := c.server.locks[modelSlotName]; holder != nil && holder.process != nil {
		found = append(found, replication.Holder{PID: holder.process.number, Lock: true})
	}
	return found, nil
}

func (c *modelControl) Ping(ctx context.Context) error {
	return c.use(ctx, func() error { return nil })
}

func (c *modelControl) Identify(ctx context.Context) (s replication.Server, err error) {
	err = c.use(ctx, func() error {
		s = replication.Server{
			SystemID: modelSystem, Timeline: c.server.timeline, Database: modelDatabase, Version: 170006, Encoding: "UTF8",
			Flushed: c.server.flushed(), InStandby: c.server.standby, WALLevel: "logical", Started: c.server.started,
		}
		c.process.server = c.server
		return nil
	})
	return s, err
}

func (c *modelControl) DescribeTables(ctx context.Context) (tables []replication.Table, err error) {
	err = c.use(ctx, func() error {
		t := c.server.table
		t.Outbox = replication.Outbox{Table: "public.outbox", Columns: modelColumns}
		t.Attributes = append(slices.Clone(modelColumns), fmt.Sprint("entry ", c.server.entry))
		tables = []replication.Table{t}
		return nil
	})
	return tables, err
}

// membership returns the entry, which the model hides among the published
// columns.
func (c *modelControl) membership(t []replication.Table) string {
	return t[0].Attributes[len(t[0].Attributes)-1]
}

func (c *modelControl) gap(before string, now []replication.Table) []replication.Finding {
	if before == "" || before == c.membership(now) {
		return nil
	}
	return []replication.Finding{{Fatal: true, Problem: "table may have been out of the publication for a while", Remedy: "compare"}}
}

func (c *modelControl) observe(last []replication.Table) observer { return &modelObserver{c, last} }

// modelObserver notices every change.
type modelObserver struct {
	*modelControl
	last []replication.Table
}

func (o *modelObserver) Look(ctx context.Context) ([]replication.Table, []replication.Finding, error) {
	now, err := o.DescribeTables(ctx)
	if err != nil {
		return now, nil, err
	}
	found := append(
		replication.CheckTables(now, replication.Config{Publication: "streamer"}),
		o.gap(o.membership(o.last), now)...,
	)
	o.last = now
	return now, found, nil
}

func (o *modelObserver) Tables() []replication.Table { return o.last }
func (o *modelObserver) Close()                      {}

func (c *modelControl) Slot(ctx context.Context) (slot replication.Slot, err error) {
	err = c.use(ctx, func() error {
		s := c.server.slots[modelSlotName]
		if s == nil {
			return failure.Refuse(fmt.Errorf("%w: slot %q does not exist", replication.ErrSlotMissing, modelSlotName))
		}
		slot = replication.Slot{
			Name: modelSlotName, Plugin: "pgoutput", Type: "logical", Database: modelDatabase, Active: s.reader != nil, WALStatus: "reserved",
			Synced: s.synced, Confirmed: s.confirmed, Restart: s.confirmed, Flushed: c.server.flushed(), At: time.Now(), InStandby: c.server.standby,
		}
		return nil
	})
	return slot, err
}

func (c *modelControl) SwitchPoint(ctx context.Context, _ replication.Server, timeline int32) (at replication.LSN, known bool, err error) {
	err = c.use(ctx, func() error {
		for _, s := range c.server.switches {
			if s.timeline == timeline {
				at, known = s.at, true
			}
		}
		return nil
	})
	return at, known, err
}

func (c *modelControl) DatabaseExists(context.Context, string) (bool, error) { return true, nil }

func (c *modelControl) OtherShards(context.Context) ([]string, error) { return nil, nil }

func (c *modelControl) PlanSnapshot(
	context.Context, replication.Table, replication.SnapshotQuery,
) (replication.Order, []replication.Finding, error) {
	return replication.Order{}, nil, nil
}

func (c *modelControl) CountRows(context.Context, replication.Table, replication.SnapshotQuery) (replication.RowCount, error) {
	return replication.RowCount{}, nil
}

func (c *modelControl) SurelyOld(context.Context, replication.Table) bool { return false }

func (c *modelControl) CheckFormerSlots(ctx context.Context, _ replication.Succession) ([]replication.Finding, error) {
	return nil, c.use(ctx, func() error { return nil })
}

func (c *modelControl) Close() {
	w := c.server.world
	w.mu.Lock()
	defer w.mu.Unlock()
	c.cut = true
	maps.DeleteFunc(c.server.locks, func(_ string, holder *modelControl) bool { return holder == c })
}

// modelReader is a stream of pgoutput messages. It stands for a walsender or,
// with the name of a catch-up reader, for several SQL sessions.
type modelReader struct {
	process  *process
	server   *modelServer
	slot     *modelSlot
	from     replication.LSN // commits at or above it are still to be handed out
	queue    []replication.Message
	told     replication.LSN // the last keepalive
	received replication.LSN
	heard    time.Time
	cut      error
	left     int // messages until the connection ends; negative: none
	relation bool
	woken    chan struct{}
}

type modelCatchUp struct{ *modelReader }

// Behind is how much WAL has not yet been handed out.
func (r modelCatchUp) Behind() int64 {
	r.server.world.mu.Lock()
	defer r.server.world.mu.Unlock()
	return int64(r.server.end) - int64(r.from)
}

func (w *world) read(p *process) func(
	context.Context, Reading, replication.Config, replication.Server, replication.Slot, replication.LSN,
) (reader, error) {
	return func(
		ctx context.Context, how Reading, _ replication.Config, _ replication.Server, _ replication.Slot, start replication.LSN,
	) (reader, error) {
		pass(ctx, time.Millisecond)
		p.thawed()
		w.mu.Lock()
		defer w.mu.Unlock()
		s := w.primary
		slot := s.slots[modelSlotName]
		switch {
		case p.dead || !s.up:
			return nil, errModelDown
		case slot == nil:
			return nil, failure.Refuse(replication.ErrSlotMissing)
		case slot.reader != nil:
			return nil, fmt.Errorf("%w: slot %q", replication.ErrSlotActive, modelSlotName)
		}
		if s.broken {
			w.attemptedLocked(p, "open a stream")
		}
		r := &modelReader{
			process: p, server: s, slot: slot, from: max(start, slot.confirmed), received: start, heard: time.Now(), left: -1,
			woken: make(chan struct{}, 1),
		}
		if w.random.IntN(100) < w.plan.shortStreams {
			r.left = w.random.IntN(30)
		}
		if how == ReadCatchUp {
			return modelCatchUp{r}, nil
		}
		slot.reader = r
		return r, nil
	}
}

func (r *modelReader) Next() (replication.Message, error) {
	r.process.thawed()
	r.server.world.mu.Lock()
	defer r.server.world.mu.Unlock()
	if err := r.aliveLocked(); err != nil {
		return replication.Message{}, err
	}
	if len(r.queue) == 0 {
		r.decode()
	}
	if len(r.queue) == 0 {
		return replication.Message{}, nil
	}
	m := r.queue[0]
	r.queue = r.queue[1:]
	r.heard = time.Now()
	if m.Kind == replication.Keepalive {
		r.received = max(r.received, m.LSN)
	}
	if r.left > 0 {
		r.left--
	}
	return m, nil
}

// aliveLocked returns why nothing more comes, or nil.
func (r *modelReader) aliveLocked() error {
	switch {
	case r.cut != nil:
		return r.cut
	case r.process.dead || !r.server.up || r.left == 0:
		r.end()
		return errModelCut
	case r.server.broken:
		r.end()
		return errors.New("could not open relation mapping file (SQLSTATE XX000)")
	}
	return nil
}

func (r *modelReader) end() {
	r.cut = errModelCut
	if r.slot.reader == r {
		r.slot.reader = nil
	}
}

// decode queues the next transaction, or a keepalive with the end of the WAL.
func (r *modelReader) decode() {
	for _, t := range r.server.wal {
		if t.commit < r.from {
			continue
		}
		if t.commit > r.told+64 && r.server.world.random.IntN(3) == 0 {
			// While it skips what does not concern the streamer, a server reports how
			// far it has come.
			r.told = t.commit
			r.queue = append(r.queue, replication.Message{Kind: replication.Keepalive, LSN: t.commit, ReplyRequested: true})
		}
		r.from = t.end
		r.queue = t.messages(r.queue, &r.relation)
		return
	}
	if r.server.end > r.told && r.server.end > r.from {
		r.told, r.from = r.server.end, r.server.end
		r.queue = append(r.queue, replication.Message{Kind: replication.Keepalive, LSN: r.server.end})
	}
}

// messages are what pgoutput makes of a transaction. Old servers send a
// transaction without an outbox row, and newer ones omit it.
func (t modelTransaction) messages(to []replication.Message, described *bool) []replication.Message {
	if !t.published || len(t.rows) == 0 {
		return append(to, replication.Message{Kind: replication.Keepalive, LSN: t.end})
	}
	data := func(b []byte) { to = append(to, replication.Message{Kind: replication.Data, LSN: t.commit, Data: b}) }
	since2000 := t.at - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	data(binary.BigEndian.AppendUint32(
		binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{'B'}, uint64(t.commit)), uint64(since2000)), 7,
	))
	if !*described {
		*described = true
		data(modelRelation())
	}
	for _, row := range t.rows {
		b := binary.BigEndian.AppendUint32([]byte{'I'}, 16400)
		b = binary.BigEndian.AppendUint16(append(b, 'N'), uint16(len(modelColumns)))
		for i, value := range []string{row.id, "order", row.key, "placed", `{"id":"` + row.id + `"}`} {
			if row.bad && i == 3 {
				b = append(b, 'n')
				continue
			}
			b = append(binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(value))), value...)
		}
		data(b)
	}
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(t.commit))
	data(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(t.end)), uint64(since2000)))
	return to
}

func modelRelation() []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, 16400)
	b = append(append(b, "public\x00outbox\x00"...), 'd')
	b = binary.BigEndian.AppendUint16(b, uint16(len(modelColumns)))
	for i, name := range modelColumns {
		b = append(append(b, 0), name+"\x00"...)
		typ := uint32(25)
		if i == len(modelColumns)-1 {
			typ = 114
		}
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, typ), ^uint32(0))
	}
	return b
}

func (r *modelReader) Wait(until time.Time) error {
	w := r.server.world
	w.mu.Lock()
	err, changed := r.aliveLocked(), r.server.changed
	if more := len(r.queue) > 0 || r.waitingLocked(); err != nil || more {
		w.mu.Unlock()
		return err
	}
	w.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-r.woken:
	case <-timer.C:
	}
	return nil
}

// waitingLocked reports whether there is something to decode.
func (r *modelReader) waitingLocked() bool {
	n := len(r.server.wal)
	return n > 0 && r.server.wal[n-1].commit >= r.from || r.server.end > r.told && r.server.end > r.from
}

func (r *modelReader) Wake()                        { ring(r.woken) }
func (r *modelReader) Flowing() bool                { return false }
func (r *modelReader) Received(lsn replication.LSN) { r.received = max(r.received, lsn) }
func (r *modelReader) LastReceived() time.Time      { return r.heard }

func (r *modelReader) Confirm(lsn replication.LSN, _ bool) error {
	w := r.server.world
	r.process.thawed()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := r.aliveLocked(); err != nil {
		return err
	}
	if lsn == 0 || lsn > r.received {
		w.failLocked("confirmation of %s, %s was received", lsn, r.received)
		return errModelCut
	}
	w.confirmedLocked(r.process, r.server, lsn)
	r.slot.confirmed = max(r.slot.confirmed, lsn)
	r.heard = time.Now()
	return nil
}

func (r *modelReader) Finish(time.Time) error {
	r.server.world.mu.Lock()
	defer r.server.world.mu.Unlock()
	if err := r.aliveLocked(); err != nil {
		return err
	}
	r.end()
	return nil
}

func (r *modelReader) Close() {
	r.server.world.mu.Lock()
	defer r.server.world.mu.Unlock()
	r.end()
}

// pass lets time pass in a bubble.
func pass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
