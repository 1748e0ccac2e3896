package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type frame struct {
	kind byte
	body string
}

func (f frame) wire() []byte {
	m := binary.BigEndian.AppendUint32([]byte{f.kind}, uint32(len(f.body)+4))
	return append(m, f.body...)
}

func wire(all ...frame) (stream []byte) {
	for _, f := range all {
		stream = append(stream, f.wire()...)
	}
	return stream
}

// pieces is a reader that returns one piece per read.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; len((*p)[0]) == 0 {
		*p = (*p)[1:]
	}
	return n, nil
}

// cut makes pieces of these sizes, cyclically.
func cut(stream []byte, sizes ...int) *pieces {
	var p pieces
	for i := 0; len(stream) > 0; i++ {
		n := min(max(1, sizes[i%len(sizes)]), len(stream))
		p = append(p, stream[:n])
		stream = stream[n:]
	}
	return &p
}

// readFrames reads to the end or an error. It copies bodies only when it fills
// again: until then they must not change.
func readFrames(f *frames) (all []frame, err error) {
	type view struct {
		kind byte
		body []byte
	}
	var views []view
	for {
		kind, body, ok, err := f.next()
		if ok {
			views = append(views, view{kind, body})
			continue
		}
		for _, v := range views {
			all = append(all, frame{v.kind, string(v.body)})
		}
		views = nil
		if err == nil {
			err = f.fill()
		}
		if err != nil {
			return all, err
		}
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	large := frame{'d', string(bytes.Repeat([]byte("0123456789"), 100))}
	for name, all := range map[string][]frame{
		"none":                     nil,
		"an empty body":            {{'c', ""}},
		"one":                      {{'d', "hello"}},
		"many":                     {{'d', "a"}, {'d', ""}, {'N', "bc"}, {'d', "def"}, {'Z', ""}},
		"exactly the buffer":       {{'d', "01234567890"}, {'d', "x"}},
		"one more than the buffer": {{'d', "012345678901"}, {'d', "x"}},
		"large":                    {large},
		"large between small":      {{'d', "a"}, large, {'d', "b"}, {'d', "c"}, large, large, {'d', "d"}},
		"as large as allowed":      {{'d', string(make([]byte, 2000))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := wire(all...)
			for _, sizes := range [][]int{{1}, {2}, {3, 1}, {4}, {5}, {6}, {7, 100}, {16}, {len(stream) + 1}} {
				f := newFrames(cut(stream, sizes...), 16, 2000)
				got, err := readFrames(f)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, all, got, "reads of %d bytes", sizes)

				h := &handshake{frames: newFrames(cut(stream, sizes...), 16, 2000)}
				bytes, err := io.ReadAll(h)
				require.NoError(t, err)
				require.Equal(t, string(stream), string(bytes))
			}
		})
	}
}

