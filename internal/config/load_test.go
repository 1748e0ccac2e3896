package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write stores a configuration file and returns the options that name it.
func write(t *testing.T, content string) Options {
	t.Helper()
	name := filepath.Join(t.TempDir(), "streamer.yaml")
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return Options{File: name, FileExplicit: true}
}

func load(t *testing.T, o Options) *Loaded {
	t.Helper()
	loaded, err := Load(o)
	require.NoError(t, err)
	return loaded
}

// missing names a default file that does not exist.
func missing(t *testing.T) Options {
	t.Helper()
	return Options{File: filepath.Join(t.TempDir(), "streamer.yaml")}
}

func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	loaded := load(t, missing(t))
	assert.Equal(t, Default(), loaded.Config)
	assert.Equal(t, "default", loaded.Origins["kafka.brokers"])
	for _, k := range root.settings() {
		assert.Equal(t, "default", loaded.Origins[k.path], k.path)
	}
}

func TestLoadPrecedence(t *testing.T) {
	t.Parallel()
	o := write(t, "kafka: {topic: from-file, client_id: from-file, compression: gzip}\nlog: {level: warn}\n")
	o.Environ = []string{"STREAMER_KAFKA_CLIENT_ID=from-env", "STREAMER_KAFKA_COMPRESSION=zstd", "OTHER=1"}
	o.Flags = map[string]string{"kafka.compression": "snappy", "log-level": "debug"}
	loaded := load(t, o)

	assert.Equal(t, "from-file", loaded.Config.Kafka.Topic)
	assert.Equal(t, "from-env", loaded.Config.Kafka.ClientID)
	assert.Equal(t, "snappy", loaded.Config.Kafka.Compression)
	assert.Equal(t, "debug", loaded.Config.Log.Level)
	assert.Equal(t, "{aggregate_id}", loaded.Config.Kafka.Key)

	assert.Equal(t, "file "+o.File, loaded.Origins["kafka.topic"])
	assert.Equal(t, "environment STREAMER_KAFKA_CLIENT_ID", loaded.Origins["kafka.client_id"])
	assert.Equal(t, "--set kafka.compression", loaded.Origins["kafka.compression"])
	assert.Equal(t, "--set log-level", loaded.Origins["log.level"])
	assert.Equal(t, "default", loaded.Origins["kafka.key"])
}

func TestLoadFileTypes(t *testing.T) {
	t.Parallel()
	loaded := load(t, write(t, `
postgres:
  dsn: postgres://u:secret@db/shop
  status_interval: 500ms
  binary: true
outbox:
  extensions: {tenantid: tenant_id}
  max_row_bytes: 1048576
routes:
  - aggregate_type: order*
    topic: orders
  - {aggregate_type: audit, null_payload: tombstone}
kafka:
  brokers: [a:1, "b:2"]
  version: 3.9.0
  max_batch_bytes: 512KiB
  topics: {create: true, partitions: 12, configs: {cleanup.policy: compact, retention.ms: 60000}}
  tls: {enabled: true}
  sasl: {mechanism: PLAIN, username: 0123, password: 0x10}
http: {listen: ""}
`))
	c := loaded.Config
	dsn, err := c.Postgres.DSN.Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "postgres://u:secret@db/shop", dsn)
	assert.Equal(t, 500*time.Millisecond, c.Postgres.StatusInterval)
	assert.True(t, c.Postgres.Binary)
	assert.Equal(t, map[string]string{"tenantid": "tenant_id"}, c.Outbox.Extensions)
	assert.Equal(t, Size(1<<20), c.Outbox.MaxRowBytes)
	assert.Equal(t, []Route{
		{AggregateType: "order*", Topic: "orders"},
		{AggregateType: "audit", NullPayload: NullPayloadTombstone},
	}, c.Routes)
	assert.Equal(t, []string{"a:1", "b:2"}, c.Kafka.Brokers)
	assert.Equal(t, Size(512<<10), c.Kafka.MaxBatchBytes)
	assert.Equal(t, 12, c.Kafka.Topics.Partitions)
	assert.Equal(t, map[string]string{"cleanup.policy": "compact", "retention.ms": "60000"}, c.Kafka.Topics.Configs)
	assert.Equal(t, "0123", c.Kafka.SASL.Username, "a text is used as written, not as YAML would read the number")
	password, err := c.Kafka.SASL.Password.Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "0x10", password)
	assert.Empty(t, c.HTTP.Listen)
}

