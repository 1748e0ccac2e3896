package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// Differences between versions of PostgreSQL, tested on those that differ most
// from the installed one.
func TestVersions(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("downloads and starts two servers")
	}
	for _, version := range []string{"17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t, pgtest.Options{Version: version})
			t.Run("stream", func(t *testing.T) {
				f := newFixture(t, server)
				identity, slot := f.identify()
				require.NoError(t, Refusal(CheckServer(identity, f.config)))
				assert.Empty(t, CheckSlot(slot, identity))
				assert.Empty(t, CheckPosition(slot.Confirmed, slot))
				table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
				require.NoError(t, err)
				assert.Empty(t, CheckTable(table, f.config))
				for _, binary := range []bool{false, true} {
					f.config.Binary = binary
					works(t, f, f.config.DSN)
				}
			})
			t.Run("slot", func(t *testing.T) { testSlot(t, server) })
			t.Run("failover slot", func(t *testing.T) {
				f := newFixture(t, server)
				f.exec(
					"SELECT pg_drop_replication_slot('"+f.config.Slot+"')",
					"SELECT pg_create_logical_replication_slot('"+f.config.Slot+"', 'pgoutput', failover => true)",
				)
				assert.True(t, f.slot().Failover)
			})
			t.Run("publication skipped", func(t *testing.T) { testPublicationSkipped(t, server) })
			t.Run("pinned parameters", func(t *testing.T) {
				f := newFixture(t, server)
				f.config.DSN += "&timezone=Asia/Tokyo&datestyle=German"
				checkPinned(t, f)
			})
			t.Run("finish", func(t *testing.T) {
				f := newFixture(t, server)
				stream := f.open()
				f.insert(1, 10)
				_, end := readRows(t, stream, 10)
				require.NoError(t, stream.Confirm(end, false))
				require.NoError(t, stream.Finish(time.Now().Add(patience)))
				assert.Equal(t, end, f.slot().Confirmed)
			})
		})
	}
}
