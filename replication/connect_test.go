package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// works proves that a DSN serves both kinds of connection.
func works(t *testing.T, f *fixture, dsn string) {
	t.Helper()
	g := &fixture{t: t, server: f.server, config: f.config, conn: f.conn}
	g.config.DSN = dsn
	id := query[int](g, "SELECT coalesce(max(id), 0) + 1 FROM outbox")
	g.insert(id, id)
	stream := g.open()
	ids, end := readRows(t, stream, 1)
	assert.Equal(t, strconv.Itoa(id), ids[len(ids)-1])
	require.NoError(t, stream.Confirm(end, false))
	require.NoError(t, stream.Finish(time.Now().Add(patience)))
	stream.Close()
	require.Eventually(t, func() bool {
		return !query[bool](g, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", g.config.Slot)
	}, patience, 10*time.Millisecond)
}

func TestConnectionStrings(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	server := pgtest.Shared(t)
	f := newFixture(t, server)
	database, port := f.config.Slot, server.Port() // the slot is named like the database
	ports := strings.Join([]string{strconv.Itoa(closedPort(t)), strconv.Itoa(port)}, ",")
	for name, dsn := range map[string]string{
		"URL": fmt.Sprintf("postgresql://postgres@127.0.0.1:%d/%s?sslmode=prefer", port, database),
		"keywords": fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=postgres sslmode=disable "+
			"application_name='not ours'", port, database),
		"Unix socket as keyword": fmt.Sprintf("host=%s port=%d dbname=%s user=postgres", server.SocketDir(), port, database),
		"Unix socket as URL":     fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%d", database, url.QueryEscape(server.SocketDir()), port),
		"two hosts, the first one down": fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s dbname=%s user=postgres sslmode=disable "+
			"target_session_attrs=read-write", ports, database),
	} {
		t.Run(name, func(t *testing.T) { works(t, f, dsn) })
	}
	t.Run("a standby is asked for", func(t *testing.T) {
		config := f.config
		config.DSN += "&target_session_attrs=standby"
		_, err := Connect(t.Context(), config)
		require.ErrorContains(t, err, "connect to PostgreSQL")
		assert.Equal(t, failure.Transient, failure.ClassOf(err), "there may be one later")
	})
}

func closedPort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestConnectionVariables(t *testing.T) {
	server := pgtest.Shared(t)
	f := newFixture(t, server)
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", strconv.Itoa(server.Port()))
	t.Setenv("PGUSER", "postgres")
	t.Setenv("PGDATABASE", f.config.Slot)
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGAPPNAME", "not ours")
	t.Setenv("PGTZ", "Asia/Kolkata")
	t.Setenv("PGOPTIONS", "-c DateStyle=German -c bytea_output=escape")
	works(t, f, "")
	works(t, f, "user=postgres")
	f.config.DSN = ""
	checkPinned(t, f)

	t.Run("a variable that the DSN makes unimportant", func(t *testing.T) {
		t.Setenv("PGPORT", "nonsense")
		works(t, f, server.DSN(f.config.Slot))
	})
}

// checkPinned asks both kinds of connection for the settings in force.
func checkPinned(t *testing.T, f *fixture) {
	t.Helper()
	for range 10 { // parameters are sent in any order
		conn, _, err := connectReplication(t.Context(), f.config, "UTF8", nil)
		require.NoError(t, err)
		control, err := Connect(t.Context(), f.config)
		require.NoError(t, err)
		for name, want := range map[string]string{
			"TimeZone": "UTC", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "bytea_output": "hex", "extra_float_digits": "3",
			"search_path": "pg_catalog", "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
			"client_encoding": "UTF8", "application_name": f.config.ApplicationName(),
		} {
			results, err := conn.Exec(t.Context(), "SHOW "+name).ReadAll()
			require.NoError(t, err)
			got := string(results[0].Rows[0][0])
			var ofSQL string
			require.NoError(t, control.Conn().QueryRow(t.Context(), "SHOW "+name).Scan(&ofSQL))
			if name == "DateStyle" { // the order of day and month is for input
				got, _, _ = strings.Cut(got, ",")
				ofSQL, _, _ = strings.Cut(ofSQL, ",")
				want, _, _ = strings.Cut(want, ",")
			}
			assert.Equal(t, want, got, "%s of the walsender", name)
			assert.Equal(t, want, ofSQL, "%s of the SQL connection", name)
		}
		results, err := conn.Exec(t.Context(), "SHOW wal_sender_timeout").ReadAll()
		require.NoError(t, err)
		assert.Equal(t, "1min", string(results[0].Rows[0][0]))
		closeQuietly(conn)
		control.Close()
	}
}