func TestLoadAcceptsJSON(t *testing.T) {
	t.Parallel()
	loaded := load(t, write(t, `{"kafka": {"brokers": ["k:1"], "compression_level": 3, "compression": "gzip"}, "log": null}`))
	assert.Equal(t, []string{"k:1"}, loaded.Config.Kafka.Brokers)
	assert.Equal(t, 3, loaded.Config.Kafka.CompressionLevel)
	assert.Equal(t, Default().Log, loaded.Config.Log)
}

func TestLoadLeavesUnset(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"nothing": "", "a comment": "# nothing\n", "null sections": "kafka:\nlog: ~\n", "null values": "kafka: {brokers: , topic: null}\n",
		"empty containers": "routes: []\noutbox: {extensions: {}}\nkafka: {sasl: {scopes: []}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loaded := load(t, write(t, content))
			assert.Equal(t, Default(), loaded.Config)
			assert.Equal(t, "default", loaded.Origins["kafka.topic"])
		})
	}
}

func TestLoadFollowsAliases(t *testing.T) {
	t.Parallel()
	loaded := load(t, write(t, "kafka: {topic: &t orders, tls: &tls {enabled: true}}\ncloudevents: {type: *t}\n"))
	assert.Equal(t, "orders", loaded.Config.CloudEvents.Type)
}

func TestLoadQualifiesTables(t *testing.T) {
	t.Parallel()
	c := load(t, write(t, "outbox: {table: events}\ncheckpoint: {postgres: {table: ops.position}}\n")).Config
	schema, table := SplitTable(c.Outbox.Table)
	assert.Equal(t, "public", schema)
	assert.Equal(t, "events", table)
	assert.Equal(t, "ops.position", c.Checkpoint.Postgres.Table)

	c = load(t, write(t, `outbox: {table: '"my.schema"."My table"'}`+"\n"+`checkpoint: {postgres: {table: '"a"."b"'}}`)).Config
	schema, table = SplitTable(c.Outbox.Table)
	assert.Equal(t, "my.schema", schema)
	assert.Equal(t, "My table", table)
	assert.Equal(t, `"my.schema".My table`, c.Outbox.Table)
	assert.Equal(t, "a.b", c.Checkpoint.Postgres.Table, "one form for one table")
}

func TestLoadChoosesFile(t *testing.T) {
	t.Parallel()
	flag, variable := write(t, "log: {level: warn}"), write(t, "log: {level: error}")
	environ := []string{FileVariable + "=" + variable.File}

	loaded := load(t, Options{File: flag.File, FileExplicit: true, Environ: environ})
	assert.Equal(t, "warn", loaded.Config.Log.Level, "the named file wins over the variable")
	loaded = load(t, Options{File: flag.File, Environ: environ})
	assert.Equal(t, "error", loaded.Config.Log.Level, "the variable wins over the default file")

	gone := missing(t)
	gone.FileExplicit = true
	_, err := Load(gone)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, gone.File)

	_, err = Load(Options{Environ: []string{FileVariable + "=" + gone.File}})
	assert.ErrorContains(t, err, gone.File)
}

