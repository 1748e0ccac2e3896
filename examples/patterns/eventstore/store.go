package eventstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Schema creates the event store.
//
//go:embed schema.sql
var Schema string

// errConflict says that somebody else has appended in the meantime.
var errConflict = errors.New("the stream has a newer version")

// read folds a stream.
func read(ctx context.Context, pool *pgxpool.Pool, stream string) (a Account, err error) {
	rows, err := pool.Query(ctx, "select type, data from events where stream_id = $1 order by version", stream)
	if err != nil {
		return Account{}, fmt.Errorf("read stream %s: %w", stream, err)
	}
	var eventType string
	var by Amount
	_, err = pgx.ForEachRow(rows, []any{&eventType, &by}, func() error { return a.apply(eventType, by) })
	if err != nil {
		return Account{}, fmt.Errorf("read stream %s: %w", stream, err)
	}
	return a, nil
}

// metadata is who asked for an event. The preset publishes the correlation ID.
type metadata struct {
	Command  string `json:"correlation_id"`
	Attempts int    `json:"attempts"`
}

// appendTo adds the event that follows a state. It reports false if the command
// has had its effect before.
func appendTo(
	ctx context.Context, pool *pgxpool.Pool, stream string, after Account, eventType string, by Amount, m metadata,
) (fresh bool, err error) {
	_, err = pool.Exec(ctx, "insert into events (stream_id, version, type, data, metadata) values ($1, $2, $3, $4, $5)",
		stream, after.Version+1, eventType, by, m)
	const uniqueViolation = "23505"
	failed, found := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return true, nil
	case found && failed.Code == uniqueViolation && failed.ConstraintName == "command":
		return false, nil
	case found && failed.Code == uniqueViolation:
		return false, errConflict
	}
	return false, fmt.Errorf("append version %d to stream %s: %w", after.Version+1, stream, err)
}
