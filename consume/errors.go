package consume

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unavailable marks an error: not the event is the matter, but something that the
// handler needs and that is down. No attempt is counted. Everything waits, and
// one event at a time is tried until the error is gone.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &unavailable{err}
}

type unavailable struct{ error }

func (u *unavailable) Unwrap() error { return u.error }

// Unhandleable marks an error: trying again is of no use. The key is parked at once.
func Unhandleable(err error) error {
	if err == nil {
		return nil
	}
	return &unhandleable{err}
}

type unhandleable struct{ error }

func (u *unhandleable) Unwrap() error { return u.error }

// Advice is an error that says what to do about it.
type Advice struct {
	Err    error
	Remedy string
}

func (a *Advice) Error() string { return a.Err.Error() + "\nfix: " + a.Remedy }

// Unwrap returns the error without its remedy.
func (a *Advice) Unwrap() error { return a.Err }

func advise(remedy, format string, arguments ...any) error {
	return &Advice{Err: fmt.Errorf(format, arguments...), Remedy: remedy}
}

// nature is what an error says about what to do next.
type nature int

const (
	ofEvent   nature = iota // try again, and park the key in the end
	hopeless                // park the key now
	passing                 // two transactions were in each other's way: try again, without counting
	outage                  // wait until it works again
	ofSetup                 // nothing can be handled before somebody has changed something
	cancelled               // the consumer is stopping
)

// natureOf tells errors of a transaction apart. A lost connection says nothing
// about whether the transaction is committed. The claims will tell.
func natureOf(ctx context.Context, err error) nature {
	if ctx.Err() != nil {
		return cancelled
	}
	if _, marked := errors.AsType[*unavailable](err); marked {
		return outage
	}
	if _, marked := errors.AsType[*unhandleable](err); marked {
		return hopeless
	}
	if errors.Is(err, errHandlerEnded) {
		return ofSetup
	}
	if state := sqlState(err); state != "" {
		return natureOfState(state)
	}
	if isConnection(err) {
		return outage
	}
	return ofEvent
}

// natureOfState judges by PostgreSQL's error codes (its documentation, appendix A).
func natureOfState(state string) nature {
	switch {
	case state == "40001", state == "40P01": // serialization_failure, deadlock_detected
		return passing
	case strings.HasPrefix(state, "08"), strings.HasPrefix(state, "53"), strings.HasPrefix(state, "57P"), // connection, resources, shutdown
		state == "55006", state == "25006", state == "58030": // in use, read-only: a standby, I/O
		return outage
	case strings.HasPrefix(state, "28"), state == "3D000": // password, database
		return outage // as when a secret is renewed
	case strings.HasPrefix(state, "ZI"):
		return ofSetup
	}
	return ofEvent
}

func isConnection(err error) bool {
	if _, failed := errors.AsType[*pgconn.ConnectError](err); failed {
		return true
	}
	if _, failed := errors.AsType[net.Error](err); failed {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// explain adds the remedy to errors of the inbox's own statements.
func explain(err error) error {
	switch state := sqlState(err); state {
	case "42P01", "3F000", "42883", "42703": // table, schema, function, column
		return advise("create the inbox in this database: `go run github.com/outboxstream/streamer/consume/cmd/inbox schema | psql …`, or run consume.Schema with your migrations",
			"the inbox is missing: %w", err)
	case "42501":
		return advise("grant usage on schema inbox, select, insert, update and delete on its tables, and execute on its functions to this role",
			"the role may not use the inbox: %w", err)
	}
	if failed, found := errors.AsType[*pgconn.PgError](err); found && failed.Hint != "" && strings.HasPrefix(failed.Code, "ZI") {
		return &Advice{Err: errors.New(failed.Message), Remedy: failed.Hint}
	}
	return err
}
