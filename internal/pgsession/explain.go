package pgsession

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outboxstream/streamer/internal/failure"
)

// Messages of a server are in its own language (lc_messages), which a client
// cannot choose before it is logged in and only a superuser afterwards. So they
// are told apart by SQLSTATE, and where one SQLSTATE has several meanings, by
// the name of the server's function that raised the error.
const (
	authenticating  = "ClientAuthentication"
	findingRole     = "InitializeSessionUserId"
	findingDatabase = "CheckMyDatabase"
)

// Explain turns the error of a connection attempt into one sentence with a
// remedy, and decides whether retrying can help. key names the connection
// string's key in the configuration.
func Explain(err error, key string) error {
	if sent, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explainServer(sent, ofWalsender(err), key)
	}
	if errors.Is(err, ErrSettingsLost) {
		return failure.Misconfigure(failure.Advise(fmt.Errorf("connect to PostgreSQL: %w", ErrSettingsLost), "%s", DirectRemedy(key)))
	}
	if unknown, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("connect to PostgreSQL: the server did not answer with TLS: %w", unknown), "check sslmode in %s", key,
		))
	}
	if refused := certificateError(err); refused != nil {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("connect to PostgreSQL: server certificate not accepted: %w", refused), "check sslrootcert and sslmode in %s", key,
		))
	}
	// The words are pgconn's own, which has no type for this; a test keeps watch.
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return failure.Misconfigure(failure.Advise(
			errors.New("connect to PostgreSQL: the server does not offer TLS"), "enable ssl on the server, or lower sslmode in %s", key,
		))
	}
	return fmt.Errorf("connect to PostgreSQL: %w", withoutUser(err))
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

// withoutUser drops the user and database from pgconn's error. It keeps the
// addresses that were tried and why each failed.
func withoutUser(err error) error {
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if inner := errors.Unwrap(connect); inner != nil {
			return inner
		}
	}
	return err
}

func ofWalsender(err error) bool {
	connect, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok && connect.Config.RuntimeParams["replication"] != ""
}

// explainServer explains an error that the server sent during connection
// set-up.
func explainServer(sent *pgconn.PgError, walsender bool, key string) error {
	described := fmt.Errorf("connect to PostgreSQL: %s (SQLSTATE %s)", printable(sent.Message), sent.Code)
	advise := func(remedy string, arguments ...any) error { return failure.Advise(described, remedy, arguments...) }
	if Pooled(sent) {
		return explainPooler(sent, described, key)
	}
	switch sent.Code {
	case "28P01":
		return failure.Misconfigure(advise("check user and password in %s or PGPASSWORD", key))
	case "28000":
		if sent.Routine == authenticating {
			return failure.Misconfigure(advise("add a line for this user and database to the server's pg_hba.conf, or check sslmode in %s", key))
		}
		return failure.Misconfigure(advise("name a user with LOGIN in %s, and check sslmode and the server's pg_hba.conf", key))
	case "3D000":
		return failure.Misconfigure(advise("name an existing database in %s", key))
	case "42501":
		if sent.Routine == findingDatabase {
			return failure.Refuse(advise("GRANT CONNECT ON DATABASE … TO this user"))
		}
		return failure.Refuse(advise("grant it with ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)"))
	case "53300":
		return advise("%s", moreConnections(sent, walsender))
	case "22023", "42704":
		return failure.Misconfigure(advise("remove the unknown parameter from %s", key))
	}
	return described
}

// moreConnections says which of the limits on connections was reached.
func moreConnections(sent *pgconn.PgError, walsender bool) string {
	switch {
	case sent.Routine == findingRole:
		return "ALTER ROLE … CONNECTION LIMIT -1 (no limit) or higher, or stop another client of this user"
	case sent.Routine == findingDatabase:
		return "ALTER DATABASE … CONNECTION LIMIT -1 (no limit) or higher, or stop another client of this database"
	case walsender:
		return "raise max_wal_senders and restart PostgreSQL, or stop another replication client (SELECT * FROM pg_stat_replication)"
	}
	return "raise max_connections and restart PostgreSQL, or stop another client (SELECT * FROM pg_stat_activity)"
}

// Pooled reports whether a connection pooler or proxy sent the error. All that
// PostgreSQL sends names the place in its source where it was raised; PgBouncer
// (send_pooler_error), Pgpool-II and cloud poolers have none to name.
func Pooled(sent *pgconn.PgError) bool { return sent.Routine == "" && sent.File == "" }

// DirectRemedy is the way out where a pooler was named instead of the server.
func DirectRemedy(key string) string {
	return "name the PostgreSQL server itself, with its own host and port, in " + key + ", not a pooler such as PgBouncer, Pgpool-II or " +
		"RDS Proxy (docs/how-to/managed-postgresql.md)"
}

// explainPooler explains what a pooler answers. A protocol violation (08P01) is
// PgBouncer's word for every parameter that it does not pass on, and for most
// other refusals; cloud poolers call it an unsupported feature (0A000).
func explainPooler(sent *pgconn.PgError, described error, key string) error {
	err := failure.Advise(fmt.Errorf("%w: a connection pooler or proxy answered, not PostgreSQL", described), "%s", DirectRemedy(key))
	switch sent.Code {
	case "08P01", "0A000", "28000", "28P01", "3D000", "22023", "42704":
		return failure.Misconfigure(err)
	}
	return err
}

// printable is a message in the server's encoding, which is not always UTF-8
// before a session has settings.
func printable(message string) string { return strings.ToValidUTF8(message, "?") }
