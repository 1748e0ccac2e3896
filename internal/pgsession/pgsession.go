// Package pgsession fixes the settings of every PostgreSQL session of the
// streamer, regardless of ALTER ROLE, ALTER DATABASE, postgresql.conf and the
// environment.
package pgsession

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// parameters are start-up parameters. They take precedence over ALTER ROLE and
// ALTER DATABASE, and are in force before anything has run. A server refuses a
// start-up parameter that it does not know, so these exist in every supported
// version; setLater has the rest.
//
// The list was made by going through pg_settings of PostgreSQL 18 for what a
// role or a database can set (context user). Left out on purpose:
//
//   - what only costs or saves time: enable_*, *_cost, jit*, geqo*, work_mem,
//     logical_decoding_work_mem, parallel workers,
//     debug_logical_replication_streaming;
//   - where and how objects are created: default_tablespace,
//     default_table_access_method, default_toast_compression;
//   - the text of types that the database itself decides: lc_monetary, and
//     xmlbinary and xmloption, which concern xml functions and input only;
//   - input that the streamer never writes: array_nulls,
//     timezone_abbreviations, transform_null_equals, escape_string_warning;
//   - how the server notices that a client is gone: tcp_keepalives_*,
//     tcp_user_timeout, client_connection_check_interval;
//   - what the streamer never does: vacuum_*, gin_*, check_function_bodies,
//     password_encryption, createrole_self_grant,
//     restrict_nonsystem_relation_kind;
//   - what differs from one connection to another and is set by each:
//     application_name, client_encoding, wal_sender_timeout,
//     synchronous_commit;
//   - libraries and their settings (local_preload_libraries, names with a dot);
//   - what only a superuser may set (context superuser), because a start-up
//     parameter would be refused: lc_messages, session_replication_role,
//     temp_file_limit, log_*, event_triggers. None of them changes what is
//     decoded. temp_file_limit can end a stretch of catching up, from which
//     streaming then goes on.
var parameters = map[string]string{
	// Settings that end a statement, a transaction or a session. A context bounds
	// the streamer's queries; a stream has no end.
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"exit_on_error":                       "off",

	// What a session may do is up to the user in the connection string.
	"role":                           "none",
	"default_transaction_read_only":  "off",
	"default_transaction_isolation":  "read committed",
	"default_transaction_deferrable": "off",

	// What a session sees. PostgreSQL 18 reports rows that it does not decode only
	// by the warning that the publication is skipped. Rows that a policy hides are
	// an error instead of missing silently.
	"client_min_messages": "notice",
	"row_security":        "off",
	"search_path":         "pg_catalog",

	// How text is read and written: values (R15), and the output of the catalog's
	// functions, which is compared.
	"TimeZone":                    "UTC",
	"DateStyle":                   "ISO",
	"IntervalStyle":               "postgres",
	"bytea_output":                "hex",
	"extra_float_digits":          "3",
	"quote_all_identifiers":       "off",
	"standard_conforming_strings": "on",
}

// Set gives connections of this configuration the settings above. Later calls
// of Pin take precedence.
func Set(config *pgconn.Config) {
	for name, value := range parameters {
		Pin(config, name, value)
	}
	config.AfterConnect = setLater
}

// ErrSettingsLost reports that the server of a session has not received the
// session's settings.
var ErrSettingsLost = errors.New("settings of the session did not reach PostgreSQL: a connection pooler holds them back")

// setLater sets what not every supported version knows: transaction_timeout
// exists since PostgreSQL 17. Walsenders accept SQL as well. It also makes sure
// that the start-up parameters have arrived: a pooler can be told to drop
// them (PgBouncer's ignore_startup_parameters).
func setLater(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, `SELECT current_setting('search_path'), CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
		THEN set_config('transaction_timeout', '0', false) END`).ReadAll()
	if err != nil {
		return fmt.Errorf("settings of the session: %w", err)
	}
	if string(results[0].Rows[0][0]) != parameters["search_path"] {
		return ErrSettingsLost
	}
	return nil
}

// Pin sets a start-up parameter. The server takes a name in any case and the
// last value it gets, while maps have no order: PGTZ alone adds a "timezone".
func Pin(config *pgconn.Config, name, value string) {
	Unpin(config, name)
	config.RuntimeParams[name] = value
}

// Unpin leaves a parameter to the server.
func Unpin(config *pgconn.Config, name string) {
	maps.DeleteFunc(config.RuntimeParams, func(have, _ string) bool { return strings.EqualFold(have, name) })
}
