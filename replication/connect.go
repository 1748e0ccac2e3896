package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

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
	// Outboxes are the outbox tables, or prefixes of messages; at least one.
	Outboxes []Outbox
	// Shard is the part of the table that is read.
	Shard Shard

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

// readsMessages reports whether logical decoding messages are wanted.
func (c Config) readsMessages() bool {
	return slices.ContainsFunc(c.Outboxes, func(o Outbox) bool { return o.Messages != "" })
}

// readsTables reports whether there are outbox tables.
func (c Config) readsTables() bool {
	return slices.ContainsFunc(c.Outboxes, func(o Outbox) bool { return o.Messages == "" })
}

// Outbox is an outbox table as it is configured.
type Outbox struct {
	// Messages is the prefix of messages that are read instead of a table. All other
	// fields are empty then, except for Entry.
	Messages string
	// Table is schema-qualified as in "public.outbox". In Config it may be a
	// pattern: see pgname.Table.IsPattern.
	Table string
	// Entry is the index of the entry in Config, and Pattern its pattern, empty if
	// it names the table.
	Entry   int
	Pattern string
	// Columns are the columns that must exist and be published. Documents are those
	// of them that must be able to hold JSON.
	Columns   []string
	Documents []string
	// Compatible are those of them that are written as Debezium writes them.
	Compatible Compatible
	// TimeColumn is the member of Columns that holds the time of an event, if any.
	// TimeUnit is the unit of times that are numbers, in microseconds; 0: a
	// millisecond.
	TimeColumn string
	TimeUnit   int64
	// AggregateID is the column by which rows are divided among shards.
	AggregateID string
	// ID is the column of the event ID, and Source the source of the events as far
	// as it is the same for all: an ID has to be unique within its source.
	ID, Source string
}

// connectionBuffer is the capacity for one read of the socket: what a server
// sends in a millisecond or two. Smaller buffers were slower, larger ones no
// faster.
const connectionBuffer = 256 << 10

// dsnKey is the configuration key of Config.DSN.
const dsnKey = "postgres.dsn"

func parse(ctx context.Context, c Config) (*pgx.ConnConfig, error) {
	config, err := pgsession.Parse(c.DSN, dsnKey)
	if err != nil {
		return nil, err
	}
	pgsession.Pin(&config.Config, "application_name", c.ApplicationName())
	pgsession.Unpin(&config.Config, "client_encoding")
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = c.ConnectTimeout
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	config.DialFunc = dialer.DialContext
	if err := c.Login.Use(ctx, &config.Config); err != nil {
		return nil, fmt.Errorf("log in to PostgreSQL: %w", err)
	}
	return config, nil
}

// Host is the first host that a connection string names, the PG* variables
// included.
func Host(dsn string) (string, error) {
	config, err := pgsession.Parse(dsn, dsnKey)
	if err != nil {
		return "", err
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

// connectSQL opens an ordinary connection for questions and for the lock.
func connectSQL(ctx context.Context, c Config) (*pgx.Conn, error) {
	config, err := parse(ctx, c)
	if err != nil {
		return nil, err
	}
	pgsession.Pin(&config.Config, "client_encoding", "UTF8")
	if c.LockTimeout > 0 {
		pgsession.Pin(&config.Config, "idle_session_timeout", fmt.Sprintf("%dms", c.LockTimeout.Milliseconds()))
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, c.Login.Explain(err, dsnKey)
	}
	return conn, nil
}

// connectReplication opens a walsender connection and the frames through which
// it is read. encoding is the database's.
func connectReplication(ctx context.Context, c Config, encoding string, notice pgconn.NoticeHandler) (*pgconn.PgConn, *frames, error) {
	config, err := parse(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	pgsession.Pin(&config.Config, "replication", "database")
	pinEncoding(&config.Config, encoding)
	pgsession.Pin(&config.Config, "wal_sender_timeout", fmt.Sprintf("%dms", c.SenderTimeout.Milliseconds()))
	return connectFrames(ctx, c, &config.Config, notice)
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
		if c.readsMessages() {
			in.passesOver = c.isForeignMessage
		}
		return pgproto3.NewFrontend(&handshake{frames: in}, w)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, nil, c.Login.Explain(err, dsnKey)
	}
	return conn, in, nil
}

// isTimeout distinguishes an expired read deadline from a broken connection.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
