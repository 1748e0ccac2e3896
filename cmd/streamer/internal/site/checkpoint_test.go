package site

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/replication"
)

func TestCheckpointPlace(t *testing.T) {
	t.Parallel()
	for store, want := range map[string]string{
		"kafka": "topic positions", "postgres": "table kept.positions", "file": "file positions.json",
	} {
		assert.Equal(t, want, CheckpointPlace(configured(t, "checkpoint.store="+store, "checkpoint.kafka.topic=positions",
			"checkpoint.postgres.table=kept.positions", "checkpoint.file.path=positions.json")))
	}
}

func TestIdentityOfAShard(t *testing.T) {
	t.Parallel()
	id := IdentityOf(replication.Server{SystemID: "7300000000000000001", Database: "shop"},
		configured(t, "postgres.slot=s", "shard.count=4").ForShard(3))
	assert.Equal(t, checkpoint.Identity{SystemID: "7300000000000000001", Database: "shop", Slot: "s_3_of_4"}, id)
}

// Reading creates nothing: neither the table nor the topic.
func TestNoCheckpointYet(t *testing.T) {
	t.Parallel()
	id := checkpoint.Identity{SystemID: "7300000000000000001", Database: "shop", Slot: "s"}
	cfg := configured(t, "checkpoint.store=file", "checkpoint.file.path="+filepath.Join(t.TempDir(), "positions"))
	_, err := LoadCheckpoint(t.Context(), cfg, id)
	require.ErrorIs(t, err, checkpoint.ErrNone)

	cfg, _ = withDatabase(t, "checkpoint.store=postgres")
	_, err = LoadCheckpoint(t.Context(), cfg, id)
	require.ErrorIs(t, err, checkpoint.ErrNone)
	exists, err := CheckpointTableExists(t.Context(), cfg)
	require.NoError(t, err)
	assert.False(t, exists)

	cluster := fake.Start(t)
	cfg = configured(t, "kafka.brokers="+cluster.Brokers()[0])
	_, err = LoadCheckpoint(t.Context(), cfg, id)
	require.ErrorIs(t, err, checkpoint.ErrNone)
	client, err := ConnectKafka(t.Context(), cfg)
	require.NoError(t, err)
	defer client.Close()
	topics, err := client.Topics("")
	require.NoError(t, err)
	assert.Empty(t, topics)
}

func TestCheckpointThatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	_, err := LoadCheckpoint(t.Context(), configured(t, "kafka.brokers="+nowhere), checkpoint.Identity{})
	require.ErrorContains(t, err, "connect to Kafka")
	require.NotErrorIs(t, err, checkpoint.ErrNone)
}

// The table may be in a database of its own.
func TestCheckpointTable(t *testing.T) {
	t.Parallel()
	elsewhere, _ := withDatabase(t)
	dsn, err := elsewhere.Postgres.DSN.Reveal(t.Context())
	require.NoError(t, err)
	cfg, conn := withDatabase(t, "checkpoint.store=postgres", "checkpoint.postgres.dsn="+dsn, "checkpoint.postgres.table=public.positions")
	saved := checkpoint.Record{
		Identity: checkpoint.Identity{SystemID: "7300000000000000001", Database: "shop", Slot: cfg.Postgres.Slot},
		LSN:      4711, SavedAt: time.Now().UTC(),
	}
	store, err := OpenCheckpointTable(t.Context(), cfg)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Claim(t.Context(), saved.Identity))
	require.NoError(t, store.Save(t.Context(), saved))

	exists, err := CheckpointTableExists(t.Context(), cfg)
	require.NoError(t, err)
	assert.True(t, exists)
	loaded, err := LoadCheckpoint(t.Context(), cfg, saved.Identity)
	require.NoError(t, err)
	assert.Equal(t, saved.LSN, loaded.LSN)
	other := saved.Identity
	other.SystemID = "1"
	_, err = LoadCheckpoint(t.Context(), cfg, other)
	assert.Equal(t, failure.Refused, failure.ClassOf(err), "of another cluster")
	var here int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_tables where tablename = 'positions'").Scan(&here))
	assert.Zero(t, here, "the database of the outbox has no such table")
}
