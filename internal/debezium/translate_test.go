package debezium

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/goldentest"
)

// planted is the secret in the files of testdata.
const planted = "hunter2"

// inputs are the files of a folder by the name of their case: one file, or
// several with a + after the name.
func inputs(t *testing.T, folder string) map[string][]File {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", folder))
	require.NoError(t, err)
	cases := map[string][]File{}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".golden") {
			continue
		}
		content, err := os.ReadFile(filepath.Join("testdata", folder, entry.Name()))
		require.NoError(t, err)
		name, _, _ := strings.Cut(strings.ReplaceAll(entry.Name(), "+", "."), ".")
		if folder == "refused" {
			name = entry.Name()
		}
		cases[name] = append(cases[name], File{entry.Name(), content})
	}
	return cases
}

func chosen(t *testing.T, files []File) Connector {
	t.Helper()
	connectors, err := Read(files)
	require.NoError(t, err)
	c, err := Choose(connectors, "")
	require.NoError(t, err)
	return c
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	cases := inputs(t, "translated")
	assert.Greater(t, len(cases), 40)
	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := chosen(t, files)
			result, err := c.Translate()
			require.NoError(t, err)
			var written, report strings.Builder
			require.NoError(t, result.Draft.Write(&written))
			require.NoError(t, result.Report.WriteText(&report))
			goldentest.Equal(t, "translated/"+name, written.String()+"\n---\n"+report.String())
			require.NoError(t, result.Report.WriteJSON(&report))
			assert.NotContains(t, written.String()+report.String(), planted)
			assertLoads(t, written.String(), result.Draft.Config)
			assertComplete(t, c, result.Report)
		})
	}
}

// assertLoads asserts that the file is a configuration without a problem, and
// the one that was meant.
func assertLoads(t *testing.T, text string, want config.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "streamer.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	loaded, err := config.Load(config.Options{File: file, FileExplicit: true})
	require.NoError(t, err, text)
	assert.Equal(t, want, loaded.Config)
}

// assertComplete asserts that every option of the files is in exactly one list.
func assertComplete(t *testing.T, c Connector, r Report) {
	t.Helper()
	listed := map[string]int{}
	for _, e := range slices.Concat(r.Same, r.Different, r.NoEquivalent) {
		listed[e.Option]++
	}
	for _, o := range c.options {
		if o.spelled != "" {
			assert.Equal(t, 1, listed[o.spelled], o.spelled)
		}
		delete(listed, o.spelled)
	}
	for option := range listed {
		isAddition := strings.Contains(option, "(not set: ") || strings.HasPrefix(option, "connector ") || strings.HasPrefix(option, "manifest ")
		assert.True(t, isAddition, "%s is in no file", option)
	}
	for _, e := range r.Different {
		assert.NotEmpty(t, e.Says, e.Option)
		assert.NotEmpty(t, e.Concerns, e.Option)
	}
	for _, e := range r.NoEquivalent {
		assert.NotEmpty(t, e.Says, e.Option)
		assert.NotEmpty(t, e.Action, e.Option)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	cases := inputs(t, "refused")
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		connectors, err := Read(cases[name])
		if err == nil {
			_, err = Choose(connectors, "")
		}
		require.Error(t, err, name)
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), name)
		for _, r := range failure.Reports(err) {
			assert.NotEmpty(t, r.Fix, name)
			fmt.Fprintf(&all, "%s\n  %s\n  fix: %s\n", name, r.Problem, r.Fix)
		}
	}
	assert.NotContains(t, all.String(), planted)
	goldentest.Equal(t, "refused/all", all.String())
}

// A value that the streamer does not take never keeps the others from being
// taken over.
func TestStrangeValues(t *testing.T) {
	t.Parallel()
	usual := map[string]string{
		"connector.class": postgresClass, "transforms": "outbox", "transforms.outbox.type": routerClass, "plugin.name": "pgoutput",
		"slot.name": "mine", "producer.override.security.protocol": "SASL_SSL", "producer.override.sasl.mechanism": "PLAIN",
	}
	text, err := os.ReadFile("testdata/options.txt")
	require.NoError(t, err)
	names := slices.DeleteFunc(strings.Fields(string(text)), func(name string) bool { return usual[name] != "" })
	for _, value := range []string{
		"", "-1", "\x00", "${", "a,b:c", "'",
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			all := maps.Clone(usual)
			for _, name := range names {
				all[name] = value
				values := maps.Clone(usual)
				values[name] = value
				c := newConnector("strange", values)
				result, err := c.Translate()
				require.NoError(t, err, name)
				assertComplete(t, c, result.Report)
				assert.Equal(t, "mine", result.Draft.Config.Postgres.Slot, name)
			}
			c := newConnector("strange", all)
			result, err := c.Translate()
			require.NoError(t, err)
			assertComplete(t, c, result.Report)
			var written strings.Builder
			require.NoError(t, result.Draft.Write(&written))
			assertLoads(t, written.String(), result.Draft.Config)
		})
	}
}

// One of several connectors is chosen by its name. The report names the others.
func TestChoose(t *testing.T) {
	t.Parallel()
	connectors, err := Read(inputs(t, "refused")["several.json"])
	require.NoError(t, err)
	c, err := Choose(connectors, "stock")
	require.NoError(t, err)
	assert.Equal(t, "stock", c.Name)
	result, err := c.Translate()
	require.NoError(t, err)
	assert.Contains(t, result.Report.NoEquivalent, Entry{
		Option: `connector "orders"`, Says: "it has an outbox event router and a slot of its own", Action: "import it too, with --connector",
	})

	_, err = Choose(connectors, "shop")
	require.ErrorContains(t, err, `there is no connector "shop" in the files`)
	assert.Equal(t, "name one of: orders, stock", failure.Fix(err))
}

func TestConnectorsAreToldApart(t *testing.T) {
	t.Parallel()
	bare := []byte(`{"connector.class": "x"}`)
	connectors, err := Read([]File{{"folder/first.json", bare}, {"folder/second.json", bare}})
	require.NoError(t, err)
	assert.Equal(t, "first, second", names(connectors))
	_, err = Read([]File{{"a/same.json", bare}, {"b/same.json", bare}})
	require.ErrorContains(t, err, `two connectors are called "same"`)
}

func TestOneWorkerOnly(t *testing.T) {
	t.Parallel()
	worker := inputs(t, "refused")["worker.properties"][0]
	_, err := Read([]File{worker, {"second.properties", worker.Content}})
	require.ErrorContains(t, err, "second.properties: a second worker's properties")
}

// What the connector sets itself does not come from the worker.
func TestConnectorOverridesWorker(t *testing.T) {
	t.Parallel()
	connector := inputs(t, "translated")["rest"][0]
	worker := File{"worker.properties", []byte("bootstrap.servers=a:9092\nvalue.converter=" + jsonConverter +
		"\nvalue.converter.schemas.enable=false\nproducer.acks=1\n")}
	c := chosen(t, []File{connector, worker})
	assert.Equal(t, stringConverter, c.value("value.converter", ""))
	assert.False(t, c.has("value.converter.schemas.enable"), "it belongs to the worker's converter")
	assert.Equal(t, "1", c.value(producerPrefix+"acks", ""))
	assert.Equal(t, "a:9092", c.value(producerPrefix+"bootstrap.servers", ""))
}
