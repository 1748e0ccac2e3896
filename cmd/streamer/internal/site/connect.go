package site

import (
	"context"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// AskTimeout bounds the questions that a command asks one server.
const AskTimeout = 15 * time.Second

// ConnectPostgres opens the SQL connection of the commands that ask the
// server, and returns the configuration it was opened with.
func ConnectPostgres(ctx context.Context, cfg config.Config) (*replication.Control, replication.Config, error) {
	return connectDatabase(ctx, cfg, cfg.Postgres.DSN, "postgres.dsn")
}

func connectDatabase(ctx context.Context, cfg config.Config, dsn config.DSN, key string) (*replication.Control, replication.Config, error) {
	c := ReplicationConfig(cfg)
	text, err := dsn.Reveal()
	if err != nil {
		return nil, c, failure.Misconfigure(fmt.Errorf("%s: %w", key, err))
	}
	c.DSN = text
	ctx, cancel := context.WithTimeout(ctx, 2*cfg.Postgres.ConnectTimeout)
	defer cancel()
	control, err := replication.Connect(ctx, c)
	return control, c, err
}

// AsShard asks with another shard's configuration, over the same connection.
func AsShard(control *replication.Control, cfg config.Config) *replication.Control {
	c := ReplicationConfig(cfg)
	c.DSN = control.Config().DSN
	return control.With(c)
}

// ConnectKafka makes sure that Kafka can be talked to. A broker that takes
// connections and answers nothing is not waited for as long as by a streamer.
func ConnectKafka(ctx context.Context, cfg config.Config) (*kafka.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	client, err := wait.Talk(ctx, func(context.Context) (*kafka.Client, error) { return kafka.Connect(ClientConfig(cfg)) }, (*kafka.Client).Close)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", cfg.Kafka.Brokers, err)
	}
	return client, err
}
