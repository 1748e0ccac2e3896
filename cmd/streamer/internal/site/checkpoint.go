package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// IdentityOf is whose checkpoint the configured slot has.
func IdentityOf(server replication.Server, cfg config.Config) checkpoint.Identity {
	return checkpoint.Identity{SystemID: server.SystemID, Database: server.Database, Slot: cfg.Postgres.Slot}
}

// LoadCheckpoint reads the stored record from whatever store and changes
// nothing: a store that does not exist is not created, a lock is not taken.
func LoadCheckpoint(ctx context.Context, cfg config.Config, id checkpoint.Identity) (checkpoint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	if cfg.Checkpoint.Store == config.StoreFile {
		return loadFile(cfg.Checkpoint.File.Path, id)
	}
	store, done, err := SharedStore(ctx, cfg)
	if err != nil {
		return checkpoint.Record{}, err
	}
	defer done()
	return store.Load(ctx, id)
}

// SharedStore opens a store that streamers share, without creating it.
func SharedStore(ctx context.Context, cfg config.Config) (store checkpoint.Store, done func(), err error) {
	if cfg.Checkpoint.Store == config.StorePostgres {
		found, err := CheckpointTableExists(ctx, cfg)
		if err != nil || !found {
			return nil, nil, missing(err, "table", cfg.Checkpoint.Postgres.Table)
		}
		table, err := OpenCheckpointTable(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return table, func() { _ = table.Close() }, nil
	}
	client, err := ConnectKafka(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	topic := kafka.NewCompactedTopic(client, cfg.Checkpoint.Kafka.Topic)
	if existing, err := client.Exist(topic.Name()); err != nil || len(existing) == 0 {
		client.Close()
		return nil, nil, missing(err, "topic", topic.Name())
	}
	return checkpoint.NewKafka(topic), client.Close, nil
}

func missing(err error, what, name string) error {
	if err != nil {
		return fmt.Errorf("checkpoint %s %q: %w", what, name, err)
	}
	return fmt.Errorf("%s %q does not exist: %w", what, name, checkpoint.ErrNone)
}

func loadFile(path string, id checkpoint.Identity) (checkpoint.Record, error) {
	stored, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint.Record{}, missing(nil, "file", path)
	}
	if err != nil {
		return checkpoint.Record{}, fmt.Errorf("load checkpoint: %w", err)
	}
	return checkpoint.Decode(stored, id, fmt.Sprintf("file %q", path))
}

// OpenCheckpointTable creates the table if it is missing.
func OpenCheckpointTable(ctx context.Context, cfg config.Config) (*checkpoint.PostgresStore, error) {
	dsn, err := cfg.CheckpointDSN().Reveal()
	if err != nil {
		return nil, failure.Misconfigure(fmt.Errorf("checkpoint.postgres.dsn: %w", err))
	}
	return checkpoint.OpenPostgres(ctx, dsn, cfg.Checkpoint.Postgres.Table)
}

// CheckpointTableExists asks the database of the checkpoint store.
func CheckpointTableExists(ctx context.Context, cfg config.Config) (bool, error) {
	control, _, err := connectDatabase(ctx, cfg, cfg.CheckpointDSN(), "checkpoint.postgres.dsn")
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
