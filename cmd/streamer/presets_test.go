package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/goldentest"
)

// framework is a table as a framework makes it, and rows as it writes them.
type framework struct{ table, rows string }

func readFramework(t *testing.T, preset string) framework {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "presets", preset+".sql"))
	require.NoError(t, err, "each preset has the table that it is for")
	table, rows, ok := strings.Cut(string(text), "\n-- rows\n")
	require.True(t, ok, "the line -- rows separates the table from its rows")
	return framework{table, rows}
}

// script executes several statements, each row in a transaction of its own if
// the script has one statement for each.
func (r *rig) script(sql string) {
	r.t.Helper()
	_, err := r.conn.PgConn().Exec(r.t.Context(), sql).ReadAll()
	require.NoError(r.t, err, sql)
}

// TestPresets goes the way of a newcomer with the table of each framework:
// init finds it, setup and doctor accept it, its rows become the events in the
// golden file, and verify finds them in Kafka.
func TestPresets(t *testing.T) {
	t.Parallel()
	for _, p := range config.Presets() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			made := readFramework(t, p.Name)
			r := newRig(t, true, "STREAMER_KAFKA_TOPICS_CREATE=true")
			r.script(made.table)
			r.initialise()
			loaded, err := config.Load(config.Options{Environ: r.environ})
			require.NoError(t, err)
			require.Equal(t, p.Name, loaded.Config.Outbox.Preset)

			for _, step := range []string{"setup", "doctor"} {
				got := r.execute(step)
				require.Zero(t, got.code, got.stdout+got.stderr)
			}
			r.script(made.rows)
			goldentest.Equal(t, "presets/"+p.Name, stable(t, r, r.execute("preview", "--limit", "0")))

			stop := r.stream()
			if strings.Contains(made.rows, "DELETE") { // nothing is left to compare with
				assert.Contains(t, r.execute("tail", "--from", "beginning", "--limit", "1").stdout, `"subject":"order-42"`)
			}
			got := r.execute("verify")
			stop()
			require.Zero(t, got.code, got.stdout+got.stderr)
			assert.NotContains(t, got.stdout, "nothing to compare")
		})
	}
}

// initialise writes the configuration with streamer init, and uses it from here
// on.
func (r *rig) initialise(more ...string) {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "streamer.yaml")
	got := r.execute(append([]string{"init", "--output", file}, more...)...)
	require.Zero(r.t, got.code, got.stdout+got.stderr)
	r.environ = append(r.environ, config.FileVariable+"="+file)
}

// changing are the parts of a preview that differ from run to run, and what
// stands for them. A time that is in none of the scripts is that of the commit.
var changing = []struct {
	part *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"timestamp":"[^"]*",`), ""},
	{regexp.MustCompile(`,?"sequence":"[^"]*"`), ""},
	{regexp.MustCompile(`"time":"2[^"]*"`), `"time":"of the commit"`},
	{regexp.MustCompile(`/outbox/[^/]*/`), "/outbox/DATABASE/"},
}

// stable is a preview without what differs from run to run.
func stable(t *testing.T, r *rig, got result) string {
	t.Helper()
	require.Zero(t, got.code, got.stderr)
	text := strings.ReplaceAll(got.stdout, r.topic+".", "")
	const written, kept = `"time":"2026-11-21T14:30:`, `"time":"@`
	text = strings.ReplaceAll(text, written, kept)
	for _, c := range changing {
		text = c.part.ReplaceAllString(text, c.with)
	}
	return strings.ReplaceAll(text, kept, written)
}

// TestPresetsOfTheDocumentation makes sure that every preset is described, with
// each value that it reads.
func TestPresetsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/presets.md")
	require.NoError(t, err)
	for _, p := range config.Presets() {
		_, section, ok := strings.Cut(string(page), "\n## "+p.Name+"\n")
		require.True(t, ok, p.Name)
		section, _, _ = strings.Cut(section, "\n## ")
		m := site.Mapping(p.Outbox)
		for _, reference := range slices.Concat(slices.Collect(maps.Values(m.Columns)), slices.Collect(maps.Values(m.Extensions))) {
			assert.Contains(t, section, "| `"+reference+"` |", p.Name)
		}
	}
}
