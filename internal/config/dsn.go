package config

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// DSN says how to connect to PostgreSQL: a URL, a key=value string, or "file:"
// and the path of a file, or "exec:" and a command, that holds or prints one of
// the two. Every way of printing or
// encoding a DSN hides its passwords. If the passwords cannot be located with
// certainty, it hides the whole DSN.
type DSN struct{ secret Secret }

// NewDSN returns the DSN that text, or the file or command it refers to, holds.
func NewDSN(text string) DSN { return DSN{secret: NewSecret(text)} }

// IsZero reports whether the DSN is not set, so that only the PG* variables and
// PostgreSQL's defaults apply.
func (d DSN) IsZero() bool { return d.secret.IsZero() }

// Reveal returns the DSN with its passwords, as Secret.Reveal does.
func (d DSN) Reveal(ctx context.Context) (string, error) { return d.secret.Reveal(ctx) }

// String returns the DSN with its passwords masked. A reference to a file is
// shown unchanged, one to a command without its arguments.
func (d DSN) String() string {
	if d.IsZero() {
		return ""
	}
	text := *d.secret.text
	if isFileReference(text) {
		return text
	}
	if line, ok := strings.CutPrefix(text, commandReference); ok {
		return maskCommand(line)
	}
	if isURL(text) {
		return maskURL(text)
	}
	return maskKeywords(text)
}

// Format writes the same as String for every verb.
func (d DSN) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// LogValue returns the same as String.
func (d DSN) LogValue() slog.Value { return slog.StringValue(d.String()) }

// MarshalText returns the same as String.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// isWellFormed reports whether the DSN has one of its four forms. Whether
// PostgreSQL's client accepts it is not checked.
func (d DSN) isWellFormed() bool {
	if d.IsZero() {
		return true
	}
	text := *d.secret.text
	keyword, _, hasValue := strings.Cut(text, "=")
	return isFileReference(text) || strings.HasPrefix(text, commandReference) || isURL(text) || hasValue && !strings.Contains(keyword, ":")
}

// isMasked reports whether the DSN contains a copied mask instead of a
// password.
func (d DSN) isMasked() bool { return !d.IsZero() && strings.Contains(*d.secret.text, mask) }

// isFileReference reports whether text refers to a file. It returns false for
// file: before a DSN instead of a path, which would show the password.
func isFileReference(text string) bool {
	return strings.HasPrefix(text, fileReference) && !strings.ContainsAny(text, "@=")
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// shownParameters are the parameters that may be shown. Any other name may be
// part of an unescaped password, so it hides the whole DSN.
var shownParameters = []string{
	"application_name", "channel_binding", "client_encoding", "connect_timeout", "database", "dbname",
	"default_query_exec_mode", "fallback_application_name", "gssencmode", "host", "hostaddr", "keepalives",
	"keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts", "options",
	"passfile", "password", "port", "replication", "require_auth", "search_path", "service", "servicefile", "sslcert",
	"sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "target_session_attrs",
	"tcp_user_timeout", "user",
}

// urlForm leaves no doubt where the password is: no part contains a delimiter
// of another part, and what follows the colon of a host is a number.
var urlForm = regexp.MustCompile(`^(postgres(?:ql)?://)` +
	`(?:([^:/?#@\s]*)(:[^:/?#@\s]*)?@)?` + // user and password
	`(` + hostForm + `(?:,` + hostForm + `)*(?:/[^:?#@\s]*)?)` + // hosts and database
	`(?:\?([^#@\s]*))?$`)

const hostForm = `(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\s,]*)(?::[0-9]*)?`

func maskURL(text string) string {
	m := urlForm.FindStringSubmatch(text)
	if m == nil {
		return mask
	}
	scheme, user, password, server, query := m[1], m[2], m[3], m[4], m[5]
	var b strings.Builder
	b.WriteString(scheme)
	b.WriteString(user)
	if password != "" {
		b.WriteString(":" + mask)
	}
	if user != "" || password != "" {
		b.WriteByte('@')
	}
	b.WriteString(server)
	if query == "" {
		return b.String()
	}
	separator := byte('?')
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(parameter, "=")
		decoded, err := url.QueryUnescape(name)
		if !ok || err != nil || !slices.Contains(shownParameters, decoded) {
			return mask
		}
		if isPassword(decoded) {
			value = mask
		}
		b.WriteByte(separator)
		b.WriteString(name + "=" + value)
		separator = '&'
	}
	return b.String()
}

// keyword is one key=value pair at the start of a DSN. A value may be quoted,
// and a backslash escapes.
var keyword = regexp.MustCompile(`^\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?:\s+|$)`)

func maskKeywords(text string) string {
	var shown []string
	for rest := text; rest != ""; {
		m := keyword.FindStringSubmatch(rest)
		if m == nil || !slices.Contains(shownParameters, m[1]) {
			return mask
		}
		value := m[2]
		if isPassword(m[1]) {
			value = mask
		}
		shown = append(shown, m[1]+"="+value)
		rest = rest[len(m[0]):]
	}
	return strings.Join(shown, " ")
}

func isPassword(parameter string) bool { return strings.Contains(parameter, "password") }
