package site

import (
	"context"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// IdentityOf returns the identity under which the checkpoint of the configured
// slot is stored.
func IdentityOf(server replication.Server, cfg config.Config) checkpoint.Identity {
	return pipeline.Identity(server, cfg.Postgres.Slot)
}

// LoadCheckpoint reads the stored record from the configured store and changes
// nothing.
func LoadCheckpoint(ctx context.Context, cfg config.Config, id checkpoint.Identity) (checkpoint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	store, err := StoredCheckpoints(ctx, cfg)
	if err != nil {
		return checkpoint.Record{}, err
	}
	defer store.Close()
	return store.Load(ctx, id)
}

// StoredCheckpoints opens the store for reading.
func StoredCheckpoints(ctx context.Context, cfg config.Config) (checkpoint.Reader, error) {
	return pipeline.OpenStored(ctx, checkpointConfig(cfg), func(ctx context.Context) (*kafka.Client, error) { return ConnectKafka(ctx, cfg) })
}

// OpenCheckpointTable opens the checkpoint table and creates it if it is
// missing.
func OpenCheckpointTable(ctx context.Context, cfg config.Config) (*checkpoint.PostgresStore, error) {
	return pipeline.OpenTable(ctx, checkpointConfig(cfg))
}

// CheckpointTableExists reports whether the database of the checkpoint store
// has the table.
func CheckpointTableExists(ctx context.Context, cfg config.Config) (bool, error) {
	control, _, err := connectDatabase(ctx, cfg, cfg.CheckpointDSN(), cfg.CheckpointAuth(), "checkpoint.postgres.dsn")
	if err != nil {
		return false, err
	}
	defer control.Close()
	return control.TableExists(ctx, cfg.Checkpoint.Postgres.Table)
}

// CheckpointPlace says where the record is kept.
func CheckpointPlace(cfg config.Config) string {
	c := cfg.Checkpoint
	switch c.Store {
	case config.StoreFile:
		return "file " + c.File.Path
	case config.StorePostgres:
		return "table " + c.Postgres.Table
	}
	return "topic " + c.Kafka.Topic
}
