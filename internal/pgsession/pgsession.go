// Package pgsession decides what every PostgreSQL session of ours is like,
// whatever ALTER ROLE, ALTER DATABASE, postgresql.conf or the environment say.
package pgsession

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// parameters are start-up parameters: they beat ALTER ROLE and ALTER DATABASE, and
// hold before anything has run. A server refuses a start-up parameter that it
// does not know, so these exist in every supported version; setLater has the rest.
//
// The list was made by going through pg_settings of PostgreSQL 18 for what a
// role or a database can set (context user). Left alone on purpose:
//
//   - what only costs or saves time: enable_*, *_cost, jit*, geqo*, work_mem,
//     logical_decoding_work_mem, parallel workers, debug_logical_replication_streaming;
//   - where and how things are created: default_tablespace,
//     default_table_access_method, default_toast_compression;
//   - the text of types that the database itself decides about: lc_monetary,
//     and xmlbinary and xmloption, which concern xml functions and input only;
//   - input that we never write: array_nulls, timezone_abbreviations,
//     transform_null_equals, escape_string_warning;
//   - how the server notices that a client is gone: tcp_keepalives_*,
//     tcp_user_timeout, client_connection_check_interval;
//   - what we never do: vacuum_*, gin_*, check_function_bodies, password_encryption,
//     createrole_self_grant, restrict_nonsystem_relation_kind;
//   - what differs from one connection to another and is set by each:
//     application_name, client_encoding, wal_sender_timeout, synchronous_commit;
//   - libraries and their settings (local_preload_libraries, names with a dot);
//   - what only a superuser may set (context superuser), because a start-up
//     parameter would be refused: lc_messages, session_replication_role,
//     temp_file_limit, log_*, event_triggers. None of them changes what is
//     decoded. temp_file_limit can end a stretch of catching up, which streaming
//     then goes on from.
var parameters = map[string]string{
	// What ends a statement, a transaction or a session. A context bounds what we
	// ask; a stream has no end.
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"exit_on_error":                       "off",

	// What a session may do: that is up to the user in the connection string.
	"role":                           "none",
	"default_transaction_read_only":  "off",
	"default_transaction_isolation":  "read committed",
	"default_transaction_deferrable": "off",

	// What a session sees. The warning that the publication is skipped is all that
	// PostgreSQL 18 says about rows that it does not decode. Rows that a policy
	// hides are an error instead of missing silently.
	"client_min_messages": "notice",
	"row_security":        "off",
	"search_path":         "pg_catalog",

	// How text is read and written: values (R15), and what the catalog's functions
	// print, which is compared.
	"TimeZone":                    "UTC",
	"DateStyle":                   "ISO",
	"IntervalStyle":               "postgres",
	"bytea_output":                "hex",
	"extra_float_digits":          "3",
	"quote_all_identifiers":       "off",
	"standard_conforming_strings": "on",
}

// Set makes connections of this configuration begin as ours do. What is pinned
// afterwards beats it.
func Set(config *pgconn.Config) {
	for name, value := range parameters {
		Pin(config, name, value)
	}
	config.AfterConnect = setLater
}

// setLater sets what not every supported version knows: transaction_timeout is
// from PostgreSQL 17 on. Walsenders take SQL as well.
func setLater(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := conn.Exec(ctx, `SELECT CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
		THEN set_config('transaction_timeout', '0', false) END`).ReadAll()
	if err != nil {
		return fmt.Errorf("settings of the session: %w", err)
	}
	return nil
}

// Pin sets a start-up parameter. The server takes a name in any case and the
// last value it gets, while maps have no order: PGTZ alone brings a "timezone".
func Pin(config *pgconn.Config, name, value string) {
	Unpin(config, name)
	config.RuntimeParams[name] = value
}

// Unpin leaves a parameter to the server.
func Unpin(config *pgconn.Config, name string) {
	maps.DeleteFunc(config.RuntimeParams, func(have, _ string) bool { return strings.EqualFold(have, name) })
}
