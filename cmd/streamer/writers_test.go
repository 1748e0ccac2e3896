package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/testserver"
	"github.com/outboxstream/streamer/router"
)

// writer is a program of testdata/writers in which a framework makes its table
// and writes to it. The framework comes from a registry.
type writer struct {
	preset  string
	version string // part of the cache's name
	install []string
	run     []string // the DSN and a step follow
	want    string   // part of the event
	rows    bool     // it only writes rows
}

// In the commands FOLDER is where the installation goes, and SOURCE the
// program's folder.
var writers = []writer{
	{
		preset: "watermill", version: "4.1.2", install: []string{"cd SOURCE && go build -o FOLDER/writer ."}, run: []string{"FOLDER/writer"},
		want: `"type":"orders.OrderPlaced"`,
	},
	{
		preset: "pg-transactional-outbox", version: "0.5.7",
		install: []string{"npm install --silent --no-audit --no-fund --ignore-scripts --prefix FOLDER pg-transactional-outbox@0.5.7"},
		run:     []string{"env", "NODE_PATH=FOLDER/node_modules", "node", "SOURCE/writer.js"}, want: `"type":"order_placed"`,
	},
	{
		preset: "django", version: "3.2.1", install: []string{
			"python3 -m pip install --quiet --disable-pip-version-check --target FOLDER -r SOURCE/requirements.txt",
		},
		run: []string{"env", "PYTHONPATH=FOLDER", "python3", "SOURCE/writer.py"}, want: `"type":"/topic/order.placed"`,
	},
	{
		preset: "spring-modulith", version: "2.0.3", install: []string{
			"mvn -q -B -f SOURCE/pom.xml dependency:copy-dependencies -DoutputDirectory=FOLDER/jars",
			"javac -cp 'FOLDER/jars/*' -d FOLDER/classes SOURCE/Writer.java",
		},
		run: []string{"java", "-cp", "FOLDER/classes:FOLDER/jars/*", "shop.Writer"}, want: `"type":"shop.Writer$OrderPlaced"`,
	},
	{
		preset: "eventuate-tram", version: "0.36.0", install: []string{
			"mvn -q -B -f SOURCE/pom.xml dependency:copy-dependencies -DoutputDirectory=FOLDER/jars",
			"javac -cp 'FOLDER/jars/*' -d FOLDER/classes SOURCE/Writer.java",
		},
		run:  []string{"java", "-cp", "FOLDER/classes:FOLDER/jars/*", "shop.Writer"},
		want: `"key":"42","event":{"specversion":"1.0","id":`, rows: true,
	},
}

// TestWriters lets each framework that a registry has make its own table, which
// init has to recognise, and write its own rows.
func TestWriters(t *testing.T) { //nolint:tparallel // each takes the whole machine
	testserver.Long(t)
	t.Parallel()
	for _, w := range writers {
		t.Run(w.preset, func(t *testing.T) {
			r := newRig(t, true, "STREAMER_KAFKA_TOPICS_CREATE=true")
			folder := w.installed(t)
			if w.rows {
				r.script(readFramework(t, w.preset).table)
			} else {
				w.does(t, folder, r.dsn, "table")
			}
			r.initialise()
			loaded, err := config.Load(config.Options{Environ: r.environ})
			require.NoError(t, err)
			require.Equal(t, w.preset, loaded.Config.Outbox.Preset)
			for _, step := range []string{"setup", "doctor"} {
				got := r.execute(step)
				require.Zero(t, got.code, got.stdout+got.stderr)
			}
			w.does(t, folder, r.dsn, "write")
			got := r.execute("preview", "--limit", "0")
			require.Zero(t, got.code, got.stderr)
			require.Len(t, lines[router.Rendering](t, got.stdout), 1)
			assert.Contains(t, got.stdout, w.want)
			assert.Regexp(t, `"total": ?12.5`, got.stdout)

			stop := r.stream()
			verified := r.execute("verify")
			stop()
			assert.Zero(t, verified.code, verified.stdout+verified.stderr)
		})
	}
}

// installed returns the folder with the framework. Without its registry the
// test is skipped, and fails in CI.
func (w writer) installed(t *testing.T) string {
	t.Helper()
	name := "writer-" + w.preset + "-" + w.version
	folder, err := testserver.Cached(t.Context(), name, func(text string) { t.Log(text) }, func(folder string) error {
		for _, line := range w.install {
			if output, err := w.command(t.Context(), folder, "sh", "-ec", line).CombinedOutput(); err != nil {
				return errors.Join(testserver.ErrMissing, fmt.Errorf("install %s: %w: %s", w.preset, err, output))
			}
		}
		return nil
	})
	testserver.Require(t, err)
	return folder
}

func (w writer) does(t *testing.T, folder, dsn, step string) {
	t.Helper()
	output, err := w.command(t.Context(), folder, append(w.run, dsn, step)...).CombinedOutput()
	require.NoError(t, err, string(output))
}

func (w writer) command(ctx context.Context, folder string, line ...string) *exec.Cmd {
	source, err := filepath.Abs(filepath.Join("testdata", "writers", w.preset))
	if err != nil {
		source = err.Error() // which is then not found
	}
	replace := strings.NewReplacer("FOLDER", folder, "SOURCE", source)
	for i := range line {
		line[i] = replace.Replace(line[i])
	}
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = os.Environ()
	return cmd
}
