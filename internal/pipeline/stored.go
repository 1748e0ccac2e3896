package pipeline

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/router/kafka"
)

// OpenStored opens the checkpoint store for reading, and changes nothing. It
// creates nothing that does not exist, takes no lock and claims no record. If
// there is no store, its reader or this function returns checkpoint.ErrNone.
// connect is called if the store is a topic.
func OpenStored(ctx context.Context, c CheckpointConfig, connect func(context.Context) (*kafka.Client, error)) (checkpoint.Reader, error) {
	return openStored(ctx, c, func() (cluster, error) { return connectedOr(connect(ctx)) }, openReadOnly)
}

// openStored connects to Kafka, or opens a store that is not a topic.
func openStored(
	ctx context.Context, c CheckpointConfig, connect func() (cluster, error),
	open func(context.Context, CheckpointConfig) (checkpoint.Reader, error),
) (checkpoint.Reader, error) {
	if c.Store != "kafka" {
		return open(ctx, c)
	}
	client, err := connect()
	if err != nil {
		return nil, err
	}
	existing, err := client.Exist(ctx, c.Topic)
	switch {
	case err != nil:
		err = fmt.Errorf("checkpoint topic %q: %w", c.Topic, err)
	case len(existing) == 0:
		err = fmt.Errorf("topic %q does not exist: %w", c.Topic, checkpoint.ErrNone)
	default:
		return storedTopic{checkpoint.NewKafka(client.Compacted(c.Topic)), client}, nil
	}
	client.Close()
	return nil, err
}

// storedTopic closes its connection, which it owns.
type storedTopic struct {
	*checkpoint.KafkaStore
	cluster cluster
}

func (s storedTopic) Close() error {
	s.cluster.Close()
	return nil
}

func openReadOnly(ctx context.Context, c CheckpointConfig) (checkpoint.Reader, error) {
	if c.Store == "file" {
		return checkpoint.FileReader(c.Path), nil
	}
	dsn, err := c.reveal(ctx)
	if err != nil {
		return nil, err
	}
	store, err := checkpoint.ReadPostgres(dsn, c.Login, c.Table)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// OpenTable opens the checkpoint table and creates it if it is missing.
func OpenTable(ctx context.Context, c CheckpointConfig) (*checkpoint.PostgresStore, error) {
	dsn, err := c.reveal(ctx)
	if err != nil {
		return nil, err
	}
	return checkpoint.OpenPostgres(ctx, dsn, c.Login, c.Table)
}

// reveal returns the connection string of the table's database.
func (c CheckpointConfig) reveal(ctx context.Context) (string, error) {
	dsn, err := c.DSN(ctx)
	if err != nil {
		return "", fmt.Errorf("checkpoint.postgres.dsn: %w", err)
	}
	return dsn, nil
}
