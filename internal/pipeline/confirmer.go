package pipeline

import (
	"errors"
	"time"

	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
)

const (
	// idleSave is how often a checkpoint is saved that only follows an idle
	// server.
	idleSave = 10 * time.Second
	// replyEvery bounds how often a server that asks is answered: one that is
	// shutting down asks again at once.
	replyEvery = 100 * time.Millisecond
	// shutdownGrace is how long a server that shuts down waits for us at most
	// (R7): it would wait for our acknowledgements for ever.
	shutdownGrace = 10 * time.Second
)

var errShutdown = errors.New("server is shutting down and waits for us: disconnected")

// confirmer decides when a checkpoint is stored, and tells the server what has been
// stored. It belongs to a session.
type confirmer struct {
	ground
	flow        *flow
	reader      reader
	start       replication.LSN // what has been confirmed at least: see flow.began
	read        replication.LSN // everything below it has come by
	confirmed   replication.LSN
	confirmedAt time.Time
	idleSavedAt time.Time
	published   bool // events were acknowledged since the last save
	replyWanted bool
	asking      struct{ since, last time.Time } // the server's run of questions
}

func newConfirmer(g ground, f *flow, r reader, start replication.LSN) confirmer {
	return confirmer{ground: g, flow: f, reader: r, start: f.began, read: start, confirmedAt: time.Now()}
}

// asked notes that the server wants an answer. One that has been asking for long is
// shutting down.
func (c *confirmer) asked() error {
	now := time.Now()
	if now.Sub(c.asking.last) > 2*time.Second {
		c.asking.since = now
	}
	c.asking.last = now
	if now.Sub(c.asking.since) > shutdownGrace {
		return errShutdown
	}
	c.replyWanted = true
	return nil
}

// save asks for the low watermark to be stored, if it has risen. Positions of
// an idle server are stored less often, but at once when the server asks.
func (c *confirmer) save() {
	at := c.flow.confirmed()
	if mutation.Active(mutation.ConfirmBeforeAcknowledgement) {
		at = c.flow.trail.below(c.read)
	}
	if at == nil || at.lsn <= c.flow.saver.asked().LSN {
		return
	}
	now := time.Now()
	switch {
	case c.published:
		if c.flow.saver.age() < c.config.Checkpoint.Interval {
			return
		}
	case !c.replyWanted && !c.flow.eager.Load() && now.Sub(c.idleSavedAt) < idleSave:
		return
	}
	c.flow.save(at)
	c.published = false
	c.idleSavedAt = now
}

// unsaved says, once, that checkpoints are not being stored, and ends the
// session where that will not get better by itself.
func (c *confirmer) unsaved() error {
	if err := c.flow.saver.ended(); err != nil {
		return err
	}
	err := c.flow.saver.failed()
	switch {
	case err != nil && !c.flow.unsaved:
		c.log.Warn("checkpoint cannot be stored, nothing is confirmed to PostgreSQL meanwhile", "err", err)
	case err == nil && c.flow.unsaved:
		c.log.Info("checkpoint can be stored again")
	}
	c.flow.unsaved = err != nil
	return nil
}

// confirmable is what may be confirmed now: what is stored and acknowledged, as far as
// this session has read it, and nothing new before it is clear that this is our
// history.
func (c *confirmer) confirmable() replication.LSN {
	saved := c.flow.saver.lastSaved().LSN
	if mutation.Active(mutation.ConfirmBeforeSave) {
		saved = max(saved, c.flow.tracker.Confirmed())
	}
	if mutation.Active(mutation.ConfirmUnread) {
		return saved
	}
	if !c.flow.passage.Proven() {
		return c.start
	}
	if mutation.Active(mutation.ConfirmBeforeAcknowledgement) {
		return max(c.start, min(saved, c.read))
	}
	return max(c.start, min(saved, c.read, c.flow.tracker.Confirmed()))
}

// confirm tells the server what may be confirmed: when that has risen, when it
// asks, and at every status interval. The last is not only for staying
// connected: since version 16 a walsender looks for new WAL and only then
// prepares to be woken by it, so a commit in between would go unnoticed until
// somebody speaks to it.
func (c *confirmer) confirm(alarm *time.Timer) error {
	lsn := c.confirmable()
	since := time.Since(c.confirmedAt)
	switch {
	case lsn > c.confirmed:
	case c.replyWanted && since >= replyEvery:
	case since >= c.config.StatusInterval:
	default:
		if c.replyWanted {
			alarm.Reset(replyEvery)
		}
		return nil
	}
	silence := time.Since(c.reader.LastReceived())
	ping := silence > c.config.Replication.SenderTimeout/2
	if err := c.reader.Confirm(lsn, ping); err != nil {
		return err
	}
	c.confirmed, c.confirmedAt, c.replyWanted = lsn, time.Now(), false
	return nil
}

// keepAlive keeps the connection while acknowledgements are waited for. Its
// failing changes nothing.
func (c *confirmer) keepAlive() {
	if time.Since(c.confirmedAt) >= c.config.StatusInterval {
		c.confirmedAt = time.Now()
		_ = c.reader.Confirm(max(c.start, c.confirmed), false)
	}
}
