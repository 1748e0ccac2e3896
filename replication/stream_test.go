package replication

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// numbers are from … to in the form that readRows returns.
func numbers(from, to int) (all []string) {
	for n := from; n <= to; n++ {
		all = append(all, strconv.Itoa(n))
	}
	return all
}

func TestStream(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	start := f.slot().Confirmed
	f.insert(1, 3)
	f.insert(4, 4)
	stream := f.open()
	ids, end := readRows(t, stream, 4)
	assert.Equal(t, numbers(1, 4), ids)
	assert.Greater(t, end, start)
	assert.True(t, f.slot().Active)
	assert.Equal(t, start, f.slot().Confirmed, "nothing is confirmed on its own")

	require.NoError(t, stream.Confirm(end, false))
	require.NoError(t, stream.Finish(time.Now().Add(patience)))
	assert.Equal(t, end, f.slot().Confirmed, "the confirmation arrives before Finish returns")
	stream.Close()
	require.Eventually(t, func() bool { return !f.slot().Active }, patience, 20*time.Millisecond)
	stream.Close() // a second time

	t.Run("the next session goes on behind it", func(t *testing.T) {
		f.insert(5, 5)
		next := f.open()
		ids, _ := readRows(t, next, 1)
		assert.Equal(t, []string{"5"}, ids)
		require.NoError(t, next.Finish(time.Now().Add(patience)))
		assert.Equal(t, end, f.slot().Confirmed, "unconfirmed events come again")
	})
}

// A checkpoint above the slot's position is where the stream starts.
func TestStreamStartsAtCheckpoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 1)
	server, slot := f.identify()
	first := f.open()
	_, end := readRows(t, first, 1)
	require.NoError(t, first.Finish(time.Now().Add(patience)))
	first.Close()
	f.insert(2, 2)
	require.Eventually(t, func() bool { return !f.slot().Active }, patience, 20*time.Millisecond)
	second, err := Open(t.Context(), f.config, server, end)
	require.NoError(t, err)
	t.Cleanup(second.Close)
	ids, _ := readRows(t, second, 1)
	assert.Equal(t, []string{"2"}, ids)
	assert.Less(t, slot.Confirmed, end)
}

func TestNextDoesNotBlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	stream := f.open()
	for range 3 {
		before := time.Now()
		m, err := stream.Next()
		require.NoError(t, err)
		assert.Contains(t, []Kind{None, Keepalive}, m.Kind)
		assert.Less(t, time.Since(before), patience/2)
	}
}

// timed runs Wait and returns how long it took, not counting the server's
// messages about other sessions.
func timed(t *testing.T, stream *Stream, until time.Time) time.Duration {
	t.Helper()
	handOut(t, stream)
	for before := time.Now(); ; handOut(t, stream) {
		began := time.Now()
		require.NoError(t, stream.Wait(until))
		if !stream.LastReceived().After(began) || time.Now().After(until) {
			return time.Since(before)
		}
	}
}

// handOut takes everything that has been received.
func handOut(t *testing.T, stream *Stream) {
	t.Helper()
	for {
		m, err := stream.Next()
		require.NoError(t, err)
		if m.Kind == None {
			return
		}
	}
}

// quiet waits until the server has nothing more to send.
func quiet(t *testing.T, stream *Stream) {
	t.Helper()
	for {
		if _, err := next(stream, 300*time.Millisecond); err != nil {
			require.ErrorIs(t, err, errNothing)
			return
		}
	}
}

func TestWait(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	stream := f.open()
	const long, short = patience, patience / 2
	soon := func() time.Time { return time.Now().Add(long) }
	quiet(t, stream)

	t.Run("until the deadline", func(t *testing.T) {
		assert.GreaterOrEqual(t, timed(t, stream, time.Now().Add(50*time.Millisecond)), 50*time.Millisecond)
	})
	t.Run("not at all for a time gone by", func(t *testing.T) {
		assert.Less(t, timed(t, stream, time.Now().Add(-time.Second)), short)
	})
	t.Run("the same deadline twice", func(t *testing.T) {
		until := time.Now().Add(50 * time.Millisecond)
		timed(t, stream, until)
		timed(t, stream, until)
	})
	t.Run("not at all after a wake", func(t *testing.T) {
		stream.Wake()
		stream.Wake()
		assert.Less(t, timed(t, stream, soon()), short)
		assert.GreaterOrEqual(t, timed(t, stream, time.Now().Add(50*time.Millisecond)), 50*time.Millisecond, "one wake counts once")
	})
	t.Run("until a wake from another goroutine", func(t *testing.T) {
		for _, delay := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
			timer := time.AfterFunc(delay, stream.Wake)
			assert.Less(t, timed(t, stream, soon()), short)
			timer.Stop()
			assert.GreaterOrEqual(t, timed(t, stream, time.Now().Add(50*time.Millisecond)), 50*time.Millisecond, "it counts once")
		}
		quiet(t, stream)
	})
	t.Run("until data comes", func(t *testing.T) {
		var wait sync.WaitGroup
		wait.Go(func() { f.insert(1, 1) })
		ids, _ := readRows(t, stream, 1)
		assert.Equal(t, []string{"1"}, ids)
		wait.Wait()
		assert.WithinDuration(t, time.Now(), stream.LastReceived(), short)
	})
}

