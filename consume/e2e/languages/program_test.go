package languages

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// language is one in which examples/inbox has a program.
type language struct {
	name    string
	tool    string // that the machine must have
	install string // in a copy of the program's folder
	run     []string
	dsn     func(c *pgconn.Config) string
}

var languages = []language{
	{
		name: "java", tool: "mvn", install: "mvn -q -B package dependency:copy-dependencies",
		run: []string{
			"java", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", "target/ledger-1.jar:target/dependency/*", "ledger.Main",
		},
		dsn: func(c *pgconn.Config) string {
			return fmt.Sprintf("jdbc:postgresql://%s:%d/%s?user=%s&password=%s", c.Host, c.Port, c.Database, c.User, c.Password)
		},
	},
	{
		name: "python", tool: "python3",
		install: "python3 -m pip install --quiet --disable-pip-version-check --target packages -r requirements.txt",
		run:     []string{"env", "PYTHONPATH=packages", "python3", "ledger.py"}, dsn: postgresURL,
	},
	{
		name: "javascript", tool: "npm", install: "npm ci --silent --no-audit --no-fund --ignore-scripts",
		run: []string{"node", "ledger.js"}, dsn: postgresURL,
	},
}

func postgresURL(c *pgconn.Config) string {
	return fmt.Sprintf("postgres://%s:%s@%s:%d/%s", c.User, c.Password, c.Host, c.Port, c.Database)
}

const examples = "../../../examples/inbox"

// built returns a folder with the program, ready to run. What it is made of comes
// from the language's registry once, and is kept until the program changes. A
// toolchain that is missing fails the test in CI, and skips it elsewhere.
func (l language) built(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath(l.tool); err != nil {
		testserver.Require(t, fmt.Errorf("%w: the example in %s needs %s: install Java 17 and Maven, Python 3.10 or Node.js 20: %w",
			testserver.ErrMissing, l.name, l.tool, err))
	}
	source := filepath.Join(examples, l.name)
	name := "inbox-" + l.name + "-" + digest(t, source)
	folder, err := testserver.Cached(t.Context(), name, func(text string) { t.Log(text) }, func(folder string) error {
		if err := os.CopyFS(folder, os.DirFS(source)); err != nil {
			return err
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", l.install)
		cmd.Dir = folder
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the example in %s with `%s`: %w\n%s", l.name, l.install, err, output)
		}
		return nil
	})
	require.NoError(t, err)
	return folder
}

func digest(t *testing.T, folder string) string {
	t.Helper()
	sum := sha256.New()
	require.NoError(t, fs.WalkDir(os.DirFS(folder), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(folder, path))
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	}))
	return fmt.Sprintf("%.6x", sum.Sum(nil))
}

// program returns one instance of the program, not yet started.
func (l *ledger) program(settings ...string) *exec.Cmd {
	l.Helper()
	config, err := pgconn.ParseConfig(l.dsn)
	require.NoError(l, err)
	cmd := exec.CommandContext(context.Background(), l.in.run[0], l.in.run[1:]...)
	cmd.Dir = l.folder
	cmd.Stdout, cmd.Stderr = l.log, l.log
	cmd.Env = append(os.Environ(), "BROKERS="+strings.Join(l.kafka.Brokers(), ","), "GROUP="+l.group, "TOPICS="+l.topic,
		"DSN="+l.in.dsn(config), "SESSION_TIMEOUT_MS=3000")
	cmd.Env = append(cmd.Env, settings...)
	return cmd
}

// join starts an instance, which ends with the test at the latest.
func (l *ledger) join(settings ...string) *exec.Cmd {
	l.Helper()
	cmd := l.program(settings...)
	l.start(cmd)
	l.started++
	return cmd
}

func (l *ledger) start(cmd *exec.Cmd) {
	l.Helper()
	require.NoError(l, cmd.Start())
	l.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// ended waits for an instance that ends, and returns its exit code.
func (l *ledger) ended(cmd *exec.Cmd) int {
	l.Helper()
	err := cmd.Wait()
	if exit, failed := errors.AsType[*exec.ExitError](err); failed {
		return exit.ExitCode()
	}
	require.NoError(l, err)
	return 0
}

// said returns what processes have written.
func said(t *testing.T, log *os.File) string {
	t.Helper()
	text, err := os.ReadFile(log.Name())
	require.NoError(t, err)
	return string(text)
}