func TestPinnedParameters(t *testing.T) { //nolint:tparallel // one slot or schema, one after the other
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	role := f.config.Slot
	f.exec("CREATE ROLE " + role + " LOGIN REPLICATION SUPERUSER")
	t.Cleanup(func() {
		_, err := f.conn.Exec(context.WithoutCancel(t.Context()), "DROP ROLE "+role)
		assert.NoError(t, err)
	})
	for name, value := range map[string]string{
		"TimeZone": "America/New_York", "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601",
		"bytea_output": "escape", "extra_float_digits": "-5",
		"search_path": "public", "statement_timeout": "1ms", "lock_timeout": "1ms",
		"idle_in_transaction_session_timeout": "1s", "client_encoding": "LATIN1",
		"wal_sender_timeout": "1s",
	} {
		f.exec(
			fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", role, name, value),
			fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = '%s'", role, role, name, value),
		)
	}
	t.Run("beat those of role and database", func(t *testing.T) {
		g := *f
		g.config.DSN = fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", role, f.server.Port(), role)
		checkPinned(t, &g)
	})
	t.Run("beat those of the connection string, however they are spelled", func(t *testing.T) {
		g := *f
		g.config.DSN += "&timezone=America/New_York&datestyle=German&BYTEA_OUTPUT=escape&intervalstyle=iso_8601&Extra_Float_Digits=0" +
			"&SEARCH_PATH=public&Statement_Timeout=1&client_Encoding=LATIN1&Application_Name=a&WAL_sender_timeout=5s"
		checkPinned(t, &g)
	})
}

// An invalid byte in a SQL_ASCII database must arrive unchanged: a conversion
// would fail again and again (P-33).
func TestSQLASCII(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{Encoding: "SQL_ASCII"}))
	server, _ := f.identify()
	assert.Equal(t, "SQL_ASCII", server.Encoding)
	f.exec(`INSERT INTO outbox VALUES (1, E'caf\351'), (2, 'plain')`)
	inserts, _, err := peek(t, f, 100, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, inserts)
	ids, _ := readRows(t, f.open(), 2)
	assert.Equal(t, []string{"1", "2"}, ids)
}

const canary = "cAnArY"

