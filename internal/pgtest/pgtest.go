// Package pgtest runs real PostgreSQL servers for tests and for the demo,
// without containers. It uses the binaries of the system or downloaded ones,
// with data in a temporary folder, on a free port of 127.0.0.1.
//
// A test takes its own database from its package's server:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		dsn := pgtest.Shared(t).CreateDatabase(t)
//
// A test that stops and restarts its server starts a separate one with [New].
//
// The binaries are those of the bin folder STREAMER_TEST_PG_BIN, of the version
// STREAMER_TEST_PG_VERSION (downloaded once), of the system, or downloaded, in
// this order. As root, the server runs as user postgres or nobody.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/testserver"
)

const (
	superuser        = "postgres"
	patience         = 10 * time.Second // for each step of a shutdown
	startTimeout     = 60 * time.Second // crash recovery included
	longestSocketDir = 107 - len("/.s.PGSQL.65535") - len(".lock")
)

// Options of a server. The zero value is a server of the installed version,
// ready for logical decoding.
type Options struct {
	// Version forces downloaded binaries: a major version ("14" to "18") or an
	// exact one ("17.5.0"). Empty: the environment variable
	// STREAMER_TEST_PG_VERSION, else the installed version, else [DefaultVersion].
	Version string
	// Complete asks for a whole installation of the major version Version, with
	// pg_upgrade: the system's or a downloaded one.
	Complete bool
	// Settings override the settings of postgresql.conf.
	Settings map[string]string
	// Auth is the authentication method of all connections: "trust" (if empty)
	// or "scram-sha-256".
	Auth string
	// Password of the superuser; needed for "scram-sha-256".
	Password string
	// Encoding of the databases, UTF8 if empty. With UTF8 the locale is
	// C.UTF-8 where the system has it, else C.
	Encoding string
	// Progress is told about downloads. May be nil.
	Progress func(string)
}

// Server is a PostgreSQL server. Starting and stopping are not for concurrent
// use; everything else is, while the server runs.
type Server struct {
	options   Options
	bin       string
	folder    *testserver.Folder
	socketDir *testserver.Folder // nil: inside folder
	owner     *owner
	port      int
	version   int
	process   *testserver.Process
}

// Start creates a database cluster, starts a server on it and waits until it
// accepts connections. The server ends with this process, or earlier with
// Close. Errors wrap [testserver.ErrMissing] if there are no binaries.
func Start(ctx context.Context, options Options) (*Server, error) {
	bin, err := findBinaries(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("find PostgreSQL binaries: %w", err)
	}
	s := &Server{options: options, bin: bin}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		ports, err := testserver.FreePorts(1)
		if err != nil {
			return err
		}
		s.port = ports[0]
		err = s.StartAgain(ctx)
		if err == nil || attempt == 5 || !strings.Contains(s.Log(), "could not bind") {
			return err
		}
		if err := os.Truncate(s.logFile(), 0); err != nil {
			return fmt.Errorf("empty the server log: %w", err)
		}
	}
}

func (s *Server) makeFolders() (err error) {
	if s.owner, err = findOwner(); err != nil {
		return err
	}
	parent, err := s.owner.tempDir()
	if err != nil {
		return err
	}
	if s.folder, err = testserver.NewFolder(parent, "pg"); err != nil {
		return err
	}
	if s.bin, err = s.owner.reachable(s.bin, filepath.Join(s.folder.Path, "dist")); err != nil {
		return err
	}
	if err := s.owner.own(s.folder.Path); err != nil {
		return err
	}
	if len(s.SocketDir()) > longestSocketDir {
		if s.socketDir, err = testserver.NewFolder("/tmp", "pg"); err != nil {
			return err
		}
	}
	return s.owner.own(s.SocketDir())
}

func (s *Server) initdb(ctx context.Context) error {
	auth := s.options.Auth
	if auth == "" {
		auth = "trust"
	}
	encoding, locale := s.encoding(ctx)
	args := []string{
		"--pgdata", s.DataDir(), "--username", superuser, "--auth", auth, "--no-sync",
		"--encoding", encoding, "--locale", locale, "--lc-messages", "C",
	}
	if major, _, _ := strings.Cut(s.options.Version, "."); s.options.Complete && major >= "18" {
		args = append(args, "--no-data-checksums") // as older versions, so that pg_upgrade accepts them
	}
	if s.options.Password != "" {
		file := filepath.Join(s.folder.Path, "password")
		if err := os.WriteFile(file, []byte(s.options.Password+"\n"), 0o600); err != nil {
			return fmt.Errorf("write password file: %w", err)
		}
		defer os.Remove(file)
		if err := s.owner.own(file); err != nil {
			return err
		}
		args = append(args, "--pwfile", file)
	}
	if err := s.run(s.command(ctx, "initdb", args...)); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, s.Log())
	}
	return s.writeSettings()
}

// encoding returns the encoding and a locale that allows it.
func (s *Server) encoding(ctx context.Context) (encoding, locale string) {
	encoding = s.options.Encoding
	if encoding == "" {
		encoding = "UTF8"
	}
	if encoding == "UTF8" && hasLocale(ctx, "C.UTF-8") {
		return encoding, "C.UTF-8"
	}
	return encoding, "C"
}

func hasLocale(ctx context.Context, name string) bool {
	have, err := exec.CommandContext(ctx, "locale", "-a").Output()
	// Systems spell it C.UTF-8 and C.utf8.
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	return err == nil && slices.Contains(strings.Fields(plain(string(have))), plain(name))
}

