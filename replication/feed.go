package replication

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxstream/streamer/internal/failure"
)

// ErrPublicationSkipped corresponds to PostgreSQL 18's warning that the
// publication did not exist at the point of the WAL that is being read (P-24).
// The server would deliver nothing and go on.
var ErrPublicationSkipped = errors.New("publication did not exist at this point of the WAL, its rows cannot be decoded")

const writeTimeout = 10 * time.Second

// feed is a connection that is read through frames. One goroutine owns it.
type feed struct {
	conn     *pgconn.PgConn
	frames   *frames
	config   Config
	notice   error     // a notice that must end the session
	deadline time.Time // the connection's read deadline; belongs to the waker
}

// onNotice remembers SQLSTATE 55000, the code of PostgreSQL 18's "skipped
// loading publication". Decoding sends no other warning with this code.
func (f *feed) onNotice(_ *pgconn.PgConn, n *pgconn.Notice) { f.keepNotice(n.Code) }

func (f *feed) keepNotice(code string) {
	if code == "55000" {
		f.notice = failure.Refuse(failure.Advise(
			fmt.Errorf(
				"%w: publication %q was created or re-created after slot %q had moved past",
				ErrPublicationSkipped, f.config.Publication, f.config.Slot,
			),
			"see `streamer doctor`",
		))
	}
}

// noticed reads a notice that arrived while streaming.
func (f *feed) noticed(body []byte) error {
	var m pgproto3.NoticeResponse
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("notice from the server: %w", err)
	}
	f.keepNotice(m.Code)
	return f.notice
}

// serverError reads an error that arrived while streaming.
func serverError(body []byte) (*pgconn.PgError, error) {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return nil, fmt.Errorf("error response from the server: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&m), nil
}

// explainFrame distinguishes a row that is too large, and will be when it is
// read again, from a stream that is out of step.
func (f *feed) explainFrame(err error) error {
	err = fmt.Errorf("replication stream of slot %q: %w", f.config.Slot, err)
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return failure.Refuse(err)
	}
	return err
}

// explainEnd explains the error with which the server ended the stream.
func (f *feed) explainEnd(err *pgconn.PgError) error {
	message := strings.ToValidUTF8(err.Message, "?") // it is in the session's encoding
	base := fmt.Errorf("replication stream of slot %q: %s (SQLSTATE %s)", f.config.Slot, message, err.Code)
	if ofPublication(err) {
		return failure.Refuse(fmt.Errorf("%w: %w", ErrPublicationSkipped, base))
	}
	return base
}

// ofPublication reports whether the server did not find the publication. It has
// the same SQLSTATE for a missing slot, and its message is in its own language.
func ofPublication(err *pgconn.PgError) bool {
	return err.Code == "42704" && err.Routine == "get_publication_oid"
}

// close closes the connection. It is safe after any error.
func (f *feed) close() { closeQuietly(f.conn) }

// horizon is how far a reader has come.
type horizon struct {
	received     LSN       // highest position that may be confirmed
	lastReceived time.Time // when the server was last heard from
}

func horizonAt(start LSN) horizon { return horizon{received: start, lastReceived: time.Now()} }

// Received records that the caller has seen a transaction end at lsn, which may
// be confirmed from now on.
func (h *horizon) Received(lsn LSN) { h.received = max(h.received, lsn) }

// LastReceived is when the server was last heard from.
func (h *horizon) LastReceived() time.Time { return h.lastReceived }

// confirmable refuses positions that must never be confirmed. pglogrepl would
// replace a zero flush position by the write position (P-06), so a message with
// a zero flush position must never be built.
func (h *horizon) confirmable(lsn LSN) error {
	if lsn == 0 {
		return errors.New("confirmation of position 0/0")
	}
	if lsn > h.received {
		return fmt.Errorf("confirmation of %s, above %s, the highest position received in this session", lsn, h.received)
	}
	return nil
}

// waker lets other goroutines interrupt the wait for a feed.
type waker struct {
	mu      sync.Mutex
	pending bool  // Wake was called and has not been noticed yet
	waiting *feed // the feed that is being read
}

// fill reads once from f. It reports whether data has arrived; it returns false
// when Wake was called or until has passed first.
func (w *waker) fill(f *feed, until time.Time) (bool, error) {
	if proceed, err := w.before(f, until); !proceed {
		return false, err
	}
	err := f.frames.fill()
	w.after()
	switch {
	case err == nil:
		return true, nil
	case isTimeout(err):
		return false, nil
	}
	return false, fmt.Errorf("read replication stream: %w", err)
}

// before arms the read deadline, unless Wake came first.
func (w *waker) before(f *feed, until time.Time) (proceed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending {
		w.pending = false
		return false, nil
	}
	if !until.Equal(f.deadline) {
		if err := f.net().SetReadDeadline(until); err != nil {
			return false, fmt.Errorf("read replication stream: %w", err)
		}
		f.deadline = until
	}
	w.waiting = f
	return true, nil
}

func (w *waker) after() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.pending = nil, false
}

// longPast is a read deadline that interrupts a read at once.
var longPast = time.Unix(1, 0)

// Wake makes a running or the next Wait return soon. Any goroutine may call
// it.
func (w *waker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = true
	if w.waiting != nil {
		w.waiting.deadline = longPast
		// An error here means that the connection is closed, which the read will
		// report.
		_ = w.waiting.net().SetReadDeadline(longPast)
	}
}

// Flowing reports whether the server is sending as fast as it can, so that more
// is sure to follow.
func (f *feed) Flowing() bool { return f.frames.lastRead >= bulk }

func (f *feed) net() net.Conn { return f.conn.Conn() }