func TestFramesBadLength(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		length uint32
		want   string
	}{
		"zero":               {0, "length of 0 bytes"},
		"less than itself":   {3, "length of 3 bytes"},
		"one above":          {4 + 101, "row of 101 bytes"},
		"as if negative":     {math.MaxUint32, "row of 4294967291 bytes"},
		"the sign bit alone": {1 << 31, "row of 2147483644 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := binary.BigEndian.AppendUint32([]byte{'d'}, test.length)
			f := newFrames(bytes.NewReader(header), 16, 100)
			_, err := readFrames(f)
			require.ErrorContains(t, err, test.want)
			assert.Len(t, f.buf, 16, "memory was taken before the length was checked")
			if tooLarge, ok := errors.AsType[*TooLargeError](err); ok {
				assert.EqualValues(t, 100, tooLarge.Limit)
				assert.Equal(t, int64(test.length)-4, tooLarge.Size)
				assert.Contains(t, err.Error(), "outbox.max_row_bytes")
			}
			_, err = (&handshake{frames: newFrames(bytes.NewReader(header), 16, 100)}).Read(make([]byte, 10))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// A caller that waits for more before it looks at what is here allocates no
// memory for an unchecked length either.
func TestFillBeforeNext(t *testing.T) {
	t.Parallel()
	f := newFrames(iotest.OneByteReader(bytes.NewReader([]byte{'d', 0xff, 0xff, 0xff, 0xff, 'x', 'x', 'x'})), 16, 100)
	for range 8 {
		require.NoError(t, f.fill())
	}
	assert.LessOrEqual(t, len(f.buf), 100+frameHeader)
	_, _, _, err := f.next()
	_, ok := errors.AsType[*TooLargeError](err)
	assert.True(t, ok, "%v", err)
}

func TestFramesGiveMemoryBack(t *testing.T) {
	t.Parallel()
	large := frame{'d', string(make([]byte, 5000))}
	stream := wire(frame{'d', "a"}, large, frame{'d', "b"}, frame{'d', "c"})
	for _, size := range []int{1, 7, 16, 5000, 100_000} {
		f := newFrames(cut(stream, size), 16, 5000)
		_, err := readFrames(f)
		require.ErrorIs(t, err, io.EOF)
		assert.Len(t, f.buf, 16, "reads of %d bytes", size)
	}

	t.Run("grows only to what is needed", func(t *testing.T) {
		t.Parallel()
		f := newFrames(cut(wire(large), 7), 16, 5000)
		for {
			_, _, ok, err := f.next()
			require.NoError(t, err)
			require.LessOrEqual(t, len(f.buf), 5005)
			if ok {
				return
			}
			require.NoError(t, f.fill())
		}
	})
}

// A stream counts as flowing as long as a read returns much, not because of
// what is left of an earlier read.
func TestFramesFlowing(t *testing.T) {
	t.Parallel()
	reads := []int{10, bulk, bulk - 1, 3 * bulk, 0}
	source := readerFunc(func([]byte) (int, error) {
		n := reads[0]
		if reads = reads[1:]; n == 0 {
			return 0, os.ErrDeadlineExceeded
		}
		return n, nil
	})
	f := newFrames(source, 8*bulk, 8*bulk)
	stream, catchUp := &Stream{feed: feed{frames: f}}, &CatchUp{queue: []*lane{{feed: feed{frames: f}}}}
	for _, want := range []bool{false, true, false, true} {
		require.NoError(t, f.fill())
		assert.Equal(t, want, stream.Flowing())
		assert.Equal(t, want, catchUp.Flowing())
	}
	require.Error(t, f.fill())
	assert.False(t, stream.Flowing())
	assert.False(t, catchUp.Flowing())
	assert.False(t, (&CatchUp{}).Flowing())
}

func TestFramesReadErrors(t *testing.T) {
	t.Parallel()
	whole := wire(frame{'d', "hello"})
	t.Run("are given back as they are", func(t *testing.T) {
		t.Parallel()
		f := newFrames(iotest.TimeoutReader(cut(whole, 3)), 16, 100)
		_, err := readFrames(f)
		require.ErrorIs(t, err, iotest.ErrTimeout)
		got, err := readFrames(f)
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, []frame{{'d', "hello"}}, got, "the part before the error is kept")
	})
	t.Run("wait for the bytes that came with them", func(t *testing.T) {
		t.Parallel()
		f := newFrames(iotest.DataErrReader(bytes.NewReader(whole)), 16, 100)
		got, err := readFrames(f)
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, []frame{{'d', "hello"}}, got)
	})
	t.Run("a reader that brings nothing", func(t *testing.T) {
		t.Parallel()
		f := newFrames(&pieces{{}, {1}}, 16, 100)
		require.ErrorIs(t, f.fill(), io.ErrNoProgress)
	})
	t.Run("of the handshake", func(t *testing.T) {
		t.Parallel()
		_, err := (&handshake{frames: newFrames(iotest.ErrReader(iotest.ErrTimeout), 16, 100)}).Read(make([]byte, 8))
		require.ErrorIs(t, err, iotest.ErrTimeout)
	})
}

// After the handshake, everything that was read beyond the last message it
// handed out is still there for the stream.
func TestHandshakeStopsAtMessages(t *testing.T) {
	t.Parallel()
	first, second, third := frame{'R', "auth"}, frame{'W', ""}, frame{'d', "stream"}
	for _, readSize := range []int{1, 4, 9, 100} {
		f := newFrames(bytes.NewReader(wire(first, second, third)), 64, 100)
		h := &handshake{frames: f}
		for _, want := range []frame{first, second} {
			for rest := want.wire(); len(rest) > 0; {
				p := make([]byte, readSize)
				n, err := h.Read(p)
				require.NoError(t, err)
				require.LessOrEqual(t, n, len(rest), "it crossed the end of a message")
				require.Equal(t, rest[:n], p[:n])
				rest = rest[n:]
			}
		}
		got, err := readFrames(f)
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, []frame{third}, got)
	}
}