func TestLoadEnvironment(t *testing.T) {
	t.Parallel()
	o := write(t, "outbox: {extensions: {tenantid: from_file, region: region}}\nroutes: [{aggregate_type: old, topic: old}]\n")
	o.Flags = map[string]string{"kafka.sasl.extensions.logicalCluster": "lkc-1"}
	o.Environ = []string{
		"STREAMER_KAFKA_BROKERS=a:1, b:2,",
		"STREAMER_KAFKA_MAX_BATCH_BYTES=256KiB",
		"STREAMER_KAFKA_TOPICS_CREATE=true",
		"STREAMER_KAFKA_TOPICS_CONFIGS_MIN_INSYNC_REPLICAS=2",
		"STREAMER_OUTBOX_EXTENSIONS_TENANTID=tenant_id",
		"STREAMER_KAFKA_TLS_ENABLED=true", "STREAMER_KAFKA_SASL_MECHANISM=OAUTHBEARER", "STREAMER_KAFKA_SASL_TOKEN_URL=https://idp/token",
		"STREAMER_KAFKA_SASL_CLIENT_ID=c", "STREAMER_KAFKA_SASL_CLIENT_SECRET=s", "STREAMER_KAFKA_SASL_EXTENSIONS_identityPoolId=pool-2",
		"STREAMER_OUTBOX_COLUMNS_AGGREGATE_TYPE=kind",
		"STREAMER_CHECKPOINT_KAFKA_TOPIC=positions",
		"STREAMER_POSTGRES_DSN=host=db password='a=b c'",
		"STREAMER_ROUTES=[{aggregate_type: order, topic: orders}]",
		"STREAMER_HTTP_LISTEN=",
	}
	loaded := load(t, o)
	c := loaded.Config
	assert.Equal(t, []string{"a:1", "b:2"}, c.Kafka.Brokers)
	assert.Equal(t, Size(256<<10), c.Kafka.MaxBatchBytes)
	assert.True(t, c.Kafka.Topics.Create)
	assert.Equal(t, map[string]string{"min.insync.replicas": "2"}, c.Kafka.Topics.Configs)
	assert.Equal(t, map[string]string{"tenantid": "tenant_id", "region": "region"}, c.Outbox.Extensions)
	assert.Equal(t, map[string]string{"identityPoolId": "pool-2", "logicalCluster": "lkc-1"}, c.Kafka.SASL.Extensions, "as it is written")
	assert.Equal(t, "kind", c.Outbox.Columns.AggregateType)
	assert.Equal(t, "positions", c.Checkpoint.Kafka.Topic)
	assert.Equal(t, []Route{{AggregateType: "order", Topic: "orders"}}, c.Routes)
	assert.Empty(t, c.HTTP.Listen)
	dsn, err := c.Postgres.DSN.Reveal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "host=db password='a=b c'", dsn)

	assert.Equal(t, "environment STREAMER_OUTBOX_EXTENSIONS_TENANTID", loaded.Origins["outbox.extensions.tenantid"])
	assert.Equal(t, "file "+o.File, loaded.Origins["outbox.extensions.region"])
	assert.Equal(t, "environment STREAMER_KAFKA_TOPICS_CONFIGS_MIN_INSYNC_REPLICAS",
		loaded.Origins["kafka.topics.configs.min.insync.replicas"])
}

func TestEnvironmentNamesAreUnambiguous(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, k := range root.settings() {
		name := k.environment()
		assert.Empty(t, seen[name], "%s and %s share a variable", seen[name], k.path)
		seen[name] = k.path
		if k.kind == kindTable {
			name += "_X"
		}
		assert.False(t, isIgnored(name, ""), name)
		found, path := lookup(name)
		require.NotNil(t, found, name)
		assert.Equal(t, k.path, found.path)
		assert.True(t, strings.HasPrefix(dotted(path), k.path))
	}
}

func TestLoadIgnoresForeignVariables(t *testing.T) {
	t.Parallel()
	o := missing(t)
	o.Environ = []string{
		"STREAMER_TEST_POSTGRES=x", "PGHOST=x", "STREAMERS=1",
		// Kubernetes adds these for services called streamer and streamer-ops.
		"STREAMER_SERVICE_HOST=10.0.0.1", "STREAMER_SERVICE_PORT=80", "STREAMER_SERVICE_PORT_HTTP=80", "STREAMER_PORT=tcp://10.0.0.1:80",
		"STREAMER_PORT_80_TCP=tcp://10.0.0.1:80", "STREAMER_PORT_80_TCP_ADDR=10.0.0.1", "STREAMER_OPS_SERVICE_HOST=10.0.0.2",
	}
	assert.Equal(t, Default(), load(t, o).Config)
}

