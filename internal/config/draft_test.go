package config

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func drafted(t *testing.T, d Draft) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, d.Write(&out))
	return out.String()
}

func TestDraftReadsBack(t *testing.T) {
	t.Parallel()
	loaded, err := withFlags(t, "outbox.preset=cap", "outbox.columns.aggregate_id=Content#/Value/id",
		"outbox.extensions.tenantid=Content#/Headers/tenant", "kafka.brokers=a:9092,b:9092", "postgres.dsn=postgres://u@db/shop",
		"routes=[{aggregate_type: order, topic: orders}]")
	require.NoError(t, err)
	text := drafted(t, Draft{
		Config: loaded.Config, Heading: "First.\nSecond.", Keys: []string{
			"postgres.dsn", "outbox.preset", "outbox.columns.aggregate_id", "outbox.extensions.tenantid", "kafka.brokers",
		},
		Hints:   []string{"poison.policy", "outbox.null_payload", "outbox.columns", "outbox.defaults"},
		Remarks: map[string]string{"outbox.preset": "A remark."},
	})
	again := load(t, write(t, text))
	loaded.Config.Routes = nil // not among the keys
	assert.Equal(t, loaded.Config, again.Config, text)
	for _, line := range []string{
		"# First.\n# Second.\n", "  # A remark.\n  preset: cap\n", "  brokers: [a:9092, b:9092]\n", "# poison:\n  # stop ends",
		"  # policy: stop\n",
		"  # null_payload: json_null\n", "  # Bootstrap brokers, each as host:port.\n",
		"\n  columns:\n  #   id: Id\n", "\n    aggregate_id: Content#/Value/id\n",
	} {
		assert.Contains(t, text, line)
	}
	assert.NotContains(t, text, "defaults:", "this preset has none")
	for line := range strings.Lines(text) {
		assert.LessOrEqual(t, len(strings.TrimRight(line, "\n")), widestComment, line)
	}
}

func TestDraftHoldsNoSecret(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://u:hunter2@db:5432/shop?sslmode=require": "  dsn: postgres://u@db:5432/shop?sslmode=require\n",
		"postgres://u@db/shop?password=hunter2&sslmode=a":   "  dsn: postgres://u@db/shop?sslmode=a\n",
		"postgres://u@db/shop?password=hunter2":             "  dsn: postgres://u@db/shop\n",
		"host=db user=u password='hunter2 x' dbname=shop":   "  dsn: host=db user=u dbname=shop\n",
		"postgres://u:hunter2/x@db/shop":                    "  # dsn: \"\"\n", // where the password ends is not certain
		"file:/run/secrets/dsn":                             "  dsn: file:/run/secrets/dsn\n",
		"exec:vault read dsn":                               "  dsn: exec:vault read dsn\n",
		"postgres://u@db/shop":                              "  dsn: postgres://u@db/shop\n",
	} {
		c := Default()
		c.Postgres.DSN = NewDSN(dsn)
		c.Kafka.SASL.Password = NewSecret("hunter2")
		c.Kafka.SASL.ClientSecret = NewSecret("file:/run/secrets/client")
		text := drafted(t, Draft{Config: c, Keys: []string{"postgres.dsn", "kafka.sasl.password", "kafka.sasl.client_secret"}})
		assert.NotContains(t, text, "hunter2", dsn)
		assert.NotContains(t, text, mask, dsn)
		assert.Contains(t, text, want, dsn)
		assert.Contains(t, text, "    # password: file:/path\n")
		assert.Contains(t, text, "    client_secret: file:/run/secrets/client\n")
		bare, ok := NewDSN(dsn).WithoutPasswords()
		assert.Equal(t, ok, bare != "")
		assert.False(t, NewDSN(bare).HasPassword())
	}
}

// Entries of a list hold what differs from the defaults, also where that is
// nothing.
func TestDraftWritesLists(t *testing.T) {
	t.Parallel()
	loaded, err := withFlags(t,
		"outboxes=[{table: a.outbox, columns: {id: no, aggregate_type: ''}, defaults: {aggregate_type: a}, extensions: {tenantid: tenant}, "+
			"routes: [{aggregate_type: 'a*', topic: a}]}, {table: '*.outbox'}]",
		"routes=[{aggregate_type: order, topic: orders}]")
	require.NoError(t, err)
	text := drafted(t, Draft{Config: loaded.Config, Keys: []string{"outboxes", "routes"}, Remarks: map[string]string{"routes": "A remark."}})
	assert.Contains(t, text, `one order, that of the commits.
outboxes:
  - table: a.outbox
    columns:
      id: no
      aggregate_type: ""
    defaults:
      aggregate_type: a
    extensions:
      tenantid: tenant
    routes:
      - aggregate_type: a*
        topic: a
  - table: '*.outbox'
`)
	assert.Contains(t, text, "# A remark.\nroutes:\n  - aggregate_type: order\n    topic: orders\n")
	assert.Equal(t, loaded.Config, load(t, write(t, text)).Config, text)
}