// Data is neither lost nor repeated when reads are interrupted at any moment.
func TestWakeHammer(t *testing.T) {
	t.Parallel()
	const rows = 3000
	f := newFixture(t, pgtest.Shared(t))
	stream := f.open()
	var goroutines sync.WaitGroup
	done := make(chan struct{})
	defer goroutines.Wait()
	defer close(done)
	for i := range 3 {
		goroutines.Go(func() {
			ticker := time.NewTicker(time.Duration(i+1) * 50 * time.Microsecond)
			defer ticker.Stop()
			for {
				select {
				case <-done:
					return
				case <-ticker.C:
					stream.Wake()
				}
			}
		})
	}
	goroutines.Go(func() {
		for n := 1; n <= rows; n += 100 {
			f.insert(n, n+99)
		}
	})
	ids, end := readRows(t, stream, rows)
	assert.Equal(t, numbers(1, rows), ids)
	require.NoError(t, stream.Confirm(end, true))
}

func TestKeepalive(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	start := f.slot().Confirmed
	stream := f.open()
	quiet(t, stream)
	require.NoError(t, stream.Confirm(start, true))
	m, err := next(stream, patience)
	require.NoError(t, err)
	assert.Equal(t, Keepalive, m.Kind)
	assert.GreaterOrEqual(t, m.LSN, start)
	assert.Empty(t, m.Data)

	t.Run("may be confirmed", func(t *testing.T) {
		f.exec("CREATE TABLE other AS SELECT 1") // grows the WAL with nothing for this stream
		end := query[string](f, "SELECT pg_current_wal_flush_lsn()::text")
		want, err := pglogrepl.ParseLSN(end)
		require.NoError(t, err)
		for m.LSN < want {
			m, err = nextNudging(stream)
			require.NoError(t, err)
			if m.Kind != Keepalive {
				m.LSN = 0
				continue
			}
			require.NoError(t, stream.Confirm(start, m.LSN < want))
		}
		require.NoError(t, stream.Confirm(m.LSN, false))
		require.NoError(t, stream.Finish(time.Now().Add(patience)))
		assert.Equal(t, m.LSN, f.slot().Confirmed)
	})
}

// A server that wants an answer within wal_sender_timeout says so, and with the
// answers the connection stays alive.
func TestReplyRequested(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.config.SenderTimeout = time.Second
	start := f.slot().Confirmed
	stream := f.open()
	asked := 0
	for deadline := time.Now().Add(2500 * time.Millisecond); time.Now().Before(deadline); {
		m, err := stream.Next()
		require.NoError(t, err)
		switch {
		case m.ReplyRequested:
			asked++
			require.NoError(t, stream.Confirm(start, false))
		case m.Kind == None:
			require.NoError(t, stream.Wait(deadline))
		}
	}
	assert.GreaterOrEqual(t, asked, 2)
}

func TestConfirmRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	start := f.slot().Confirmed
	stream := f.open()
	require.ErrorContains(t, stream.Confirm(0, false), "0/0")
	require.ErrorContains(t, stream.Confirm(start+1<<30, true), "above", "beyond anything received")
	f.insert(1, 1)
	_, end := readRows(t, stream, 1)
	require.NoError(t, stream.Confirm(start, false))
	require.NoError(t, stream.Confirm(end, false))
	require.NoError(t, stream.Confirm(start, true), "an old position may be repeated")
	stream.Received(end - 1)
	require.NoError(t, stream.Confirm(end, false), "received never decreases")
	require.NoError(t, stream.Finish(time.Now().Add(patience)))
	assert.Equal(t, end, f.slot().Confirmed, "the server does not go back")
	stream.Close()
	require.Error(t, stream.Confirm(end, false))
	require.Error(t, stream.Finish(time.Now().Add(time.Second)))
	require.Error(t, stream.Wait(time.Now().Add(time.Second)))
	stream.Wake() // harmless
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", f.server.Port()))
	f.config.DSN = p.through(t, f.config.DSN)
	f.config.SenderTimeout = time.Second
	start := f.slot().Confirmed
	stream := f.open()
	quiet(t, stream)
	p.freeze(true)
	const interval = 200 * time.Millisecond
	begin := time.Now()
	err := func() error {
		for time.Since(begin) < patience {
			if err := stream.Wait(time.Now().Add(interval)); err != nil {
				return err
			}
			require.NoError(t, stream.Confirm(start, true), "writes are swallowed")
			_, err := stream.Next()
			require.NoError(t, err)
		}
		return nil
	}()
	require.ErrorIs(t, err, ErrServerSilent)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
	assert.Less(t, time.Since(begin), f.config.SenderTimeout+interval+time.Second)
	require.Error(t, stream.Finish(time.Now().Add(interval)), "the deadline holds")
	stream.Close()
}

func TestConnectionLost(t *testing.T) {
	t.Parallel()
	t.Run("cut on the way", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", f.server.Port()))
		f.config.DSN = p.through(t, f.config.DSN)
		stream := f.open()
		p.cut()
		err := nextError(t, stream)
		require.ErrorContains(t, err, "read replication stream")
		assert.Equal(t, failure.Transient, failure.ClassOf(err))
	})
	t.Run("terminated by an administrator", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		stream := f.open()
		require.True(t, query[bool](f, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", f.config.Slot))
		err := nextError(t, stream)
		require.ErrorContains(t, err, "57P01")
		require.ErrorContains(t, err, f.config.Slot)
		assert.Equal(t, failure.Transient, failure.ClassOf(err))
	})
	t.Run("terminated before the end", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		stream := f.open()
		f.insert(1, 1)
		_, end := readRows(t, stream, 1)
		require.True(
			t,
			query[bool](f, "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1", f.config.Slot),
		)
		require.Error(t, stream.Finish(time.Now().Add(patience)), "nothing sent from now on is processed")
		assert.Less(t, f.slot().Confirmed, end)
	})
	t.Run("stopped server", func(t *testing.T) {
		t.Parallel()
		server := pgtest.New(t, pgtest.Options{})
		t.Run("at once", func(t *testing.T) { testStoppedAtOnce(t, newFixture(t, server)) })
		t.Run("in good order", func(t *testing.T) { testStoppedInGoodOrder(t, newFixture(t, server)) })
	})
}

func testStoppedAtOnce(t *testing.T, f *fixture) {
	t.Helper()
	stream := f.open()
	require.NoError(t, f.server.StopImmediate())
	err := nextError(t, stream)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
	_, err = Connect(t.Context(), f.config)
	require.ErrorContains(t, err, "connect to PostgreSQL")
	assert.Equal(t, failure.Transient, failure.ClassOf(err))

	require.NoError(t, f.server.StartAgain(t.Context()))
	f.conn = connect(t, f.config.DSN)
	f.insert(7, 7)
	ids, _ := readRows(t, f.open(), 1)
	assert.Equal(t, []string{"7"}, ids)
}

func testStoppedInGoodOrder(t *testing.T, f *fixture) {
	t.Helper()
	stream := f.open()
	f.insert(1, 1)
	readRows(t, stream, 1) // it is streaming by now
	var stopped sync.WaitGroup
	stopped.Go(func() { assert.NoError(t, f.server.Stop()) })
	for {
		m, err := next(stream, patience)
		if err != nil {
			require.ErrorIs(t, err, ErrServerStopped)
			break
		}
		if m.ReplyRequested { // it waits until everything has been received
			require.NoError(t, stream.Confirm(m.LSN, false))
		}
	}
	stream.Close()
	stopped.Wait()
	require.NoError(t, f.server.StartAgain(t.Context())) // for the cleanup
}

func TestSlotActive(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.open()
	server, slot := f.identify()
	assert.True(t, slot.Active)
	assert.NotZero(t, slot.ActivePID)
	_, err := Open(t.Context(), f.config, server, slot.Confirmed)
	require.ErrorIs(t, err, ErrSlotActive)
	require.ErrorContains(t, err, f.config.Slot)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
}

