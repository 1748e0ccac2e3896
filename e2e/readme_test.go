package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// block is a fenced block of a document.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)^ *```$")

// blocksOf returns a document's fenced blocks, without their indentation.
func blocksOf(t *testing.T, document string) (all []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", document))
	require.NoError(t, err)
	return blocksIn(string(text))
}

func blocksIn(text string) (all []block) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		body := strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n")
		all = append(all, block{m[2], strings.TrimPrefix(body, "\n")})
	}
	return all
}

// only returns the one block of a language that holds a text.
func only(t *testing.T, blocks []block, language, holds string) block {
	t.Helper()
	var found []block
	for _, b := range blocks {
		if b.language == language && strings.Contains(b.text, holds) {
			found = append(found, b)
		}
	}
	require.Len(t, found, 1, "%s block with %q", language, holds)
	return found[0]
}

// newcomer follows a document with the database, broker and folder that the
// document would name.
type newcomer struct {
	t       *testing.T
	folder  string
	environ []string
	db      *pgx.Conn
	replace *strings.Replacer
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	server, cluster := pgtest.New(t, pgtest.Options{}), kafkatest.New(t, kafkatest.Options{})
	super, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	_, err = super.Exec(t.Context(), "create database shop")
	require.NoError(t, err)
	require.NoError(t, super.Close(t.Context()))
	db, err := pgx.Connect(t.Context(), server.DSN("shop"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })
	at, err := url.Parse(server.DSN("shop"))
	require.NoError(t, err)
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(folder, "streamer")))
	return &newcomer{
		t: t, folder: folder, db: db,
		environ: []string{"PATH=" + folder + ":" + os.Getenv("PATH"), fmt.Sprintf("STREAMER_HTTP_LISTEN=127.0.0.1:%d", ports[0])},
		replace: strings.NewReplacer("db.example.com", at.Host, "kafka.example.com:9092", cluster.Brokers()[0],
			"?sslmode=verify-full", "?sslmode=disable", "replication_factor: 3", "replication_factor: 1"),
	}
}

func (n *newcomer) sql(b block) {
	n.t.Helper()
	_, err := n.db.Exec(n.t.Context(), b.text)
	require.NoError(n.t, err, b.text)
}

func (n *newcomer) write(name string, b block) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(filepath.Join(n.folder, name), []byte(n.replace.Replace(b.text)), 0o600))
}

// shell makes a command from a line.
func (n *newcomer) shell(line string) *exec.Cmd {
	cmd := exec.CommandContext(n.t.Context(), "bash", "-c", "set -e; "+n.replace.Replace(line))
	cmd.Dir, cmd.Env = n.folder, n.environ
	return cmd
}

// does runs a line to its end.
func (n *newcomer) does(line string) string {
	n.t.Helper()
	output, err := n.shell(line).CombinedOutput()
	require.NoError(n.t, err, "%s\n%s", line, output)
	return string(output)
}

// background runs a line until the returned function is called. That function
// expects a clean stop.
func (n *newcomer) background(line string) (stop func()) {
	n.t.Helper()
	cmd := n.shell("exec " + line)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(n.t, cmd.Start())
	return func() {
		n.t.Helper()
		require.NoError(n.t, cmd.Process.Signal(os.Interrupt))
		assert.NoError(n.t, cmd.Wait(), log.String())
	}
}

// commands returns the lines of a block, without comments and with continuation
// lines joined.
func commands(b block) (lines []string) {
	for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", "")) {
		line, _, _ = strings.Cut(line, " #")
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// Everything that README tells a newcomer to do is done, exactly as written.
func TestREADME(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, "README.md")
	n := newNewcomer(t)
	n.sql(only(t, blocks, "sql", "CREATE TABLE"))
	n.sql(only(t, blocks, "sql", "CREATE ROLE"))
	for _, line := range commands(only(t, blocks, "sh", "streamer init")) {
		n.does(line)
	}
	n.writes(only(t, blocks, "yaml", "brokers"))
	for _, line := range commands(only(t, blocks, "sh", "streamer setup --print")) {
		n.does(line)
	}
	n.sql(only(t, blocks, "sql", "INSERT INTO"))
	var stop func()
	for _, line := range commands(only(t, blocks, "sh", "streamer preview")) {
		if line == "streamer run" {
			stop = n.background(line)
			continue
		}
		assert.Contains(t, n.does(line), "order-42")
	}
	require.NotNil(t, stop, "the newcomer has started the streamer")
	tail := n.shell("streamer tail --from beginning --limit 1 outbox.event.order")
	n.streams()
	output, err := tail.CombinedOutput()
	require.NoError(t, err, string(output))
	assert.Contains(t, string(output), "com.example.order.placed")
	stop()
}

// writes makes sure that the file is what the block says, apart from comments
// and from what is set to its default.
func (n *newcomer) writes(b block) {
	n.t.Helper()
	written := n.does("streamer config")
	n.write("shown.yaml", b)
	assert.Equal(n.t, values(n.does("streamer config --config shown.yaml")), values(written))
}

// values are the lines of an effective configuration, without origins.
func values(effective string) (lines []string) {
	for line := range strings.Lines(effective) {
		value, _, _ := strings.Cut(line, "  # ")
		lines = append(lines, strings.TrimSpace(value))
	}
	return lines
}

// The tutorial's blocks are executed one after the other.
func TestTutorial(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	var stop func()
	for _, b := range blocksOf(t, "docs/tutorial.md") {
		switch b.language {
		case "sql":
			n.sql(b)
		case "yaml":
			n.write("streamer.yaml", b)
		case "sh":
			for _, line := range commands(b) {
				if line == "streamer run" {
					stop = n.background(line)
					n.streams()
					continue
				}
				output := n.does(line)
				switch {
				case strings.HasPrefix(line, "streamer replay") && !strings.Contains(line, "--dry-run"):
					assert.Contains(t, output, "is complete")
				case strings.HasPrefix(line, "streamer preview"):
					assert.Contains(t, output, "order-2")
				}
			}
		}
	}
	require.NotNil(t, stop)
	stop()
}

// streams waits until the streamer streams.
func (n *newcomer) streams() {
	n.t.Helper()
	require.EventuallyWithT(n.t, func(c *assert.CollectT) {
		output, err := n.shell("streamer status").CombinedOutput()
		assert.NoError(c, err)
		assert.Contains(c, string(output), "streaming")
	}, patience, 200*time.Millisecond)
}

// The targets that README names exist.
func TestREADMETargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	for _, b := range blocksOf(t, "README.md") {
		for _, line := range commands(b) {
			if target, is := strings.CutPrefix(line, "make "); is && b.language == "sh" {
				assert.Contains(t, string(makefile), "\n"+strings.Fields(target)[0]+":", line)
			}
		}
	}
}
