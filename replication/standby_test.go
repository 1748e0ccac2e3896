package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// The instance that works sees who waits for it, and nobody else.
func TestStandbysAreVisible(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	works, waits := f.control(), f.control()
	company := func() Company {
		t.Helper()
		found, err := works.Company(t.Context())
		require.NoError(t, err)
		return found
	}
	for _, c := range []*Control{works, waits} {
		_, err := c.TryLock(t.Context())
		require.NoError(t, err)
	}
	assert.Empty(t, company().Standbys)
	require.NoError(t, waits.StandBy(t.Context()))
	other := *f
	other.config.Slot += "_2"
	require.NoError(t, other.control().StandBy(t.Context()))
	standbys := company().Standbys
	require.Len(t, standbys, 1)
	assert.Equal(t, int(waits.Conn().PgConn().PID()), standbys[0].PID)
	assert.Equal(t, f.config.ApplicationName(), standbys[0].Application)
	holders, err := waits.Holders(t.Context())
	require.NoError(t, err)
	require.Len(t, holders, 1, "whoever waits is no holder")
	assert.Equal(t, int(works.Conn().PgConn().PID()), holders[0].PID)

	// It has waited long enough, and works now.
	works.Close()
	require.Eventually(t, func() bool {
		locked, err := waits.TryLock(t.Context())
		return assert.NoError(t, err) && locked
	}, patience, 10*time.Millisecond)
	works = waits
	assert.Empty(t, company().Standbys, "it does not wait for itself")
}

func TestReplayIsVisible(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	c := f.control()
	found, err := c.Company(t.Context())
	require.NoError(t, err)
	assert.Nil(t, found.Replay)
	require.NoError(t, c.CopySlot(t.Context(), ReplaySlot(f.config.Slot)))
	found, err = c.Company(t.Context())
	require.NoError(t, err)
	require.NotNil(t, found.Replay)
	assert.Equal(t, ReplaySlot(f.config.Slot), found.Replay.Name)
	assert.False(t, found.Replay.Active)
	assert.NotEmpty(t, found.Replay.Confirmed)
	assert.GreaterOrEqual(t, found.Replay.RetainedWAL, int64(0))
}
