package replication

import (
	"encoding/binary"
	"fmt"
	"io"
)

// frameHeader is a type byte and a length that includes itself.
const frameHeader = 5

// frames cuts the server's byte stream into protocol messages without copying
// them. It exists because pgconn watches a context per message and cannot say
// whether the next message is already here. When no message is here, batches
// must leave.
type frames struct {
	r          io.Reader
	buf        []byte
	start, end int // buf[start:end] has been read and not yet handed out
	initial    int // capacity to return to after a large message
	max        int // largest message body accepted, in bytes
	lastRead   int // number of bytes in the last read
	// passesOver reports, of a message that is too large, whether it is wanted by no
	// one, by the beginning of its body. nil: none is.
	passesOver func(beginning []byte) bool
	over       int64 // bytes of such a message that are still to come
}

// beginning is how much of a body passesOver sees.
const beginning = 256

const (
	// flowing is how many bytes one read must return for more to be expected at
	// once: several of the pieces that a walsender sends.
	flowing = 8 << 10
	// bulk is how many bytes one read returns when the server sends as fast as it
	// can.
	bulk = 64 << 10
)

func newFrames(r io.Reader, capacity, maxBody int) *frames {
	return &frames{r: r, buf: make([]byte, capacity), initial: capacity, max: maxBody}
}

// next returns the next complete message, or ok = false when more bytes are
// needed. The body is valid until the next call of fill.
func (f *frames) next() (kind byte, body []byte, ok bool, err error) {
	if !f.passedOver() {
		return 0, nil, false, nil
	}
	have := f.end - f.start
	if have < frameHeader {
		return 0, nil, false, nil
	}
	head := f.buf[f.start : f.start+frameHeader]
	size := int64(binary.BigEndian.Uint32(head[1:])) - 4
	switch {
	case size < 0:
		return 0, nil, false, fmt.Errorf("message of type %q with a length of %d bytes", head[0], size+4)
	case size > int64(f.max) && f.passesOver != nil && have < frameHeader+beginning:
		return 0, nil, false, nil
	case size > int64(f.max) && f.passesOver != nil && f.passesOver(f.buf[f.start+frameHeader:f.start+frameHeader+beginning]):
		f.over = size + frameHeader
		return f.next()
	case size > int64(f.max):
		return 0, nil, false, &TooLargeError{Size: size, Limit: int64(f.max)}
	case int64(have-frameHeader) < size:
		return 0, nil, false, nil
	}
	body = f.buf[f.start+frameHeader : f.start+frameHeader+int(size)]
	f.start += frameHeader + int(size)
	return head[0], body, true, nil
}

// passedOver drops what has come of a message that is passed over. It reports
// whether all of it has.
func (f *frames) passedOver() bool {
	have := min(f.over, int64(f.end-f.start))
	f.start += int(have)
	f.over -= have
	return f.over == 0
}

// fill reads once. It makes room for the message that next found incomplete,
// and releases a large buffer after a large message.
func (f *frames) fill() error {
	want := min(f.pending(), f.max+frameHeader) // next refuses larger messages
	switch {
	case f.start == f.end && len(f.buf) > f.initial && want <= f.initial:
		f.buf, f.start, f.end = make([]byte, f.initial), 0, 0
	case want > len(f.buf):
		grown := make([]byte, want)
		f.end = copy(grown, f.buf[f.start:f.end])
		f.buf, f.start = grown, 0
	case f.start > 0:
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	n, err := f.r.Read(f.buf[f.end:])
	f.end += n
	f.lastRead = n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// pending is the size of the message at the front, header included, as far as
// it is known. next has checked it against max.
func (f *frames) pending() int {
	if f.end-f.start < frameHeader {
		return frameHeader
	}
	size := int(binary.BigEndian.Uint32(f.buf[f.start+1:])) + 1
	if size > f.max+frameHeader && f.passesOver != nil {
		return frameHeader + beginning
	}
	return size
}

// TooLargeError reports a protocol message above the configured limit. It is
// detected from the message's header, before any memory is allocated for the
// message.
type TooLargeError struct {
	Size, Limit int64 // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf(
		"row of %d bytes is larger than outbox.max_row_bytes (%d): raise the limit, or keep the value elsewhere and publish a reference to it",
		e.Size, e.Limit,
	)
}

// handshake lets pgconn read through frames while the connection is being set
// up. It never hands out bytes of two messages at once, so pgconn's own buffer
// is empty when the stream begins and frames loses nothing.
type handshake struct {
	frames *frames
	rest   []byte // of the message being handed out
}

func (h *handshake) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		before := h.frames.start
		_, _, ok, err := h.frames.next()
		if err != nil {
			return 0, err
		}
		if ok {
			h.rest = h.frames.buf[before:h.frames.start]
			break
		}
		if err := h.frames.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}
