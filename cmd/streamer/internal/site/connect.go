package site

import (
	"context"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/wait"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// AskTimeout bounds the queries that a command sends to one server.
const AskTimeout = 15 * time.Second

// ConnectPostgres opens the SQL connection for commands that query the server.
// It also returns the configuration of that connection.
func ConnectPostgres(ctx context.Context, cfg config.Config) (*replication.Control, replication.Config, error) {
	return connectDatabase(ctx, cfg, cfg.Postgres.DSN, cfg.Postgres.Auth, "postgres.dsn")
}

func connectDatabase(
	ctx context.Context, cfg config.Config, dsn config.DSN, auth, key string,
) (*replication.Control, replication.Config, error) {
	c := ReplicationConfig(cfg)
	text, err := dsn.Reveal(ctx)
	if err != nil {
		return nil, c, fmt.Errorf("%s: %w", key, err)
	}
	c.DSN, c.Login = text, login(cfg, auth)
	ctx, cancel := context.WithTimeout(ctx, 2*cfg.Postgres.ConnectTimeout)
	defer cancel()
	control, err := replication.Connect(ctx, c)
	return control, c, err
}

// AsShard returns a control with another shard's configuration, over the same
// connection.
func AsShard(control *replication.Control, cfg config.Config) *replication.Control {
	c := ReplicationConfig(cfg)
	c.DSN, c.Login = control.Config().DSN, control.Config().Login
	return control.With(c)
}

// ConnectKafka connects to Kafka and checks that Kafka answers. If a broker
// accepts connections but does not answer, a command gives up sooner than a
// running streamer.
func ConnectKafka(ctx context.Context, cfg config.Config) (*kafka.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	client, err := wait.Talk(ctx, func(context.Context) (*kafka.Client, error) {
		return kafka.Connect(ClientConfig(cfg)) //nolint:contextcheck // it has limits of its own, as sarama has
	}, (*kafka.Client).Close)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", cfg.Kafka.Brokers, err)
	}
	return client, err
}
