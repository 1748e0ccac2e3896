package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
)

// connectorFile is a connector with a password, which must not be seen again.
const connectorFile = `{"name": "outbox", "config": {
	"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput",
	"database.hostname": "db", "database.user": "debezium", "database.password": "hunter2", "database.dbname": "shop",
	"topic.prefix": "shop", "slot.name": "outbox", "table.include.list": "public.outbox", "transforms": "router",
	"transforms.router.type": "io.debezium.transforms.outbox.EventRouter",
	"transforms.router.route.topic.replacement": "events.${routedByValue}", "our.option": "hunter2"}}`

func connector(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "connector.json")
	require.NoError(t, os.WriteFile(file, []byte(connectorFile), 0o600))
	return file
}

// What is printed is a configuration that another command takes.
func TestImportDebezium(t *testing.T) {
	t.Parallel()
	got := execute(t, nil, "import", "debezium", connector(t))
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stdout+got.stderr, "hunter2")
	assert.Contains(t, got.stderr, "Connector outbox: ")
	assert.Contains(t, got.stderr, "\nNo equivalent:\n")
	assert.Contains(t, got.stderr, "  our.option\n      unknown: ")

	file := filepath.Join(t.TempDir(), "streamer.yaml")
	require.NoError(t, os.WriteFile(file, []byte(got.stdout), 0o600))
	shown := execute(t, nil, "config", "--config", file)
	require.Zero(t, shown.code, shown.stderr)
	for _, line := range []string{"  dsn: postgres://debezium@db/shop", "  slot: outbox", "  topic: events.{aggregate_type}"} {
		assert.Contains(t, shown.stdout, line)
	}
}

func TestImportDebeziumWritesAFile(t *testing.T) {
	t.Parallel()
	from, file := connector(t), filepath.Join(t.TempDir(), "made.yaml")
	got := execute(t, nil, "import", "debezium", from, "-o", file, "--json")
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stdout, "wrote "+file+"\nnext: ")
	var report struct {
		Connector                      string
		Same, Different, No_equivalent []struct{ Option string } //nolint:revive // as in the JSON
	}
	require.NoError(t, json.Unmarshal([]byte(got.stderr), &report))
	assert.Equal(t, "outbox", report.Connector)
	assert.NotEmpty(t, report.Same)
	assert.NotEmpty(t, report.Different)
	assert.NotEmpty(t, report.No_equivalent)
	_, err := config.Load(config.Options{File: file, FileExplicit: true})
	require.NoError(t, err)

	again := execute(t, nil, "import", "debezium", from, "-o", file)
	assert.Equal(t, exitUsage, again.code)
	assert.Equal(t, "streamer: file "+file+" exists and is not overwritten\nfix: name another file with --output\n", again.stderr)
}

func TestImportDebeziumReadsStandardInput(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	code := run([]string{"import", "debezium", "-"}, environment{stdin: strings.NewReader(connectorFile), stdout: &stdout, stderr: &stderr})
	require.Zero(t, code, stderr.String())
	assert.Contains(t, stdout.String(), "table: public.outbox")
}

func TestImportDebeziumRefuses(t *testing.T) {
	t.Parallel()
	from := connector(t)
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"no file":         {nil, `expected "<file> ..."`},
		"missing file":    {[]string{"/does/not/exist.json"}, "no such file or directory\nfix: "},
		"folder":          {[]string{filepath.Dir(from)}, "is a directory\nfix: "},
		"no input":        {[]string{"-"}, "there is no standard input\nfix: "},
		"other connector": {[]string{from, "--connector", "orders"}, "there is no connector \"orders\" in the files\nfix: name one of: outbox"},
		"set":             {[]string{from, "--set", "kafka.topic=x"}, "--set has no effect on what is imported\nfix: "},
		"no place":        {[]string{from, "-o", filepath.Join(from, "below")}, "--output: "},
	} {
		got := execute(t, nil, append([]string{"import", "debezium"}, c.arguments...)...)
		assert.Equal(t, exitUsage, got.code, name)
		assert.Empty(t, got.stdout, name)
		assert.Contains(t, got.stderr, c.want, name)
	}
}