func (s *Server) writeSettings() error {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": s.SocketDir(),
		"wal_level":               "logical",
		"fsync":                   "off",
		"max_wal_senders":         "20",
		"max_replication_slots":   "20",
		"max_connections":         "200",
		// So that a test of a lagging or silent streamer sees the same times in every
		// time zone and log.
		"timezone":     "UTC",
		"log_timezone": "UTC",
	}
	maps.Copy(settings, s.options.Settings)

	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = %s\n", name, quote(settings[name]))
	}
	file, err := os.OpenFile(filepath.Join(s.DataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = file.WriteString(lines.String())
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// StartAgain starts the stopped server on the same data and port and waits
// until it accepts connections.
func (s *Server) StartAgain(ctx context.Context) error {
	if s.process != nil && s.process.Running() {
		return errors.New("start PostgreSQL: it is running")
	}
	cmd := s.command(context.WithoutCancel(ctx), "postgres", "-D", s.DataDir(), "-p", strconv.Itoa(s.port))
	if err := s.start(cmd); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		err = fmt.Errorf("start PostgreSQL: %w; its log ends with:\n%s", err, s.logTail())
		s.process.Kill()
		return err
	}
	return nil
}

// Restart stops the server and starts it again.
func (s *Server) Restart(ctx context.Context) error {
	return errors.Join(s.Stop(), s.StartAgain(ctx))
}

// Stop is a fast shutdown (as pg_ctl stop): it ends all connections, writes a
// checkpoint and waits for the walsenders to finish. A server that does not end
// within 10 s is killed, and an error says so. The data stays for
// [Server.StartAgain].
func (s *Server) Stop() error {
	return s.stop(syscall.SIGINT, syscall.SIGQUIT)
}

// StopImmediate is a shutdown without a checkpoint: the next start goes through
// crash recovery. The data stays.
func (s *Server) StopImmediate() error {
	return s.stop(syscall.SIGQUIT)
}

func (s *Server) stop(signals ...syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	if err := s.process.Stop(patience, signals...); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

// Close ends the server and removes its data.
func (s *Server) Close() error {
	err := s.StopImmediate()
	for _, folder := range []*testserver.Folder{s.folder, s.socketDir} {
		if folder != nil {
			err = errors.Join(err, folder.Remove())
		}
	}
	return err
}

// awaitReady waits until the server accepts connections and learns its version.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		version, err := s.askVersion(ctx)
		if err == nil {
			s.version = version
			return nil
		}
		select {
		case <-tick.C:
		case <-s.process.Done():
			return errors.New("the process has ended")
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (s *Server) askVersion(ctx context.Context) (version int, err error) {
	// By the socket, because another server may answer on the port.
	conn, err := pgx.Connect(ctx, s.SocketDSN(superuser))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	return version, err
}

// AlterSystem changes a setting with ALTER SYSTEM and reloads the
// configuration. Some settings need a [Server.Restart] after it.
func (s *Server) AlterSystem(ctx context.Context, name, value string) error {
	conn, err := pgx.Connect(ctx, s.DSN(superuser))
	if err != nil {
		return fmt.Errorf("alter system: %w", err)
	}
	defer conn.Close(ctx)
	statement := "ALTER SYSTEM SET " + pgx.Identifier{name}.Sanitize() + " = " + quote(value)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("alter system set %s: %w", name, err)
	}
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	return nil
}

// DSN returns the URL of a database over TCP, as superuser "postgres".
func (s *Server) DSN(database string) string {
	return s.dsn(database, "127.0.0.1:"+strconv.Itoa(s.port), url.Values{})
}

// SocketDSN returns the URL of a database over the Unix socket, as superuser
// "postgres".
func (s *Server) SocketDSN(database string) string {
	return s.dsn(database, "", url.Values{"host": {s.SocketDir()}, "port": {strconv.Itoa(s.port)}})
}

func (s *Server) dsn(database, host string, query url.Values) string {
	user := url.User(superuser)
	if s.options.Password != "" {
		user = url.UserPassword(superuser, s.options.Password)
	}
	query.Set("sslmode", "disable")
	return (&url.URL{Scheme: "postgres", User: user, Host: host, Path: "/" + database, RawQuery: query.Encode()}).String()
}

// Port returns the port on 127.0.0.1; it stays the same across restarts.
func (s *Server) Port() int { return s.port }

// PID returns the process ID of the postmaster.
func (s *Server) PID() int { return s.process.PID() }

// Version returns server_version_num, for example 150013.
func (s *Server) Version() int { return s.version }

// BinDir returns the folder of the binaries.
func (s *Server) BinDir() string { return s.bin }

// DataDir returns the data directory.
func (s *Server) DataDir() string { return filepath.Join(s.folder.Path, "data") }

// SocketDir returns the folder of the Unix socket.
func (s *Server) SocketDir() string {
	if s.socketDir != nil {
		return s.socketDir.Path
	}
	return s.folder.Path
}

// Log returns the output of initdb and the server so far, across restarts;
// nothing after Close.
func (s *Server) Log() string { return readText(s.logFile()) }

// readText returns the content of a file, or the error in its place; nothing if
// there is no such file.
func readText(file string) string {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

func (s *Server) logTail() string {
	text := s.Log()
	const enough = 4000
	return text[max(0, len(text)-enough):]
}

func (s *Server) logFile() string { return filepath.Join(s.folder.Path, "log") }
