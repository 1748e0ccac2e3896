package pgtest

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Hostile returns settings of a role or a database that end sessions, hide what
// happens, or change what a session may do, as far as the server knows them.
// Sessions that do not neutralise them cannot work.
func (s *Server) Hostile() map[string]string {
	settings := map[string]string{
		"statement_timeout": "1ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms", "idle_session_timeout": "10ms",
		"exit_on_error": "on", "row_security": "on", "client_min_messages": "error", "search_path": "nowhere",
		"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
		"TimeZone": "America/New_York", "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601",
		"bytea_output": "escape", "extra_float_digits": "-5",
		"quote_all_identifiers": "on", "standard_conforming_strings": "off", "client_encoding": "LATIN1", "synchronous_commit": "off",
		"wal_sender_timeout": "1s",
	}
	if s.version >= 170000 {
		settings["transaction_timeout"] = "200ms"
	}
	return settings
}

// HostileRole creates a role with these options. Its sessions have every
// hostile setting and act as another role without rights. Sessions of the
// database have the hostile settings as well. Open sessions are not changed. It
// returns the database's DSN for the role. The server must be exclusive to the
// test, because roles are shared by all databases of a server.
func (s *Server) HostileRole(t testing.TB, conn *pgx.Conn, options string) (dsn string) {
	t.Helper()
	const role, powerless = "hostile", "powerless"
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	statements := []string{"CREATE ROLE " + powerless, "CREATE ROLE " + role + " LOGIN " + options, "GRANT " + powerless + " TO " + role}
	settings := s.Hostile()
	settings["role"] = powerless
	for name, value := range settings {
		for _, whose := range []string{"ROLE " + role, "ROLE " + role + " IN DATABASE " + database, "DATABASE " + database} {
			statements = append(statements, "ALTER "+whose+" SET "+name+" = "+quote(value))
		}
	}
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", role, s.port, conn.Config().Database)
}
