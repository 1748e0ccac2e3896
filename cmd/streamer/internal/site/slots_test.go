package site

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
)

func TestKeptSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	past := []checkpoint.Moment{{At: at, LSN: 100}, {At: at.Add(time.Hour), LSN: 200}, {At: at.Add(2 * time.Hour), LSN: 300}}
	for lsn, want := range map[replication.LSN]time.Time{
		1: at, 100: at, 101: at.Add(time.Hour), 200: at.Add(time.Hour), 300: at.Add(2 * time.Hour), 301: {},
	} {
		assert.Equal(t, want, KeptSince(past, lsn), lsn)
	}
	assert.Zero(t, KeptSince(nil, 1))
}

func TestSlotIfAny(t *testing.T) {
	t.Parallel()
	cfg, conn := withDatabase(t)
	control, _, err := ConnectPostgres(t.Context(), cfg)
	require.NoError(t, err)
	defer control.Close()
	slot, err := SlotIfAny(t.Context(), control, cfg.Postgres.Slot)
	require.NoError(t, err)
	assert.Nil(t, slot)
	_, err = conn.Exec(t.Context(), "select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Postgres.Slot)
	require.NoError(t, err)
	slot, err = SlotIfAny(t.Context(), control, cfg.Postgres.Slot)
	require.NoError(t, err)
	require.NotNil(t, slot)
	assert.Equal(t, cfg.Postgres.Slot, slot.Name)
	control.Close()
	_, err = SlotIfAny(t.Context(), control, cfg.Postgres.Slot)
	assert.Error(t, err, "not known is not missing")
}