func TestLoadUnknownKeys(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file, variable, flag string
		want                 string
	}{
		"plural":      {file: "kafka: {broker: [a:1]}", want: "kafka.broker (%:1): unknown key: did you mean kafka.brokers?"},
		"section":     {file: "kafak: {brokers: [a:1]}", want: "kafak (%:1): unknown key: did you mean kafka?"},
		"line":        {file: "log:\n  level: info\n  fromat: json", want: "log.fromat (%:3): unknown key: did you mean log.format?"},
		"hyphen":      {file: "kafka: {client-id: x}", want: "kafka.client-id (%:1): unknown key: did you mean kafka.client_id?"},
		"wrong place": {file: "brokers: [a:1]", want: "brokers (%:1): unknown key: did you mean kafka.brokers?"},
		"dots":        {file: "kafka.brokers: [a:1]", want: "kafka.brokers (%:1): unknown key: write its parts as nested sections"},
		"inside a route": {
			file: "routes: [{aggregate_type: a, topics: b}]", want: "routes[0].topics (%:1): unknown key: did you mean routes[].topic?",
		},
		"nothing near": {file: "zzzzzzzz: 1", want: "zzzzzzzz (%:1): unknown key"},
		"variable": {
			variable: "STREAMER_KAFKA_BROKER=a:1",
			want:     "STREAMER_KAFKA_BROKER: unknown environment variable: did you mean STREAMER_KAFKA_BROKERS?",
		},
		"table as a whole": {
			variable: "STREAMER_OUTBOX_EXTENSIONS=a=b",
			want:     "STREAMER_OUTBOX_EXTENSIONS: unknown environment variable: set STREAMER_OUTBOX_EXTENSIONS_<NAME> for each entry",
		},
		"flag":              {flag: "kafka.brokrs", want: "--set kafka.brokrs: unknown key: did you mean kafka.brokers?"},
		"flag of a section": {flag: "outbox.extensions", want: "--set outbox.extensions: unknown key: it contains further keys: set those"},
		"port is no typo":   {variable: "STREAMER_HTTP_PORT=80", want: "STREAMER_HTTP_PORT: unknown environment variable"},
		"nested too deeply": {file: "log: {level: {a: b}}", want: "log.level (%:1): a single value is expected here, not a list or a mapping"},
		"not nested":        {file: "log: info", want: "log (%:1): keys with values are expected here"},
		"not a list":        {file: "routes: {a: b}", want: "routes (%:1): a list is expected here: begin each item with a dash"},
		"given twice": {
			file: "log: {level: info}\nlog: {level: warn}", want: "log (%:2): the key is already set on line 1: keep one of the two",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := write(t, test.file)
			if test.variable != "" {
				o.Environ = []string{test.variable}
			}
			if test.flag != "" {
				o.Flags = map[string]string{test.flag: "x"}
			}
			_, err := Load(o)
			assert.EqualError(t, err, strings.ReplaceAll(test.want, "%", o.File))
		})
	}
}

func TestLoadRefusesText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, want string }{
		"no mapping":      {"hello", "configuration"},
		"no YAML":         {"kafka: [", "line"},
		"two documents":   {"log: {level: info}\n---\nlog: {level: warn}\n", "more than one YAML document"},
		"bare number":     {"kafka: {linger: 5}", "write a duration with its unit"},
		"decimal unit":    {"kafka: {max_batch_bytes: 1MB}", "KiB"},
		"fraction":        {"kafka: {max_batch_bytes: 1.5MiB}", "whole number"},
		"yes":             {"kafka: {tls: {enabled: yes}}", "write true or false"},
		"word for number": {"kafka: {compression_level: best}", "write a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := write(t, test.file)
			_, err := Load(o)
			require.ErrorContains(t, err, test.want)
			assert.ErrorContains(t, err, o.File)
		})
	}
	t.Run("routes in the environment", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"", "null", "orders", "[", "[{aggregate: x}]"} {
			o := missing(t)
			o.Environ = []string{"STREAMER_ROUTES=" + value}
			_, err := Load(o)
			require.ErrorContains(t, err, "routes", value)
			assert.ErrorContains(t, err, "environment STREAMER_ROUTES", value)
		}
	})
}

func TestLoadReportsEverything(t *testing.T) {
	t.Parallel()
	o := write(t, "kafka:\n  broker: [a:1]\n  linger: 5\n  compression: lzo\n")
	o.Environ = []string{"STREAMER_LOG_LEVEL=loud"}
	_, err := Load(o)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	assert.Len(t, lines, 4)
	assert.Contains(t, err.Error(), `kafka.linger (`+o.File+`:3): "5": `)
	assert.Contains(t, err.Error(), `kafka.compression (`+o.File+`:4): "lzo": use none, gzip, snappy, lz4 or zstd`)
	assert.Contains(t, err.Error(), `log.level (environment STREAMER_LOG_LEVEL): "loud": use debug, info, warn or error`)
}

func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "- a", "kafka: {brokers: [a:1], topic: &t x}\nlog: {level: *t}", "kafka: &k {tls: *k}",
		"routes: [{aggregate_type: a}, b]", "<<: {a: b}", "? [a]\n: b", "!x {a: b}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		doc := newDocument("f")
		values, err := doc.Unmarshal([]byte(content))
		if err != nil {
			return
		}
		for name := range values {
			assert.NotNil(t, root.child(name), "only known keys pass")
		}
		for _, p := range doc.problems {
			assert.NotEmpty(t, p.Remedy)
		}
	})
}
