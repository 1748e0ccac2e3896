package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// source is the interface that both readers share.
type source interface {
	Next() (Message, error)
	Wait(until time.Time) error
	Received(lsn LSN)
	Confirm(lsn LSN, ping bool) error
	Finish(deadline time.Time) error
	Close()
}

// short has short stretches, which make many joints.
var short = stretching{first: 2 << 10, longest: 16 << 10, again: 1 << 40, worthwhile: 512, messages: 200}

func (f *fixture) catchUp(start LSN, division stretching) *CatchUp {
	f.t.Helper()
	server, slot := f.identify()
	u, err := openCatchUp(f.t.Context(), f.config, server, slot, start, division)
	require.NoError(f.t, err)
	f.t.Cleanup(u.Close)
	return u
}

// transcript reads from r until it has passed the position to, or until cut
// returns true at the end of a transaction. It returns the messages and the
// position at which another reader can go on. Descriptions of tables are left
// out, because each reader sends them when it likes.
func transcript(t *testing.T, r source, at, to LSN, cut func() bool) (all []string, end LSN) {
	t.Helper()
	open := false
	for deadline := time.Now().Add(patience); at < to; {
		m, err := r.Next()
		require.NoError(t, err)
		switch {
		case m.Kind == None:
			require.True(t, time.Now().Before(deadline), "nothing more after %s of %s", at, to)
			require.NoError(t, r.Wait(time.Now().Add(time.Second)))
			continue
		case m.Kind == Keepalive && !open:
			at = max(at, m.LSN)
		case m.Kind == Data && m.Data[0] == 'B':
			open = true
		case m.Kind == Data && m.Data[0] == 'C':
			var c pglogrepl.CommitMessage
			require.NoError(t, c.Decode(m.Data[1:]))
			at, open = max(at, c.TransactionEndLSN), false
			r.Received(at)
		}
		if m.Kind == Data && (m.Data[0] == 'B' || m.Data[0] == 'I' || m.Data[0] == 'C') {
			all = append(all, string(m.Data))
		}
		if !open && cut() {
			return all, at
		}
	}
	return all, at
}

func never() bool { return false }

// traffic commits transactions of all shapes from several connections.
func traffic(f *fixture, random *rand.Rand, transactions int) {
	f.t.Helper()
	f.exec("CREATE TABLE other (t text)")
	for n := range transactions {
		id := n * 1000
		rows := fmt.Sprintf(
			"INSERT INTO outbox SELECT n, repeat('x', %d) FROM generate_series(%d, %d) n",
			random.IntN(400), id, id+random.IntN(6),
		)
		switch random.IntN(12) {
		case 0:
			f.exec("BEGIN", rows, "ROLLBACK")
		case 1:
			f.exec("BEGIN", rows, "SAVEPOINT s", fmt.Sprintf("INSERT INTO outbox VALUES (%d, 'gone')", id+500), "ROLLBACK TO s",
				fmt.Sprintf("INSERT INTO outbox VALUES (%d, 'kept')", id+501), "COMMIT")
		case 2:
			f.exec(fmt.Sprintf("INSERT INTO outbox SELECT n, 'many' FROM generate_series(%d, %d) n", id, id+999))
		case 3:
			f.exec("INSERT INTO other SELECT repeat('y', 300) FROM generate_series(1, 50)")
		case 4:
			f.exec(fmt.Sprintf("ALTER TABLE outbox ADD COLUMN c%d int DEFAULT %d", n, n))
		case 5:
			f.exec(fmt.Sprintf("INSERT INTO outbox SELECT %d, string_agg(md5(n::text), '') FROM generate_series(1, 2000) n", id))
		default:
			f.exec(rows)
		}
	}
}

func (f *fixture) end() LSN {
	f.t.Helper()
	at, err := pglogrepl.ParseLSN(query[string](f, "SELECT pg_current_wal_flush_lsn()::text"))
	require.NoError(f.t, err)
	return at
}

// TestReadersAgree reads the same WAL in both ways, and with switches from one
// to the other at random positions. Every transaction comes once, in order,
// byte for byte.
func TestReadersAgree(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			agree(t, newFixture(t, server), rand.New(rand.NewPCG(seed, 1))) //nolint:gosec // a test
		})
	}
}

