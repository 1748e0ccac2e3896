package pgsession

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
)

// Parse reads a connection string and gives its connections the settings of
// this package. The usual PG* variables fill in what it leaves out. key names
// the string's key in the configuration, for errors, which quote nothing that
// may belong to a password.
func Parse(dsn, key string) (*pgx.ConnConfig, error) {
	if misplaced(dsn) {
		return nil, failure.Misconfigure(failure.Advise(
			fmt.Errorf("%s is not a valid connection string (an @ after the host, as from a password that is not percent-encoded)", key),
			percentEncode,
		))
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, invalid(err, dsn, key)
	}
	if err := foreignKeyword(config.RuntimeParams, key); err != nil {
		return nil, err
	}
	Set(&config.Config)
	return config, nil
}

const percentEncode = "percent-encode special characters of the password (@ is %40, / is %2F, # is %23, ? is %3F, % is %25), " +
	"or leave the password out and set PGPASSWORD"

// misplaced reports whether a URL has an @ after its host. There the end of a
// password that contains a slash, a question mark or a hash would be taken for
// a database, and its beginning for a host or a port.
func misplaced(dsn string) bool {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok || !isURL(scheme+"://") {
		return false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		return false
	}
	path, query, _ := strings.Cut(rest[end:], "?")
	return strings.Contains(path, "@") || slices.ContainsFunc(strings.Split(query, "&"), func(parameter string) bool {
		return strings.Contains(parameter, "@") && !strings.Contains(parameter, "=")
	})
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

func invalid(err error, dsn, key string) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok { // of sslrootcert, sslcert or sslkey
		return failure.Misconfigure(fmt.Errorf("%s names a file that cannot be read: %w", key, file))
	}
	remedy := "write postgres://user:password@host:5432/database or key=value pairs"
	if isURL(dsn) {
		remedy += "; " + percentEncode
	} else if strings.Contains(dsn, "=") {
		remedy += `; quote a value with spaces, and escape quotes and backslashes in it: password='it\'s'`
	}
	return failure.Misconfigure(failure.Advise(fmt.Errorf("%s is not a valid connection string (%s)", key, reason(err)), "%s", remedy))
}

// reason extracts the innermost cause of a connection string error, which names
// the invalid part. It drops everything that the error quotes: in a string that
// cannot be parsed, any piece may belong to a password.
func reason(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	text := err.Error()
	for _, quote := range []string{"`", `"`} {
		first, last := strings.Index(text, quote), strings.LastIndex(text, quote)
		if first < last {
			text = text[:first] + "…" + text[last+len(quote):]
		}
	}
	return text
}

// libpqOnly are keywords of libpq's connection strings that pgx does not know.
// It would send them to the server as settings. Their values say what to write
// instead, if anything.
var libpqOnly = map[string]string{
	"authtype":                  "",
	"fallback_application_name": "",
	"gssdelegation":             "",
	"gssencmode":                "",
	"gsslib":                    "",
	"hostaddr":                  "write the address as host",
	"keepalives":                "the streamer always sends them",
	"keepalives_count":          "the streamer sends keepalives at intervals of its own",
	"keepalives_idle":           "the streamer sends keepalives at intervals of its own",
	"keepalives_interval":       "the streamer sends keepalives at intervals of its own",
	"load_balance_hosts":        "",
	"oauth_client_id":           "",
	"oauth_client_secret":       "",
	"oauth_issuer":              "",
	"oauth_scope":               "",
	"requirepeer":               "",
	"scram_client_key":          "",
	"scram_server_key":          "",
	"ssl_max_protocol_version":  "",
	"ssl_min_protocol_version":  "TLS 1.2 is the minimum in any case",
	"sslcompression":            "",
	"sslcrl":                    "",
	"sslcrldir":                 "",
	"sslkeylogfile":             "",
	"tcp_user_timeout":          "the streamer notices a dead connection by postgres.wal_sender_timeout",
	"tty":                       "",
}

// foreignKeyword refuses what only other clients take in a connection string.
func foreignKeyword(parameters map[string]string, key string) error {
	if _, ok := parameters["replication"]; ok {
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("%s sets replication, which the streamer does itself where a connection replicates", key),
			"remove replication from %s", key,
		))
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		instead, ok := libpqOnly[name]
		if !ok {
			continue
		}
		remedy := fmt.Sprintf("remove %s from %s", name, key)
		if instead != "" {
			remedy += ": " + instead
		}
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("%s sets %s, which only clients built on libpq know, such as psql", key, name), "%s", remedy,
		))
	}
	return nil
}
