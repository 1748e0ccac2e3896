package checkpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// connectTimeout bounds the attempt at one address, so that a dead host does
// not use up the time for the next one. connect_timeout in the DSN takes
// precedence.
const connectTimeout = 10 * time.Second

// dsnKeys tells the operator where the DSN comes from.
const dsnKeys = "checkpoint.postgres.dsn, or postgres.dsn where that is not set"

func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The error quotes parts of the DSN, including parts of an unescaped
		// password. Without the error it is impossible to say which part is wrong.
		return nil, failure.Misconfigure(failure.Advise(
			errors.New("connection string is not valid"),
			"write postgres://user:password@host:5432/database with special characters of the password percent-encoded, "+
				"or key=value pairs, in %s", dsnKeys,
		))
	}
	pgsession.Set(&config.Config)
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
	if refusal := code(err); login != nil && (refusal == wrongPassword || refusal == notAuthorised) {
		return nil, failure.Misconfigure(failure.Advise(fmt.Errorf("connect to PostgreSQL: the server refuses the token: %w", errors.Unwrap(err)),
			pgsession.Remedy))
	}
	if err != nil {
		return nil, explainConnect(err)
	}
	return conn, nil
}

const (
	wrongPassword     = "28P01"
	notAuthorised     = "28000"
	undefinedDatabase = "3D000"
)

// explainConnect adds the remedy where retrying cannot help.
func explainConnect(err error) error {
	// The outer error lists user and database; the inner one says what is wrong.
	if outer, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = errors.Unwrap(outer)
	}
	err = fmt.Errorf("connect to PostgreSQL: %w", err)
	switch code(err) {
	case wrongPassword, notAuthorised:
		return failure.Misconfigure(failure.Advise(err, "check user and password (%s) and the server's pg_hba.conf", dsnKeys))
	case undefinedDatabase:
		return failure.Misconfigure(failure.Advise(err, "name an existing database (%s)", dsnKeys))
	case insufficientPrivilege:
		return failure.Refuse(failure.Advise(err, "GRANT CONNECT on the database to the streamer's user"))
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failure.Misconfigure(failure.Advise(err, "check sslrootcert and sslmode (%s)", dsnKeys))
	}
	return err
}

// code is the SQLSTATE of an error from the server, empty for every other
// error.
func code(err error) string {
	if sent, ok := errors.AsType[*pgconn.PgError](err); ok {
		return sent.Code
	}
	return ""
}
