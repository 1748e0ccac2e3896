package debezium

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/config"
)

// database translates where PostgreSQL is. Its password is never written.
func (t *translator) database() {
	parameters := map[string]string{}
	for _, option := range []string{"hostname", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey"} {
		parameter := strings.TrimSuffix(option, "name")
		if option == "dbname" {
			parameter = option
		}
		if value := t.part("database."+option, variables[parameter]); value != "" {
			parameters[parameter] = value
		}
	}
	t.encryption(parameters["sslkey"])
	if len(parameters) > 0 {
		t.connect(parameters)
	}
	t.databasePassword()
}

// connect sets the connection string, in a form in which it is certain that it
// holds no password.
func (t *translator) connect(parameters map[string]string) {
	const key = "postgres.dsn"
	for _, text := range []string{connectionURL(parameters), keywords(parameters)} {
		if bare, ok := config.NewDSN(text).WithoutPasswords(); ok && bare == text && text != "" {
			t.set(key, text)
			return
		}
	}
	for name, f := range t.findings {
		if slices.Contains(f.entry.Keys, key) && f.verdict == same {
			t.lacks(name, "together with the others, it cannot be written as a connection string", "set postgres.dsn or the PG* variables")
		}
	}
}

// variables are libpq's, by the parameter that each sets.
var variables = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE",
	"sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
}

// keywords are the parameters as a list of names and values.
func keywords(parameters map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		pairs = append(pairs, name+"="+quoted(parameters[name]))
	}
	return strings.Join(pairs, " ")
}

// connectionURL is empty if the host comes from elsewhere.
func connectionURL(parameters map[string]string) string {
	if parameters["host"] == "" {
		return ""
	}
	u := url.URL{Scheme: "postgres", Host: parameters["host"], Path: "/" + parameters["dbname"]}
	if port := parameters["port"]; port != "" {
		u.Host = net.JoinHostPort(u.Host, port)
	}
	if user := parameters["user"]; user != "" {
		u.User = url.User(user)
	}
	query := url.Values{}
	for name, value := range parameters {
		if strings.HasPrefix(name, "ssl") {
			query.Set(name, value)
		}
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "%2F", "/")
	return u.String()
}

// quoted is a value after a keyword.
func quoted(value string) string {
	if value != "" && !strings.ContainsAny(value, ` '\`) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// part returns a part of the connection string. One that is kept elsewhere is
// left to its variable.
func (t *translator) part(name, variable string) string {
	const key = "postgres.dsn"
	if !t.has(name) {
		return ""
	}
	value := t.value(name, "")
	if r, ok := findReference(name, value); ok {
		t.differs(name, fmt.Sprintf("the value is kept elsewhere: set %s to it (%s)", variable, r), deployment, key)
		t.remark(key, fmt.Sprintf("Set %s to the value of %s.", variable, r))
		return ""
	}
	if isPath := strings.HasPrefix(name, "database.ssl"); !isPath && strings.ContainsAny(value, "?&=/") {
		t.lacks(name, "it holds more than a name, such as parameters of the Java driver", "set postgres.dsn")
		return ""
	}
	t.same(name, "", key)
	return value
}

func (t *translator) databasePassword() {
	const name, key = "database.password", "postgres.dsn"
	if !t.has(name) {
		return
	}
	from := "the password"
	if r, ok := findReference(name, t.value(name, "")); ok {
		from = "the value of " + r.String()
	}
	t.remark(key, fmt.Sprintf("The password is not in this file: set PGPASSWORD to %s, or write the whole DSN to a file and name that "+
		"here as file:/path.", from))
	t.differs(name, fmt.Sprintf("a password is never written: set PGPASSWORD to %s, or postgres.dsn to file: and the path of a file "+
		"with the whole connection string", from), deployment, key)
}

// encryption says what libpq, whose parameters have the same names, does in
// another way than Java.
func (t *translator) encryption(keyFile string) {
	const key = "postgres.dsn"
	if keyFile != "" && !strings.HasSuffix(keyFile, ".pem") {
		t.differs("database.sslkey", "the key is read as PEM, and Java reads DER (PKCS #8): convert it with "+
			"`openssl pkey -inform DER -in KEY -out KEY.pem`, and name that file", deployment, key)
	}
	if t.has("database.sslpassword") {
		t.lacks("database.sslpassword", "a password is never written",
			"write the connection string with sslpassword=… to a file, and set postgres.dsn to file: and its path; or decrypt the key")
	}
	if t.has("database.sslfactory") {
		t.lacks("database.sslfactory", "a class of Java",
			"set sslmode in postgres.dsn: require encrypts and does not check the certificate, verify-full checks it")
	}
}
