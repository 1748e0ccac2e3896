package replication

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// Config says which slot of which database to stream and how.
type Config struct {
	// DSN is a libpq URL or key=value string. The usual PG* variables fill in what
	// it leaves out. It may hold a password and is never logged.
	DSN string
	// Login gives the password of each connection; nil: the DSN does.
	Login       pgsession.Login
	Slot        string
	Publication string
	// Table is the outbox table, schema-qualified as in "public.outbox".
	Table string
	// TimeColumn is the member of Columns that holds the time of an event, if any.
	TimeColumn string
	// Shard is the part of the table that is read.
	Shard Shard
	// Columns are the columns of Table that must exist and be published.
	Columns []string

	ConnectTimeout time.Duration
	// LockTimeout is idle_session_timeout on the SQL connection, which holds the
	// lock. The server ends the session, and frees the lock, after an idle time of
	// LockTimeout. 0 means never.
	LockTimeout time.Duration
	// SenderTimeout is wal_sender_timeout on the streamer's own connection. It is
	// how long the server tolerates a silent client, and how long the streamer
	// tolerates a silent server.
	SenderTimeout time.Duration
	// MaxRow bounds one message of the stream, in bytes.
	MaxRow int
	// BulkReads makes the streaming connection wake its reader less often than the
	// server sends; see bulkConn.
	BulkReads bool
	// Binary asks for column values in PostgreSQL's binary format.
	Binary bool
}

// connectionBuffer is the capacity for one read of the socket: what a server
// sends in a millisecond or two. Smaller buffers were slower, larger ones no
// faster.
const connectionBuffer = 256 << 10

func parse(ctx context.Context, c Config) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(c.DSN)
	if err != nil {
		return nil, invalidDSN(err)
	}
	pgsession.Set(config)
	pgsession.Pin(config, "application_name", c.ApplicationName())
	pgsession.Unpin(config, "client_encoding")
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = c.ConnectTimeout
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	config.DialFunc = dialer.DialContext
	if err := c.Login.Use(ctx, config); err != nil {
		return nil, fmt.Errorf("log in to PostgreSQL: %w", err)
	}
	return config, nil
}

// Host is the first host that a connection string names, the PG* variables
// included.
func Host(dsn string) (string, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", invalidDSN(err)
	}
	return config.Host, nil
}

// ApplicationName is the name of the streamer's connections in
// pg_stat_activity. It includes the slot's name so that it cannot be mistaken
// for a synchronous standby.
func (c Config) ApplicationName() string {
	name := "streamer:" + c.Slot
	return name[:min(len(name), longestName)]
}

func invalidDSN(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok { // of sslrootcert, sslcert or sslkey
		return failure.Misconfigure(fmt.Errorf("postgres.dsn names a file that cannot be read: %w", file))
	}
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("postgres.dsn is not a valid connection string (%s)", reason(err)),
		"write postgres://user:password@host:5432/database or key=value pairs",
	))
}

// reason extracts the innermost cause of a connection string error, which names
// the invalid part. It drops everything that the error quotes: in a string that
// cannot be parsed, any piece may belong to a password.
func reason(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	text := err.Error()
	for _, quote := range []string{"`", `"`} {
		first, last := strings.Index(text, quote), strings.LastIndex(text, quote)
		if first < last {
			text = text[:first] + "…" + text[last+len(quote):]
		}
	}
	return text
}

// connectSQL opens an ordinary connection for questions and for the lock.
func connectSQL(ctx context.Context, c Config) (*pgx.Conn, error) {
	parsed, err := parse(ctx, c)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, invalidDSN(err)
	}
	config.Config = *parsed
	pgsession.Pin(&config.Config, "client_encoding", "UTF8")
	if c.LockTimeout > 0 {
		pgsession.Pin(&config.Config, "idle_session_timeout", fmt.Sprintf("%dms", c.LockTimeout.Milliseconds()))
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, explainConnect(c, err)
	}
	return conn, nil
}

// pinEncoding asks for UTF-8, except for a SQL_ASCII database: such a database
// cannot convert, and one invalid byte would wedge the slot for ever (P-33).
func pinEncoding(config *pgconn.Config, encoding string) {
	if encoding != "SQL_ASCII" {
		pgsession.Pin(config, "client_encoding", "UTF8")
	}
}

