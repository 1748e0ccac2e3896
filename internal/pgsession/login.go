package pgsession

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/failure"
)

// Login returns the password for one connection to host and port. It is asked
// for each connection, because such passwords are valid for minutes. A nil Login
// leaves the password to the connection string.
type Login func(ctx context.Context, host string, port uint16, user string) (password string, err error)

// Remedy is what to do when a server refuses a Login's password.
const Remedy = "GRANT rds_iam TO the user, allow the AWS identity rds-db:connect as that user, " +
	"name the server's own endpoint in the connection string, and set rds.iam_auth_for_replication = 1; " +
	"`streamer doctor` shows the identity and the clock"

// Explain is the function [Explain], and names the token where a server refuses
// it.
func (l Login) Explain(err error, key string) error {
	if sent, ok := errors.AsType[*pgconn.PgError](err); ok && l != nil && (sent.Code == "28P01" || sent.Code == "28000") {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("connect to PostgreSQL: the server refuses the token: %s (SQLSTATE %s)", printable(sent.Message), sent.Code), Remedy,
		))
	}
	return Explain(err, key)
}

// Use puts a fresh password into a configuration that is about to be used. The
// server asks for it in clear, so only addresses with TLS stay. The password is
// for one host, so there may be only one.
func (l Login) Use(ctx context.Context, config *pgconn.Config) error {
	if l == nil {
		return nil
	}
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	var encrypted []*pgconn.FallbackConfig
	for _, address := range all {
		if address.Host != config.Host || address.Port != config.Port {
			return failure.Misconfigure(failure.Advise(errors.New("connection string names several hosts, but a token is for one"),
				"name one host: the writer endpoint"))
		}
		if address.TLSConfig != nil {
			encrypted = append(encrypted, address)
		}
	}
	if len(encrypted) == 0 {
		return failure.Misconfigure(failure.Advise(errors.New("connection string switches off TLS, but the token is sent in clear"),
			"set sslmode=verify-full and sslrootcert"))
	}
	config.TLSConfig, config.Fallbacks = encrypted[0].TLSConfig, encrypted[1:]
	password, err := l(ctx, config.Host, config.Port, config.User)
	if err != nil {
		return err
	}
	config.Password = password
	return nil
}