func TestOpenRefuses(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	server, slot := f.identify()
	t.Run("another server than the one checked", func(t *testing.T) {
		other := server
		other.SystemID = "1"
		_, err := Open(t.Context(), f.config, other, slot.Confirmed)
		assert.Contains(t, failure.Describe(err), "target_session_attrs")
		other = server
		other.Timeline++
		_, err = Open(t.Context(), f.config, other, slot.Confirmed)
		require.ErrorContains(t, err, "timeline")
	})
	t.Run("a slot that is gone", func(t *testing.T) {
		config := f.config
		config.Slot += "_gone"
		_, err := Open(t.Context(), config, server, slot.Confirmed)
		require.ErrorContains(t, err, config.Slot)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
	})
	t.Run("names are quoted", func(t *testing.T) {
		config := f.config
		config.Slot = `x" LOGICAL 0/0; DROP_REPLICATION_SLOT "` + f.config.Slot
		_, err := Open(t.Context(), config, server, slot.Confirmed)
		require.Error(t, err)
		assert.Equal(t, slot.Confirmed, f.slot().Confirmed, "the slot is still there")
	})
}

func TestTooLargeRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.config.MaxRow = 1 << 10
	f.exec(fmt.Sprintf("INSERT INTO outbox VALUES (1, repeat('x', %d))", f.config.MaxRow)) // within the limit
	stream := f.open()
	ids, _ := readRows(t, stream, 1)
	assert.Equal(t, []string{"1"}, ids)
	const size = 10 << 20
	f.exec(fmt.Sprintf("INSERT INTO outbox VALUES (2, repeat('x', %d))", size))
	err := nextError(t, stream)
	tooLarge, ok := errors.AsType[*TooLargeError](err)
	require.True(t, ok, "%v", err)
	assert.Greater(t, tooLarge.Size, int64(size))
	assert.Equal(t, failure.Refused, failure.ClassOf(err), "it will be just as large the next time")
	assert.Less(t, len(stream.frames.buf), 1<<20)
}

func TestLargeRows(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.config.MaxRow = 8 << 20
	f.exec("INSERT INTO outbox SELECT n, repeat(n::text, 1 << 20) FROM generate_series(1, 5) n", "INSERT INTO outbox VALUES (6, '')")
	stream := f.open()
	ids, _ := readRows(t, stream, 6)
	assert.Equal(t, numbers(1, 6), ids)
	quiet(t, stream)
	assert.Len(t, stream.frames.buf, connectionBuffer, "the memory is released")
}

// The walsender decodes with the catalog as of each point of the WAL, so the
// publication must have existed before the slot (P-24).
func TestPublicationSkipped(t *testing.T) {
	t.Parallel()
	testPublicationSkipped(t, pgtest.Shared(t))
	for _, version := range []string{"14", "16"} { // TestVersions has others
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("downloads and starts servers")
			}
			testPublicationSkipped(t, pgtest.New(t, pgtest.Options{Version: version}))
		})
	}
}

func testPublicationSkipped(t *testing.T, server *pgtest.Server) {
	t.Helper()
	f := newEmptyFixture(t, server)
	f.config.DSN = pgtest.Foreign(t, f.config.DSN)
	f.exec("CREATE TABLE outbox (id int PRIMARY KEY, payload text)")
	f.createSlot()
	f.insert(1, 1)
	f.exec("CREATE PUBLICATION p FOR TABLE outbox")
	f.insert(2, 2)
	err := nextError(t, f.open())
	require.ErrorIs(t, err, ErrPublicationSkipped)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, "publication")

	// Dropped and created again while the stream is connected.
	g := newFixture(t, server)
	g.config.DSN = pgtest.Foreign(t, g.config.DSN)
	stream := g.open()
	g.insert(1, 1)
	ids, _ := readRows(t, stream, 1)
	assert.Equal(t, []string{"1"}, ids)
	g.exec("DROP PUBLICATION p")
	g.insert(2, 2)
	g.exec("CREATE PUBLICATION p FOR TABLE outbox")
	require.ErrorIs(t, nextError(t, stream), ErrPublicationSkipped)
}

// scripted is a stream from a server that sends what it is told to.
func scripted(stream []byte) *Stream {
	return &Stream{feed: feed{frames: newFrames(cut(stream, 7), 64, 1000), config: Config{Slot: "s", Publication: "p"}}}
}