func agree(t *testing.T, f *fixture, random *rand.Rand) {
	t.Helper()
	idle := connect(t, f.config.DSN) // an open transaction makes every stretch decode again
	traffic(f, random, 100)
	_, err := idle.Exec(t.Context(), "BEGIN; INSERT INTO outbox VALUES (-1, 'late')")
	require.NoError(t, err)
	f.exec("DROP TABLE other")
	f.insertAfter(random)
	_, err = idle.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	f.insert(-100, -90)
	start, end := f.slot().Confirmed, f.end()

	stream := f.open()
	want, _ := transcript(t, stream, start, end, never)
	require.Greater(t, len(want), 1000)
	require.NoError(t, stream.Finish(time.Now().Add(patience)))

	got, _ := transcript(t, f.catchUp(start, short), start, end, never)
	compare(t, want, got)
	got, _ = transcript(
		t,
		f.catchUp(start, stretching{first: 1 << 30, longest: 1 << 30, again: 1 << 40, worthwhile: 1 << 30, messages: 100}),
		start, end, never,
	)
	compare(t, want, got)

	got = nil
	for at, changes := start, 0; at < end; changes++ {
		var r source
		if changes%2 == 0 {
			r = f.catchUp(at, short)
		} else {
			server, _ := f.identify()
			s, err := Open(t.Context(), f.config, server, at)
			require.NoError(t, err)
			r = s
		}
		var part []string
		part, at = transcript(t, r, at, end, func() bool { return random.IntN(60) == 0 })
		got = append(got, part...)
		if random.IntN(3) == 0 {
			require.NoError(t, r.Confirm(at, false))
		}
		require.NoError(t, r.Finish(time.Now().Add(patience)))
		r.Close()
	}
	compare(t, want, got)
}

func (f *fixture) insertAfter(random *rand.Rand) {
	f.t.Helper()
	for n := range 40 {
		f.exec(fmt.Sprintf(
			"INSERT INTO outbox (id, payload) SELECT n, repeat('z', %d) FROM generate_series(%d, %d) n",
			random.IntN(300), 1_000_000+n*10, 1_000_000+n*10+random.IntN(9),
		))
	}
}

// compare reports where two transcripts differ, without printing them.
func compare(t *testing.T, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			require.Failf(t, "transcripts differ", "message %d of %d", i, len(want))
		}
	}
	require.Len(t, got, len(want))
}

// TestCatchUpMovesTheSlot: confirming moves the slot itself, and nothing is
// left over.
func TestCatchUpMovesTheSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 500)
	start, end := f.slot().Confirmed, f.end()
	u := f.catchUp(start, short)
	_, at := transcript(t, u, start, end, never)
	assert.Positive(t, f.slot().Copies)
	require.Error(t, u.Confirm(0, false))
	require.ErrorContains(t, u.Confirm(at+1_000_000, false), "highest position received")
	require.NoError(t, u.Confirm(at, false))
	require.NoError(t, u.Finish(time.Now().Add(patience)))
	assert.Equal(t, at, f.slot().Confirmed)
	u.Close()
	require.Eventually(t, func() bool {
		return query[int](f, "SELECT count(*)::int FROM pg_replication_slots WHERE database = current_database()") == 1
	}, patience, 10*time.Millisecond, "the copies end with their sessions")
}

// TestCatchUpFollows: rows committed while it reads, and afterwards, arrive
// too.
func TestCatchUpFollows(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	start := f.slot().Confirmed
	u := f.catchUp(start, short)
	at := start
	for round := range 5 {
		f.insert(round*10+1, round*10+10)
		var part []string
		part, at = transcript(t, u, at, f.end(), never)
		assert.Len(t, part, 12, "round %d", round)
	}
}

func TestCatchUpWakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	u := f.catchUp(f.slot().Confirmed, short)
	woken := make(chan struct{})
	go func() { // ends with the waits below
		defer close(woken)
		u.Wake()
	}()
	for began := time.Now(); ; {
		require.NoError(t, u.Wait(time.Now().Add(patience)))
		if m, err := u.Next(); m.Kind == None && err == nil {
			break
		}
		require.Less(t, time.Since(began), patience)
	}
	<-woken
}