// FuzzFrames cuts arbitrary bytes at arbitrary sizes. Messages and error do not
// depend on the cuts, and no more memory is allocated than the limit allows.
func FuzzFrames(f *testing.F) {
	f.Add(wire(frame{'d', "hello"}, frame{'c', ""}, frame{'d', string(make([]byte, 50))}), []byte{1, 7, 30})
	f.Add(wire(frame{'d', string(make([]byte, 300))}), []byte{100})
	f.Add([]byte{'d', 0, 0, 0, 3, 'd', 255, 255, 255, 255}, []byte{5})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		const initial, limit = 16, 200
		whole, wholeErr := readFrames(newFrames(bytes.NewReader(stream), 4096+len(stream), limit))
		require.Error(t, wholeErr)
		sizes := []int{1}
		for _, c := range cuts {
			sizes = append(sizes, int(c))
		}
		in := newFrames(cut(stream, sizes...), initial, limit)
		got, err := readFrames(in)
		require.Equal(t, whole, got)
		require.Equal(t, wholeErr, err)
		require.LessOrEqual(t, len(in.buf), limit+frameHeader)

		read := wire(got...)
		require.True(t, bytes.HasPrefix(stream, read), "messages are what was sent")
		handed, err := io.ReadAll(&handshake{frames: newFrames(cut(stream, slices.Concat(sizes, sizes)...), initial, limit)})
		require.Equal(t, string(read), string(handed))
		require.Equal(t, errors.Is(wholeErr, io.EOF), err == nil)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A message that no one wants is dropped piece by piece, whatever its size, and
// takes no memory.
func TestFramesPassOver(t *testing.T) {
	t.Parallel()
	unwanted := frame{'d', "over" + strings.Repeat("x", 5000)}
	wanted := frame{'d', "row" + strings.Repeat("y", 1000)}
	stream := wire(frame{'d', "a"}, unwanted, unwanted, wanted, unwanted, frame{'d', "b"})
	for _, sizes := range [][]int{{1}, {3, 300}, {4097}, {len(stream)}} {
		f := newFrames(cut(stream, sizes...), 16, 2000)
		f.passesOver = func(beginning []byte) bool { return string(beginning[:4]) == "over" }
		got, err := readFrames(f)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []frame{{'d', "a"}, wanted, {'d', "b"}}, got, "reads of %d bytes", sizes)
		assert.LessOrEqual(t, len(f.buf), 2000+frameHeader)
	}
	f := newFrames(cut(wire(frame{'d', strings.Repeat("z", 5000)}), 100), 16, 2000)
	f.passesOver = func([]byte) bool { return false }
	_, err := readFrames(f)
	var large *TooLargeError
	assert.ErrorAs(t, err, &large)
}

func TestForeignMessages(t *testing.T) {
	t.Parallel()
	c := Config{Outboxes: []Outbox{{Table: "public.outbox"}, {Messages: "orders"}}}
	xlog := func(message string) string { return "w" + strings.Repeat("\x00", xlogDataHeader-1) + message }
	row := func(message string) string { return "\x00\x02" + strings.Repeat("\x00", rowHeader-2) + message }
	const own, foreign = "M\x01\x00\x00\x00\x00\x00\x00\x00\x01orders\x00", "M\x01\x00\x00\x00\x00\x00\x00\x00\x01order\x00"
	for name, wrap := range map[string]func(string) string{
		"streamed": xlog, "caught up": row, "first of a stretch": func(m string) string { return copySignature + row(m) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.False(t, c.isForeignMessage([]byte(wrap(own+"x"))))
			assert.True(t, c.isForeignMessage([]byte(wrap(foreign+"x"))))
			assert.True(t, c.isForeignMessage([]byte(wrap("M\x01\x00\x00\x00\x00\x00\x00\x00\x01"+strings.Repeat("p", 300)))))
			assert.False(t, c.isForeignMessage([]byte(wrap("I\x00\x00\x40\x00N\x00\x01orders"))), "a row")
			assert.False(t, c.isForeignMessage([]byte(wrap(""))))
		})
	}
}
