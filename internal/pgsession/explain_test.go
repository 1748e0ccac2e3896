package pgsession_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// connect opens and closes a connection, and returns the explained error.
func connect(t *testing.T, dsn string, walsender bool) error {
	t.Helper()
	config, err := pgsession.Parse(dsn, "postgres.dsn")
	if err != nil {
		return err
	}
	if walsender {
		pgsession.Pin(&config.Config, "replication", "database")
	}
	conn, err := pgconn.ConnectConfig(t.Context(), &config.Config)
	if err != nil {
		return pgsession.Explain(err, "postgres.dsn")
	}
	return conn.Close(t.Context())
}

// Refused connections are told apart whatever the server's language, on every
// supported version.
func TestExplainInAnyLanguage(t *testing.T) {
	t.Parallel()
	for _, version := range testserver.Ends("14", "15", "16", "17", "18") {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("downloads and starts servers")
			}
			explainInAnyLanguage(t, pgtest.New(t, pgtest.Options{Version: version, Settings: map[string]string{
				"max_wal_senders": "1", "max_replication_slots": "4", "superuser_reserved_connections": "1", "max_connections": "9",
			}}))
		})
	}
}

func explainInAnyLanguage(t *testing.T, server *pgtest.Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, statement := range []string{
		"CREATE ROLE plain LOGIN", "CREATE ROLE nologin", "CREATE ROLE limited LOGIN CONNECTION LIMIT 0",
		"CREATE DATABASE limited CONNECTION LIMIT 0", "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM public",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	foreign := pgtest.Foreign(t, server.DSN("postgres"))
	dsn := func(user, database string) string {
		return strings.NewReplacer("//postgres@", "//"+user+"@", "/postgres?", "/"+database+"?").Replace(foreign)
	}
	for name, test := range map[string]struct {
		dsn       string
		walsender bool
		remedy    string
		class     failure.Class
	}{
		"no LOGIN":               {dsn("nologin", "postgres"), false, "LOGIN", failure.Misconfigured},
		"no database":            {dsn("plain", "nowhere"), false, "name an existing database", failure.Misconfigured},
		"no CONNECT":             {dsn("plain", "closed"), false, "GRANT CONNECT", failure.Refused},
		"role's limit":           {dsn("limited", "postgres"), false, "ALTER ROLE … CONNECTION LIMIT", failure.Transient},
		"database's limit":       {dsn("plain", "limited"), false, "ALTER DATABASE … CONNECTION LIMIT", failure.Transient},
		"no REPLICATION":         {dsn("plain", "postgres"), true, "ALTER ROLE … REPLICATION", failure.Refused},
		"a parameter unheard of": {dsn("plain", "postgres") + "&work_mom=1", false, "unknown parameter", failure.Misconfigured},
	} {
		err := connect(t, test.dsn, test.walsender)
		require.ErrorContains(t, err, "connect to PostgreSQL: übersetzt", name)
		assert.Contains(t, failure.Fix(err), test.remedy, name)
		assert.Equal(t, test.class, failure.ClassOf(err), name)
	}
	require.NoError(t, connect(t, dsn("plain", "postgres"), false))
	exhaust(t, server, dsn("postgres", "postgres"), true, "max_wal_senders")
	exhaust(t, server, dsn("plain", "postgres"), false, "max_connections")
}

// exhaust opens connections until the server has no more.
func exhaust(t *testing.T, server *pgtest.Server, foreign string, walsender bool, remedy string) {
	t.Helper()
	more := ""
	if walsender {
		more = "&replication=database"
	}
	for range 20 {
		holder, err := pgconn.Connect(t.Context(), server.DSN("postgres")+more)
		if err != nil {
			break
		}
		defer holder.Close(t.Context())
	}
	err := connect(t, foreign, walsender)
	require.ErrorContains(t, err, "SQLSTATE 53300")
	assert.Contains(t, failure.Fix(err), remedy)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code, routine string
		class         failure.Class
		remedy        string
	}{
		{"28P01", "auth_failed", failure.Misconfigured, "PGPASSWORD"},
		{"28000", "ClientAuthentication", failure.Misconfigured, "pg_hba.conf"},
		{"28000", "InitializeSessionUserId", failure.Misconfigured, "LOGIN"},
		{"22023", "parse_and_validate_value", failure.Misconfigured, "postgres.dsn"},
		{"57P03", "ProcessStartupPacket", failure.Transient, ""},
		{"57P01", "ProcessInterrupts", failure.Transient, ""},
		{"XX000", "elog", failure.Transient, ""},
	} {
		sent := &pgconn.PgError{Code: test.code, Routine: test.routine, File: "some.c", Message: "gru\xdf"}
		err := pgsession.Explain(fmt.Errorf("x: %w", sent), "postgres.dsn")
		assert.Equal(t, test.class, failure.ClassOf(err), test.code)
		require.EqualError(t, err, "connect to PostgreSQL: gru? (SQLSTATE "+test.code+")", "valid in a log")
		assert.Contains(t, failure.Fix(err), test.remedy)
	}
}