// refusal is the error that ends catching up.
func refusal(t *testing.T, c Config, server Server, slot Slot) error {
	t.Helper()
	u, err := OpenCatchUp(t.Context(), c, server, slot, slot.Confirmed)
	if err == nil {
		defer u.Close()
		for err == nil {
			if err = u.Wait(time.Now().Add(patience)); err == nil {
				_, err = u.Next()
			}
		}
	}
	return err
}

func TestCatchUpRefusals(t *testing.T) { //nolint:tparallel // one slot, one thing after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 10)
	server, slot := f.identify()
	var refused *NoCatchUpError
	t.Run("standby", func(t *testing.T) {
		s := server
		s.InStandby = true
		require.ErrorAs(t, refusal(t, f.config, s, slot), &refused)
	})
	t.Run("failover slot", func(t *testing.T) {
		s, l := server, slot
		s.SynchronizedStandbySlots, l.Failover = "standby", true
		require.ErrorAs(t, refusal(t, f.config, s, l), &refused)
	})
	t.Run("slot in use", func(t *testing.T) {
		l := slot
		l.Active = true
		require.ErrorIs(t, refusal(t, f.config, server, l), ErrSlotActive)
	})
	t.Run("no privilege", func(t *testing.T) {
		c := f.config
		f.exec("DROP ROLE IF EXISTS plain_"+f.config.Slot, "CREATE ROLE plain_"+f.config.Slot+" LOGIN")
		u, err := url.Parse(f.config.DSN)
		require.NoError(t, err)
		u.User = url.User("plain_" + f.config.Slot)
		c.DSN = u.String()
		require.ErrorAs(t, refusal(t, c, server, slot), &refused)
	})
	t.Run("publication missing", func(t *testing.T) {
		f.exec("DROP PUBLICATION p")
		f.insert(11, 20)
		c := f.config
		c.DSN = pgtest.Foreign(t, c.DSN)
		err := refusal(t, c, server, slot)
		require.ErrorIs(t, err, ErrPublicationSkipped)
	})
	t.Run("session terminated", func(t *testing.T) {
		g := newFixture(t, f.server)
		u := g.catchUp(g.slot().Confirmed, short)
		g.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		var err error
		for err == nil {
			if err = u.Wait(time.Now().Add(patience)); err == nil {
				_, err = u.Next()
			}
		}
		assert.NotErrorAs(t, err, &refused)
	})
}

func TestCopyName(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "shop_catch_up_4711", copyName("shop", 4711))
	assert.Len(t, copyName(strings.Repeat("s", 63), 4194304), 63)
	assert.Equal(t, `shop\_1\_catch\_up\_%`, copiesOf("shop_1"))
	assert.Equal(t, strings.Repeat("s", 46)+`%\_catch\_up\_%`, copiesOf(strings.Repeat("s", 63)))
}

func TestAdvancerExplains(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	f.insert(1, 10)
	a, err := newAdvancer(context.WithoutCancel(t.Context()), f.config)
	require.NoError(t, err)
	defer a.close()
	stream := f.open()
	_, end := readRows(t, stream, 10)
	require.NoError(t, a.advance(end))
	require.ErrorIs(t, a.finish(time.Now().Add(patience)), ErrSlotActive)
	require.ErrorIs(t, a.advance(end), ErrSlotActive, "reported until the caller looks")
}

// TestLaneRows: the frame around zero rows does not count as a row. Otherwise
// an idle server would be polled repeatedly without a pause.
func TestLaneRows(t *testing.T) {
	t.Parallel()
	row := "\x00\x02" + "\x00\x00\x00\x08" + strings.Repeat("\x00", 7) + "\x09" + "\x00\x00\x00\x03" + "row"
	const end = "\xff\xff"
	l := &lane{}
	for _, body := range []string{copySignature + end, copySignature, end} {
		m, err := l.row([]byte(body))
		require.NoError(t, err)
		assert.Equal(t, None, m.Kind)
		assert.False(t, l.rows)
	}
	for _, body := range []string{copySignature + row, row} {
		m, err := l.row([]byte(body))
		require.NoError(t, err)
		assert.Equal(t, Message{Kind: Data, LSN: 9, Data: []byte("row")}, m)
		assert.True(t, l.rows)
	}
	_, err := l.row([]byte(row[:len(row)-1]))
	require.ErrorContains(t, err, "unknown row of 20 bytes")
}
