package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/pgsession"
)

// connectTimeout bounds the attempt at one address, so that a dead host does
// not use up the time for the next one. connect_timeout in the DSN takes
// precedence.
const connectTimeout = 10 * time.Second

// dsnKeys tells the operator where the DSN comes from.
const dsnKeys = "checkpoint.postgres.dsn (or postgres.dsn, where that is not set)"

func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgsession.Parse(dsn, dsnKeys)
	if err != nil {
		return nil, err
	}
	// A checkpoint that the server has not flushed would be none.
	pgsession.Pin(&config.Config, "synchronous_commit", "on")
	pgsession.Pin(&config.Config, "client_encoding", "UTF8")
	if _, ok := config.RuntimeParams["application_name"]; !ok {
		config.RuntimeParams["application_name"] = "streamer:checkpoint"
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	// One round trip for each statement, and nothing that a connection pooler
	// would have to remember.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	config.DialFunc = dialer.DialContext
	return config, nil
}

func connect(ctx context.Context, config *pgx.ConnConfig, login pgsession.Login) (*pgx.Conn, error) {
	config = config.Copy()
	if err := login.Use(ctx, &config.Config); err != nil {
		return nil, fmt.Errorf("log in to PostgreSQL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, login.Explain(err, dsnKeys)
	}
	return conn, nil
}

// code is the SQLSTATE of an error from the server, empty for every other
// error.
func code(err error) string {
	if sent, ok := errors.AsType[*pgconn.PgError](err); ok {
		return sent.Code
	}
	return ""
}
