package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// No setting of a role or database ends a session, keeps it from doing what the
// user of the connection string may do, or hides what the server says.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	for _, version := range testserver.Ends("14", "15", "17", "18") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("downloads and starts servers")
			}
			f := newFixture(t, pgtest.New(t, pgtest.Options{Version: version}))
			f.config.DSN = f.server.HostileRole(t, f.conn, "REPLICATION")
			f.exec("ALTER TABLE outbox OWNER TO hostile")
			start := f.slot().Confirmed
			f.insert(1, 100_000)
			f.slowly(t, start)
			caughtUp := f.catches(t, start)
			f.advances(t, caughtUp)
			f.hears(t)
		})
	}
}

// slowly reads one transaction for longer than a transaction may take.
func (f *fixture) slowly(t *testing.T, start LSN) {
	t.Helper()
	server, _ := f.identify()
	stream, err := Open(t.Context(), f.config, server, start)
	require.NoError(t, err)
	defer stream.Close()
	for m := (Message{}); m.Kind != Data; {
		m, err = nextNudging(stream)
		require.NoError(t, err)
	}
	// The server cannot send more, and waits for the reader within the
	// transaction.
	<-time.After(600 * time.Millisecond)
	ids, _ := readRows(t, stream, 100_000)
	assert.Len(t, ids, 100_000)
}

// catches reads the same through copies of the slot.
func (f *fixture) catches(t *testing.T, start LSN) LSN {
	t.Helper()
	_, slot := f.identify()
	u := f.catchUp(start, stretching{first: 1 << 20, longest: 4 << 20, again: 1 << 40, worthwhile: 512, messages: 10_000})
	all, end := transcript(t, u, start, slot.Flushed, never)
	rows := 0
	for _, m := range all {
		if m[0] == 'I' {
			rows++
		}
	}
	assert.Equal(t, 100_000, rows)
	require.NoError(t, u.Confirm(end, false))
	require.NoError(t, u.Finish(time.Now().Add(patience)))
	u.Close()
	return end
}

// advances moves the slot on a session that has been idle for longer than a
// session may be.
func (f *fixture) advances(t *testing.T, at LSN) {
	t.Helper()
	a, err := newAdvancer(t.Context(), f.config)
	require.NoError(t, err)
	defer a.close()
	f.insert(100_001, 100_001)
	<-time.After(100 * time.Millisecond) // idle, for longer than idle_session_timeout
	end := f.slot().Flushed
	require.NoError(t, a.advance(end))
	require.NoError(t, a.finish(time.Now().Add(patience)))
	assert.Greater(t, f.slot().Confirmed, at)
}

// hears notices that the publication is gone, which PostgreSQL 18 reports in a
// warning.
func (f *fixture) hears(t *testing.T) {
	t.Helper()
	stream := f.open()
	f.exec("DROP PUBLICATION p", "INSERT INTO outbox VALUES (200000)")
	require.ErrorIs(t, nextError(t, stream), ErrPublicationSkipped)
}
