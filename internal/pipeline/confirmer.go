package pipeline

import (
	"errors"
	"time"

	"github.com/outboxstream/streamer/internal/mutation"
	"github.com/outboxstream/streamer/replication"
)

const (
	// idleSave is how often a checkpoint that only follows an idle server is
	// saved.
	idleSave = 10 * time.Second
	// replyEvery bounds how often a server that asks is answered. A server that is
	// shutting down asks again at once.
	replyEvery = 100 * time.Millisecond
	// shutdownGrace is the longest time that a server shutting down waits for the
	// streamer (R7). Otherwise it would wait for acknowledgements for ever.
	shutdownGrace = 10 * time.Second
)

var errShutdown = errors.New("server is shutting down and waits for the streamer: disconnected")

// confirmer decides when a checkpoint is stored, and confirms to the server
// what has been stored. It belongs to a session.
type confirmer struct {
	ground
	flow        *flow
	reader      reader
	read        replication.LSN // everything below it has been read
	confirmed   replication.LSN
	confirmedAt time.Time
	idleSavedAt time.Time
	published   bool // events were acknowledged since the last save
	replyWanted bool
	asking      struct{ since, last time.Time } // the server's current series of requests
}

func newConfirmer(g ground, f *flow, r reader, start replication.LSN) confirmer {
	return confirmer{ground: g, flow: f, reader: r, read: start, confirmedAt: time.Now()}
}

// asked notes that the server wants an answer. A server that keeps asking for
// longer than shutdownGrace is shutting down.
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

// save requests that the low watermark be stored, if it has risen. Positions of
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

// unsaved logs once that checkpoints are not being stored. It ends the session
// if that will not improve by itself.
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

// confirmable is the LSN that may be confirmed now: what is stored and
// acknowledged, as far as this session has read it. Nothing new is confirmable
// before this is known to be the checkpoint's history.
func (c *confirmer) confirmable() replication.LSN {
	saved := c.flow.saver.lastSaved().LSN
	if mutation.Active(mutation.ConfirmBeforeSave) {
		saved = max(saved, c.flow.tracker.Confirmed())
	}
	if mutation.Active(mutation.ConfirmUnread) {
		return saved
	}
	if !c.flow.passage.Proven() {
		return c.flow.began
	}
	if mutation.Active(mutation.ConfirmBeforeAcknowledgement) {
		return max(c.flow.began, min(saved, c.read))
	}
	return max(c.flow.began, min(saved, c.read, c.flow.tracker.Confirmed()))
}

// confirm tells the server what may be confirmed: when that has risen, when the
// server asks, and at every status interval. The status interval is not only
// for staying connected. Since version 16 a walsender looks for new WAL and
// only then prepares to be woken by it. A commit in between would go unnoticed
// until the walsender receives a message.
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

// keepAlive keeps the connection alive while the session waits for
// acknowledgements. Its failure changes nothing.
func (c *confirmer) keepAlive() {
	if time.Since(c.confirmedAt) >= c.config.StatusInterval {
		c.confirmedAt = time.Now()
		_ = c.reader.Confirm(max(c.flow.began, c.confirmed), false)
	}
}
