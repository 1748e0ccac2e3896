package pipeline

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// A look-up in the checkpoint store for a refusal must change nothing. It must
// neither create a topic or a table, nor take the lock of the file.
func TestPeekChangesNothing(t *testing.T) {
	t.Parallel()
	server := replication.Server{SystemID: "1", Database: "shop"}
	peeker := func(c CheckpointConfig, brokers ...string) *Pipeline {
		config := Config{
			Checkpoint: c, Client: kafka.ClientConfig{Brokers: brokers, RequestTimeout: 5 * time.Second},
			Replication: replication.Config{Slot: "s"},
		}
		return &Pipeline{ground: ground{config: &config}, servers: configured(), server: server}
	}
	t.Run("topic", func(t *testing.T) {
		t.Parallel()
		cluster := fake.Start(t, kfake.NumBrokers(1))
		_, err := peeker(CheckpointConfig{Store: "kafka", Topic: "checkpoints", ReplicationFactor: 1}, cluster.Brokers()...).peek(t.Context())
		require.ErrorIs(t, err, checkpoint.ErrNone)
		assert.Nil(t, cluster.TopicInfo("checkpoints"))
	})
	t.Run("table", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Shared(t).CreateDatabase(t)
		c := CheckpointConfig{
			Store: "postgres", DSN: func(context.Context) (string, error) { return dsn, nil }, Table: "public.streamer_checkpoint",
		}
		_, err := peeker(c).peek(t.Context())
		require.ErrorIs(t, err, checkpoint.ErrNone)
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		var tables int
		require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_tables where tablename = 'streamer_checkpoint'").Scan(&tables))
		assert.Zero(t, tables)
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "checkpoint.json")
		store, err := checkpoint.OpenFile(path)
		require.NoError(t, err)
		defer store.Close()
		p := peeker(CheckpointConfig{Store: "file", Path: path})
		_, err = p.peek(t.Context())
		require.ErrorIs(t, err, checkpoint.ErrNone)
		record := checkpoint.Record{Identity: Identity(server, "s"), LSN: 500}
		require.NoError(t, store.Save(t.Context(), record))
		found, err := p.peek(t.Context())
		require.NoError(t, err, "although it is locked")
		assert.EqualValues(t, 500, found.LSN)
	})
}
