package shop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	applicationName = "shop"

	// A server can be restarted within patience. A longer absence is for the
	// operator to look at.
	patience      = 30 * time.Second
	redialEvery   = 200 * time.Millisecond
	hangUpLimit   = 5 * time.Second
	connectLimit  = 10 * time.Second
	activityLimit = 30 * time.Second
)

func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("shop DSN: %w", err) // pgx leaves the password out
	}
	if _, set := config.RuntimeParams["application_name"]; !set {
		config.RuntimeParams["application_name"] = applicationName
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectLimit
	}
	return config, nil
}

// ensureConnected dials if there is no usable connection. The first time it
// tries once, because a mistake in the DSN is most likely then. Later it keeps
// trying, because the server has been reachable before.
func (c *clerk) ensureConnected(ctx context.Context) error {
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	first := c.conn == nil
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	retry := time.NewTicker(redialEvery)
	defer retry.Stop()
	for {
		conn, err := pgx.ConnectConfig(ctx, c.connConfig)
		if err == nil {
			c.conn = conn
			return nil
		}
		if first || permanent(err) {
			return fmt.Errorf("connect the shop to PostgreSQL: %w", err)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("connect the shop to PostgreSQL again: %w", err)
		}
	}
}

// hangUp closes the connection, even if ctx has ended.
func (c *clerk) hangUp(ctx context.Context) error {
	if c.conn == nil || c.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpLimit)
	defer cancel()
	if err := c.conn.Close(ctx); err != nil {
		return fmt.Errorf("close the shop's connection: %w", err)
	}
	return nil
}

// curable reports whether the server refused something that it will allow
// another time.
func curable(err error) bool {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch refusal.Code[:2] {
	case "08", // connection exception
		"40", // deadlock, serialization failure
		"53", // too many connections, out of memory
		"55", // lock not available
		"57": // statement cancelled, server shutting down or starting up
		return true
	default:
		return false
	}
}

// permanent reports whether the server itself refused, for a reason that stays.
func permanent(err error) bool {
	_, refused := errors.AsType[*pgconn.PgError](err)
	return refused && !curable(err)
}

// CheckHealth returns nil if a shop that uses the same DSN has worked in the
// last 30 seconds. It is meant for the health check of a container.
func CheckHealth(ctx context.Context, dsn string) error {
	config, err := parseDSN(dsn)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	// A role can always see the activity of its own sessions.
	var active bool
	err = conn.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM pg_stat_activity
			WHERE application_name = current_setting('application_name') AND datname = current_database()
			AND pid <> pg_backend_pid() AND state_change > now() - $1::interval)`, activityLimit).Scan(&active)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("look for sessions of the shop: %w", err)
	}
	if !active {
		return fmt.Errorf("no session of the shop was active in the last %s", activityLimit)
	}
	return nil
}