// A pooler's errors are told from the server's: it has no place in PostgreSQL's
// source to name.
func TestExplainPooler(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		code, message string
		class         failure.Class
	}{
		// src/client.c of PgBouncer 1.18: disconnect_client(client, true, …), whose SQLSTATE is that of a protocol violation.
		"PgBouncer, parameter": {"08P01", "unsupported startup parameter: exit_on_error", failure.Misconfigured},
		"PgBouncer, database":  {"08P01", "no such database: shop", failure.Misconfigured},
		"RDS Proxy":            {"0A000", "Feature not supported: RDS Proxy currently doesn't support replication", failure.Misconfigured},
		"busy":                 {"53300", "no more connections allowed", failure.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := connect(t, pooler(t, &pgproto3.ErrorResponse{Severity: "FATAL", Code: test.code, Message: test.message}), false)
			require.ErrorContains(t, err, test.message)
			require.ErrorContains(t, err, "a connection pooler or proxy answered, not PostgreSQL")
			assert.Contains(t, failure.Fix(err), "name the PostgreSQL server itself, with its own host and port, in postgres.dsn")
			assert.Equal(t, test.class, failure.ClassOf(err))
		})
	}
	t.Run("one that drops settings", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Shared(t)
		config, err := pgsession.Parse(server.DSN("postgres"), "postgres.dsn")
		require.NoError(t, err)
		pgsession.Unpin(&config.Config, "search_path")
		_, err = pgconn.ConnectConfig(t.Context(), &config.Config)
		require.ErrorIs(t, err, pgsession.ErrSettingsLost)
		err = pgsession.Explain(err, "postgres.dsn")
		require.EqualError(t, err, "connect to PostgreSQL: "+pgsession.ErrSettingsLost.Error())
		assert.Contains(t, failure.Fix(err), "PgBouncer")
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	})
}

// pooler answers every connection with an error. It returns its DSN.
func pooler(t *testing.T, answer *pgproto3.ErrorResponse) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			backend := pgproto3.NewBackend(conn, conn)
			if _, err := backend.ReceiveStartupMessage(); err == nil || errors.Is(err, io.EOF) {
				backend.Send(answer)
				_ = backend.Flush() // the client may be gone
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "postgres://user@" + listener.Addr().String() + "/shop?sslmode=disable"
}

func TestParse(t *testing.T) {
	t.Parallel()
	const canary = "cAnArY"
	for dsn, remedy := range map[string]string{
		"postgres://u:1cAnArY#x@h/db":                               "percent-encode",
		"postgres://u:12/cAnArY@h/db":                               "percent-encode",
		"postgres://u:12?cAnArY@h/db":                               "percent-encode",
		"postgres://u:cAnArY%zz@h/db":                               "percent-encode",
		"postgresql://u:12#cAnArY@h/db":                             "percent-encode",
		"postgres://u:cAnArY@h/db?replication=database":             "remove replication from postgres.dsn",
		"postgres://u:cAnArY@h/db?gssencmode=disable":               "remove gssencmode from postgres.dsn",
		"host=h user=u password=cAnArY hostaddr=127.0.0.1":          "write the address as host",
		"host=h user=u password=cAnArY keepalives_idle=5":           "remove keepalives_idle from postgres.dsn: the streamer sends",
		"host=h user=u password=a cAnArY":                           "quote a value with spaces",
		"host=h user=u password=cAnArY fallback_application_name=x": "remove fallback_application_name",
	} {
		t.Run(dsn, func(t *testing.T) {
			t.Parallel()
			_, err := pgsession.Parse(dsn, "postgres.dsn")
			require.ErrorContains(t, err, "postgres.dsn ")
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
			assert.Contains(t, failure.Fix(err), remedy)
			assert.NotContains(t, failure.Describe(err), canary)
		})
	}
	for _, dsn := range []string{
		"postgres://u:a%40b@h/db", "postgres://u:p@h?user=a@b", "postgres://h/db?user=a@b&sslmode=disable", "host=h user=a@b",
		"postgres://u:p@h/db?default_query_exec_mode=exec",
	} {
		_, err := pgsession.Parse(dsn, "postgres.dsn")
		require.NoError(t, err, dsn)
	}
}