func TestConnectionStringErrors(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://user:cAnArY/x@host/db",
		"postgres://user:cAnArY#x@host/db",
		"postgres://user:cAnArY?x@host/db",
		"postgres://user:x%cAnArY@host/db",
		"postgres://user:cAnArY@host:port/db",
		"postgres://user:cAnArY@[::1/db",
		"postgres://user:cAnArY]@[::1]:x/db",
		"postgres://us er:cAnArY@host/db",
		"postgres://user:cAn ArYcAnArY@host/db",
		"postgres://user:cAnArY@ho st/db",
		"postgres://user:cAnArY@host/db?sslmode=nonsense",
		"postgres://user:cAnArY@host/db?sslmode=verify-full&sslrootcert=/does/not/exist",
		"postgres://user:cAnArY@host/db?connect_timeout=cAnArY",
		"postgres://user@host/db?password=cAnArY&port=x",
		"postgres://user@host:cAnArY/db",
		" postgres://user:cAnArY@host/db",
		"postgres//user:cAnArY@host/db",
		"mysql://user:cAnArY@host/db",
		"host=x password='cAnArY",
		"host=x password=cAnArY port=y",
		"host=x password=a cAnArY",
		"host=x password=a cAnArY sslmode=disable",
		`host=x password=cAnArY\`,
		"cAnArY",
	} {
		t.Run(dsn, func(t *testing.T) {
			t.Parallel()
			config := Config{DSN: dsn, Slot: "s", ConnectTimeout: time.Second}
			_, err := parse(t.Context(), config)
			if err == nil {
				return // taken for something else, which the server will report
			}
			require.Regexp(
				t,
				"^postgres.dsn (is not a valid connection string|names a file that cannot be read: open /does/not/exist: no such file)",
				err.Error(),
			)
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
			assert.NotContains(t, fmt.Sprintf("%v %+v", err, err), canary)
			_, err = Connect(t.Context(), config)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), canary)
		})
	}
	t.Run("names what is wrong", func(t *testing.T) {
		t.Parallel()
		_, err := parse(t.Context(), Config{DSN: "postgres://user@host/db?sslmode=nonsense"})
		require.ErrorContains(t, err, "sslmode")
		_, err = parse(t.Context(), Config{DSN: "postgres://user@host/db?sslmode=verify-full&sslrootcert=/does/not/exist"})
		require.ErrorContains(t, err, "no such file")
	})
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]string{
		"closed port": fmt.Sprintf("postgres://user:cAnArY@127.0.0.1:%d/db?sslmode=disable", closedPort(t)),
		"no socket":   fmt.Sprintf("host=%s user=u password=cAnArY dbname=db", t.TempDir()),
	} {
		_, err := Connect(t.Context(), Config{DSN: dsn, ConnectTimeout: patience})
		require.ErrorContains(t, err, "connect to PostgreSQL", name)
		assert.NotContains(t, err.Error(), canary)
		assert.Equal(t, failure.Transient, failure.ClassOf(err))
	}
	t.Run("a server that never answers", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, sends nothing
		require.NoError(t, err)
		defer listener.Close()
		before := time.Now()
		_, err = Connect(
			t.Context(),
			Config{DSN: fmt.Sprintf("postgres://u:cAnArY@%s/db?sslmode=disable", listener.Addr()), ConnectTimeout: 200 * time.Millisecond},
		)
		require.Error(t, err)
		assert.Less(t, time.Since(before), patience/2)
		assert.NotContains(t, err.Error(), canary)
		assert.Equal(t, failure.Transient, failure.ClassOf(err))
	})
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{Auth: "scram-sha-256", Password: "right " + canary})
	f := newFixture(t, server)
	f.exec("CREATE ROLE plain LOGIN PASSWORD 'cAnArY'", "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'cAnArY'",
		"CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM public", "CREATE ROLE nologin REPLICATION PASSWORD 'cAnArY'")
	dsn := func(user, password, database string) string {
		return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", url.UserPassword(user, password), server.Port(), database)
	}
	works(t, f, f.config.DSN)
	works(t, f, dsn("reader", canary, f.config.Slot)) // nothing but REPLICATION
	identify := func(dsn string) error {
		config := f.config
		config.DSN = dsn
		control, err := Connect(t.Context(), config)
		if err != nil {
			return err
		}
		defer control.Close()
		_, err = control.Identify(t.Context())
		return err
	}
	for name, test := range map[string]struct {
		dsn   string
		want  []string
		class failure.Class
	}{
		"wrong password":           {dsn("postgres", "wrong "+canary, "postgres"), []string{"28P01", "PGPASSWORD"}, failure.Misconfigured},
		"no password":              {dsn("postgres", "", "postgres"), []string{"password"}, failure.Misconfigured},
		"unknown role":             {dsn("nobody", canary, "postgres"), []string{"28P01"}, failure.Misconfigured},
		"role that may not":        {dsn("nologin", canary, "postgres"), []string{"28000", "not permitted to log in"}, failure.Misconfigured},
		"unknown database":         {dsn("postgres", "right "+canary, "nothere"), []string{"3D000", "nothere"}, failure.Misconfigured},
		"role without REPLICATION": {dsn("plain", canary, f.config.Slot), []string{"42501", "ALTER ROLE"}, failure.Refused},
		"no CONNECT":               {dsn("reader", canary, "closed"), []string{"42501", "GRANT CONNECT ON DATABASE"}, failure.Refused},
		"unknown parameter": {
			dsn("postgres", "right "+canary, "postgres") + "&work_mom=1",
			[]string{"42704", "work_mom", "postgres.dsn"},
			failure.Misconfigured,
		},
		"TLS that is not there": {
			strings.Replace(dsn("postgres", "right "+canary, "postgres"), "disable", "require", 1),
			[]string{"TLS", "sslmode"},
			failure.Misconfigured,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := identify(test.dsn)
			require.Error(t, err)
			for _, part := range test.want {
				assert.Contains(t, failure.Describe(err), part)
			}
			assert.Equal(t, test.class, failure.ClassOf(err), err)
			assert.NotContains(t, fmt.Sprintf("%+v", err), canary)
			assert.NotContains(t, err.Error(), strconv.Itoa(server.Port())+"/", "the connection string")
		})
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// enableTLS gives the server a certificate for 127.0.0.1 and switches TLS on.
func (a *authority) enableTLS(t *testing.T, server *pgtest.Server) {
	t.Helper()
	_, key, certPEM := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	})
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	folder, err := os.Stat(server.DataDir())
	require.NoError(t, err)
	for name, text := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM} {
		file := filepath.Join(server.DataDir(), name)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		owner := folder.Sys().(*syscall.Stat_t)
		require.NoError(t, os.Chown(file, int(owner.Uid), int(owner.Gid)))
	}
	for _, setting := range [][2]string{{"ssl_cert_file", "tls.crt"}, {"ssl_key_file", "tls.key"}, {"ssl", "on"}} {
		require.NoError(t, server.AlterSystem(t.Context(), setting[0], setting[1]))
	}
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), strings.Replace(server.DSN("postgres"), "disable", "require", 1))
		if err != nil {
			return false
		}
		return conn.Close(t.Context()) == nil
	}, patience, 20*time.Millisecond)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t, pgtest.Options{})
	right, wrong := newAuthority(t), newAuthority(t)
	right.enableTLS(t, server)
	f := newFixture(t, server)
	file := func(a *authority) string {
		path := filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(path, a.pem, 0o600))
		return path
	}
	good, bad := file(right), file(wrong)
	dsn := func(host, mode, ca string) string {
		return fmt.Sprintf(
			"postgres://postgres@%s:%d/%s?sslmode=%s&sslrootcert=%s",
			host, server.Port(), f.config.Slot, mode, url.QueryEscape(ca),
		)
	}
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		t.Run(mode, func(t *testing.T) { works(t, f, dsn("127.0.0.1", mode, good)) })
	}
	t.Run("woken in the middle of TLS records", func(t *testing.T) {
		g := *f
		g.config.DSN = dsn("127.0.0.1", "verify-full", good)
		stream := g.open()
		done := make(chan struct{})
		defer close(done)
		go func() {
			ticker := time.NewTicker(100 * time.Microsecond)
			defer ticker.Stop()
			for {
				select {
				case <-done:
					return
				case <-ticker.C:
					stream.Wake()
				}
			}
		}()
		g.exec("INSERT INTO outbox SELECT n, repeat('x', 500) FROM generate_series(1001, 5000) n")
		ids, end := readRows(t, stream, 4000)
		assert.Equal(t, numbers(1001, 5000), ids)
		require.NoError(t, stream.Confirm(end, true))
	})
	for name, broken := range map[string]string{
		"verify-full with a wrong authority": dsn("127.0.0.1", "verify-full", bad),
		"verify-ca with a wrong authority":   dsn("127.0.0.1", "verify-ca", bad),
		"require with a wrong authority":     dsn("127.0.0.1", "require", bad),
		"verify-full with another host name": dsn("localhost", "verify-full", good),
		"verify-full without an authority":   fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=verify-full", server.Port()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := f.config
			config.DSN = broken
			_, err := Connect(t.Context(), config)
			require.ErrorContains(t, err, "certificate")
			assert.Contains(t, failure.Fix(err), "sslrootcert")
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), err)
		})
	}
}

func TestNotPostgreSQL(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("S220 mail.example.com ESMTP\r\n"))
			_ = conn.Close()
		}
	}()
	_, err = Connect(
		t.Context(),
		Config{DSN: fmt.Sprintf("postgres://u:cAnArY@%s/db?sslmode=require", listener.Addr()), ConnectTimeout: patience},
	)
	require.ErrorContains(t, err, "connect to PostgreSQL")
	assert.NotContains(t, err.Error(), canary)
}