func TestStreamMessages(t *testing.T) {
	t.Parallel()
	data := frame{'d', "w" + strings.Repeat("\x00", 7) + "\x09" + strings.Repeat("\x00", 16) + "row"}
	keepalive := frame{'d', "k" + strings.Repeat("\x00", 7) + "\x64" + strings.Repeat("\x00", 8) + "\x01"}
	for name, test := range map[string]struct {
		frames []frame
		want   []Message
		err    string
		class  failure.Class
	}{
		"data":       {frames: []frame{data}, want: []Message{{Kind: Data, LSN: 9, Data: []byte("row")}}},
		"empty data": {frames: []frame{{'d', data.body[:25]}}, want: []Message{{Kind: Data, LSN: 9, Data: []byte{}}}},
		"keepalive":  {frames: []frame{keepalive}, want: []Message{{Kind: Keepalive, LSN: 100, ReplyRequested: true}}},
		"parameter status, notification": {
			frames: []frame{{'S', "TimeZone\x00UTC\x00"}, {'A', ""}, data},
			want:   []Message{{Kind: Data, LSN: 9, Data: []byte("row")}},
		},
		"a notice": {
			frames: []frame{{'N', "SNOTICE\x00C00000\x00Mhello\x00\x00"}, data},
			want:   []Message{{Kind: Data, LSN: 9, Data: []byte("row")}},
		},
		"skipped publication": {
			frames: []frame{{'N', "SWARNING\x00C55000\x00Mskipped loading publication\x00\x00"}, data},
			err:    "publication \"p\"",
			class:  failure.Refused,
		},
		"publication does not exist": {
			frames: []frame{{'E', "SERROR\x00C42704\x00Mpublication \"p\" fehlt\x00Rget_publication_oid\x00\x00"}},
			err:    "42704",
			class:  failure.Refused,
		},
		"another undefined object": {frames: []frame{{'E', "SERROR\x00C42704\x00Mtype is missing\x00\x00"}}, err: "type is missing"},
		"end":                      {frames: []frame{{'c', ""}}, err: ErrServerStopped.Error()},
		"command complete":         {frames: []frame{{'C', "START\x00"}}, err: ErrServerStopped.Error()},
		"ready for query":          {frames: []frame{{'Z', "I"}}, err: ErrServerStopped.Error()},
		"empty copy data":          {frames: []frame{{'d', ""}}, err: "empty copy data"},
		"short data":               {frames: []frame{{'d', data.body[:24]}}, err: "unknown copy data message 'w' of 24 bytes"},
		"short keepalive":          {frames: []frame{{'d', keepalive.body[:17]}}, err: "unknown copy data message 'k'"},
		"long keepalive":           {frames: []frame{{'d', keepalive.body + "\x00"}}, err: "unknown copy data message 'k'"},
		"unknown copy data":        {frames: []frame{{'d', "x" + data.body}}, err: "unknown copy data message 'x'"},
		"unknown message":          {frames: []frame{{'T', ""}}, err: "unexpected message of type 'T'"},
		"broken error":             {frames: []frame{{'E', "S"}}, err: "error response"},
		"broken notice":            {frames: []frame{{'N', "S"}}, err: "notice from the server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := scripted(wire(test.frames...))
			var got []Message
			for {
				m, err := stream.Next()
				if err == nil && m.Kind == None {
					err = stream.frames.fill()
				} else if err == nil {
					m.Data = slices.Clone(m.Data)
					got = append(got, m)
				}
				if err == nil {
					continue
				}
				if test.err == "" {
					require.ErrorIs(t, err, io.EOF)
				} else {
					require.ErrorContains(t, err, test.err)
					assert.Equal(t, test.class, failure.ClassOf(err))
				}
				break
			}
			assert.Equal(t, test.want, got)
			if test.want != nil && test.want[0].Kind == Keepalive {
				assert.EqualValues(t, 100, stream.received)
			} else {
				assert.Zero(t, stream.received, "a header's position must never be confirmed")
			}
		})
	}
	assert.True(t, isTimeout(fmt.Errorf("x: %w", &net.OpError{Err: errTimeout()})))
}

func TestReceivedNeverFalls(t *testing.T) {
	t.Parallel()
	stream := scripted(frame{'d', "k" + strings.Repeat("\x00", 7) + "\x64" + strings.Repeat("\x00", 9)}.wire())
	stream.Received(200)
	for stream.frames.end < 23 {
		require.NoError(t, stream.frames.fill())
	}
	m, err := stream.Next()
	require.NoError(t, err)
	assert.EqualValues(t, 100, m.LSN)
	assert.EqualValues(t, 200, stream.received, "an older keepalive")
	stream.Received(150)
	assert.EqualValues(t, 200, stream.received)
}

func errTimeout() error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_ = a.SetReadDeadline(time.Unix(1, 0))
	_, err := a.Read(make([]byte, 1))
	return err
}