// connectReplication opens a walsender connection and the frames through which
// it is read. The encoding is the database's.
func connectReplication(ctx context.Context, c Config, encoding string, notice pgconn.NoticeHandler) (*pgconn.PgConn, *frames, error) {
	config, err := parse(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	pgsession.Pin(config, "replication", "database")
	pinEncoding(config, encoding)
	pgsession.Pin(config, "wal_sender_timeout", fmt.Sprintf("%dms", c.SenderTimeout.Milliseconds()))
	return connectFrames(ctx, c, config, notice)
}

// connectFrames opens a connection that is read through frames.
func connectFrames(ctx context.Context, c Config, config *pgconn.Config, notice pgconn.NoticeHandler) (*pgconn.PgConn, *frames, error) {
	config.OnNotice = notice
	if dial := config.DialFunc; c.BulkReads {
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return readInBulk(conn, config.RuntimeParams["replication"] == "")
		}
	}
	var in *frames
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		in = newFrames(r, connectionBuffer, c.MaxRow+messageOverhead)
		return pgproto3.NewFrontend(&handshake{frames: in}, w)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, nil, explainConnect(c, err)
	}
	return conn, in, nil
}

// explainConnect turns the error of a connection attempt into one sentence with
// a remedy, and decides whether retrying can help.
func explainConnect(c Config, err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if err := explainLogin(c, pgErr); err != nil {
			return err
		}
		return explainServer(pgErr)
	}
	if unknown, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("connect to PostgreSQL: the server did not answer with TLS: %w", unknown),
			"check sslmode in postgres.dsn",
		))
	}
	if invalid := certificateError(err); invalid != nil {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("connect to PostgreSQL: server certificate not accepted: %w", invalid),
			"check sslrootcert and sslmode in postgres.dsn",
		))
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return failure.Misconfigure(
			failure.Advise(
				errors.New("connect to PostgreSQL: the server does not offer TLS"),
				"enable ssl on the server, or lower sslmode in postgres.dsn",
			),
		)
	}
	return fmt.Errorf("connect to PostgreSQL: %w", shortConnectError(err))
}

// certificateError finds why the server's certificate was not accepted. With
// sslmode=verify-ca pgconn does the verification and does not wrap its errors.
func certificateError(err error) error {
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return invalid
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknown
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return invalid
	}
	return nil
}

// shortConnectError drops the user and database from pgconn's error. It keeps
// the addresses that were tried and why each failed.
func shortConnectError(err error) error {
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if inner := errors.Unwrap(connect); inner != nil {
			return inner
		}
	}
	return err
}

// explainLogin explains why a server refuses a password that a cloud has issued.
// It returns nil for everything else.
func explainLogin(c Config, err *pgconn.PgError) error {
	if c.Login == nil || err.Code != "28P01" && err.Code != "28000" {
		return nil
	}
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("connect to PostgreSQL: the server refuses the token: %s (SQLSTATE %s)", err.Message, err.Code),
		pgsession.Remedy,
	))
}

// explainServer explains an error that the server sent during connection
// set-up.
func explainServer(err *pgconn.PgError) error {
	described := fmt.Errorf("connect to PostgreSQL: %s (SQLSTATE %s)", err.Message, err.Code)
	advise := func(remedy string) error { return failure.Advise(described, "%s", remedy) }
	switch err.Code {
	case "28P01":
		return failure.Misconfigure(advise("check user and password in postgres.dsn or PGPASSWORD"))
	case "28000":
		if strings.Contains(err.Message, "replication") {
			return failure.Refuse(advise("add a line for this user to pg_hba.conf, and ALTER ROLE … REPLICATION"))
		}
		return failure.Misconfigure(advise("check user, sslmode and the server's pg_hba.conf"))
	case "3D000":
		return failure.Misconfigure(advise("name an existing database in postgres.dsn"))
	case "42501":
		if strings.Contains(err.Message, "permission denied for database") {
			return failure.Refuse(advise("GRANT CONNECT ON DATABASE … TO this user"))
		}
		return failure.Refuse(advise("grant it with ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	case "53300":
		return advise("raise max_wal_senders or max_connections, or stop another client")
	case "22023", "42704":
		return failure.Misconfigure(advise("remove the unknown parameter from postgres.dsn"))
	}
	return described
}

// isTimeout distinguishes an expired read deadline from a broken connection.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
