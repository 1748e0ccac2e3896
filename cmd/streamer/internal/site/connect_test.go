package site

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

func TestConnectPostgres(t *testing.T) {
	t.Parallel()
	cfg, _ := withDatabase(t, "outbox.table=letters")
	control, c, err := ConnectPostgres(t.Context(), cfg)
	require.NoError(t, err)
	defer control.Close()
	assert.Equal(t, control.Config(), c)
	assert.Equal(t, "public.letters", c.Outboxes[0].Table)
	assert.Zero(t, c.LockTimeout, "a command holds no lock")
	server, err := control.Identify(t.Context())
	require.NoError(t, err)
	assert.Contains(t, c.DSN, server.Database)
}

// A DSN may be a file's content; what cannot be read is named by its key.
func TestDSNInAMissingFile(t *testing.T) {
	t.Parallel()
	file := "file:" + filepath.Join(t.TempDir(), "dsn")
	cfg := configured(t, "postgres.dsn="+file)
	_, _, err := ConnectPostgres(t.Context(), cfg)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	require.ErrorContains(t, err, "postgres.dsn: ")
	cfg = configured(t, "checkpoint.store=postgres", "checkpoint.postgres.dsn="+file)
	for name, open := range map[string]func() error{
		"open":   func() error { _, err := OpenCheckpointTable(t.Context(), cfg); return err },
		"exists": func() error { _, err := CheckpointTableExists(t.Context(), cfg); return err },
		"read":   func() error { _, err := StoredCheckpoints(t.Context(), cfg); return err },
	} {
		err := open()
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), name)
		assert.ErrorContains(t, err, "checkpoint.postgres.dsn: ", name)
	}
}

func TestConnectNowhere(t *testing.T) {
	t.Parallel()
	cfg := configured(t, "postgres.dsn=postgres://nobody@"+nowhere+"/none", "kafka.brokers="+nowhere)
	_, _, err := ConnectPostgres(t.Context(), cfg)
	require.ErrorContains(t, err, "connect to PostgreSQL")
	_, err = ConnectKafka(t.Context(), cfg)
	require.ErrorContains(t, err, "connect to Kafka at ["+nowhere+"]")
}

func TestConnectKafka(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t)
	client, err := ConnectKafka(t.Context(), configured(t, "kafka.brokers="+strings.Join(cluster.Brokers(), ",")))
	require.NoError(t, err)
	client.Close()
}

// A broker that accepts connections and says nothing is not waited for longer
// than the command may take.
func TestConnectToASilentBroker(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ConnectKafka(ctx, configured(t, "kafka.brokers="+silent.Addr().String()))
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, silent.Addr().String())
}

// The shards of a table are looked at over one connection.
func TestAsShard(t *testing.T) {
	t.Parallel()
	cfg, _ := withDatabase(t, "shard.count=2")
	control, _, err := ConnectPostgres(t.Context(), cfg)
	require.NoError(t, err)
	defer control.Close()
	other := AsShard(control, cfg.ForShard(1))
	assert.Same(t, control.Conn(), other.Conn())
	assert.True(t, strings.HasSuffix(other.SlotName(), "_1_of_2"), other.SlotName())
	assert.Equal(t, 1, other.Config().Shard.Index)
	assert.Equal(t, control.Config().DSN, other.Config().DSN)
}
