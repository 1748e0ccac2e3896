package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the reference document")

func effective(t *testing.T, loaded *Loaded) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, WriteEffective(&out, loaded, FormatYAML))
	return out.String()
}

func TestEffectiveReadsBack(t *testing.T) {
	t.Parallel()
	o := write(t, `
postgres: {dsn: "host=db user=u application_name='a # b'"}
outbox:
  columns: {time: "yes", subject: "#x", source: 'a: b', topic: "it's", partition_key: 'null', correlationid: "0123"}
  extensions: {tenantid: tenant_id, y: "n", "1": "line\nbreak"}
cloudevents: {type: "{type} # {id}"}
routes:
  - {aggregate_type: "*", topic: "x.{type}", key: "{id}"}
  - {aggregate_type: "[a-z]?", mode: structured}
kafka:
  brokers: ["[::1]:9092", "b:1"]
  linger: 1m
  topics: {configs: {cleanup.policy: "compact,delete", retention.ms: 60000}}
  tls: {enabled: true}
  sasl: {scopes: ["a,b", "c d", "[e]", "true"]}
http: {listen: ""}
`)
	loaded := load(t, o)
	text := effective(t, loaded)
	again := load(t, write(t, text))
	assert.Equal(t, loaded.Config, again.Config, text)
	assert.Equal(t, []string{"a,b", "c d", "[e]", "true"}, again.Config.Kafka.SASL.Scopes)

	defaults := load(t, missing(t))
	assert.Equal(t, Default(), load(t, write(t, effective(t, defaults))).Config)
}

func TestEffectiveShowsOrigins(t *testing.T) {
	t.Parallel()
	o := write(t, "kafka: {topic: orders}\nroutes: [{aggregate_type: a, topic: b}]\n")
	o.Environ = []string{"STREAMER_OUTBOX_EXTENSIONS_TENANTID=tenant_id"}
	o.Flags = map[string]string{"log.level": "debug"}
	text := effective(t, load(t, o))
	for _, want := range []string{
		`(?m)^  topic: orders +# file `, `(?m)^  client_id: streamer +# default$`,
		`(?m)^    tenantid: tenant_id +# environment STREAMER_OUTBOX_EXTENSIONS_TENANTID$`,
		`(?m)^  level: debug +# --set log.level$`, `(?m)^routes: +# file `, `(?m)^  - aggregate_type: a\n    topic: b$`,
	} {
		assert.Regexp(t, want, text)
	}
	columns := map[int]bool{}
	for _, position := range regexp.MustCompile(`(?m)^.*?  # `).FindAllString(text, -1) {
		columns[len(position)] = true
	}
	assert.Len(t, columns, 1, "comments are aligned:\n%s", text)
}

func TestEffectiveAsJSON(t *testing.T) {
	t.Parallel()
	o := write(t, "outbox: {extensions: {tenantid: t}}\nroutes: [{aggregate_type: a, topic: b}]\nkafka: {topics: {partitions: 3}}\n")
	var out bytes.Buffer
	require.NoError(t, WriteEffective(&out, load(t, o), FormatJSON))
	var decoded struct {
		Config  map[string]map[string]any
		Origins map[string]string
	}
	var routes struct {
		Config struct{ Routes []map[string]string }
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &routes))
	assert.Equal(t, "b", routes.Config.Routes[0]["topic"])
	_ = json.Unmarshal(out.Bytes(), &decoded) // routes is a list and does not fit
	assert.Equal(t, "900KiB", decoded.Config["kafka"]["max_batch_bytes"])
	assert.InDelta(t, 3, decoded.Config["kafka"]["topics"].(map[string]any)["partitions"], 0)
	assert.Equal(t, "file "+o.File, decoded.Origins["outbox.extensions.tenantid"])
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

func TestWriteEffectiveFails(t *testing.T) {
	t.Parallel()
	loaded := load(t, missing(t))
	require.ErrorContains(t, WriteEffective(&bytes.Buffer{}, loaded, "toml"), "use yaml or json")
	for _, format := range []string{FormatYAML, FormatJSON} {
		require.ErrorIs(t, WriteEffective(brokenWriter{}, loaded, format), errors.ErrUnsupported)
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	t.Parallel()
	var check func(k *key)
	check = func(k *key) {
		for _, c := range k.children {
			assert.NotEmpty(t, c.name, "below %q", k.path)
			assert.True(t, strings.HasSuffix(c.doc, "."), "%s: %q is not a sentence", c.path, c.doc)
			check(c)
		}
	}
	check(root)
}

func TestSchema(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	require.NoError(t, json.Unmarshal(Schema(), &schema))
	assert.Equal(t, "https://json-schema.org/draft/2020-12/schema", schema["$schema"])
	property := func(path string) map[string]any {
		at := schema
		for part := range strings.SplitSeq(path, ".") {
			if records, isRecords := strings.CutSuffix(part, "[]"); isRecords {
				at = at["properties"].(map[string]any)[records].(map[string]any)["items"].(map[string]any)
				continue
			}
			assert.Equal(t, false, at["additionalProperties"])
			at = at["properties"].(map[string]any)[part].(map[string]any)
		}
		return at
	}
	for _, path := range keyPaths(root) {
		assert.NotEmpty(t, property(path)["description"], path)
	}
	assert.Equal(t, []any{"none", "gzip", "snappy", "lz4", "zstd"}, property("kafka.compression")["enum"])
	assert.Equal(t, "lz4", property("kafka.compression")["default"])
	assert.Equal(t, false, property("kafka.tls.enabled")["default"])
	assert.Equal(t, []any{"aggregate_type"}, property("routes")["items"].(map[string]any)["required"])

	for _, k := range root.settings() {
		pattern, ok := property(k.path)["pattern"].(string)
		if ok {
			assert.Regexp(t, pattern, property(k.path)["default"], k.path)
		}
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	name := filepath.Join("..", "..", "docs", "reference", "configuration.md")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, Reference(), 0o644))
	}
	written, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(Reference()), string(written), "run: go generate ./internal/config")
}

func TestReferenceNamesEveryKey(t *testing.T) {
	t.Parallel()
	reference := string(Reference())
	for _, k := range root.settings() {
		assert.Contains(t, reference, k.path)
		assert.Contains(t, reference, k.environment())
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	found := map[string]Key{}
	for _, k := range Keys() {
		found[k.Path] = k
	}
	assert.Len(t, found, len(root.settings()))
	assert.Equal(t, "127.0.0.1:9092", found["kafka.brokers"].Default)
	assert.Equal(t, "8MiB", found["kafka.max_in_flight_bytes"].Default)
	assert.Equal(t, "0s", found["kafka.linger"].Default)
	assert.Empty(t, found["routes"].Default)
	assert.Empty(t, found["kafka.sasl.password"].Default)
	assert.Equal(t, "STREAMER_OUTBOX_EXTENSIONS_<NAME>", found["outbox.extensions"].Environment)
	assert.Equal(t, []string{"kafka", "postgres", "file"}, found["checkpoint.store"].Enum)
}
