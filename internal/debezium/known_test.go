package debezium

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testdata/options.txt lists the options that the classes of Debezium 3.4.3 and
// Kafka 4.1.2 declare: the router, the connector, Kafka Connect's source
// connectors and the producer. None of them is unknown.
func TestEveryOptionIsKnown(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/options.txt")
	require.NoError(t, err)
	declared := strings.Fields(string(text))
	assert.Greater(t, len(declared), 250)
	values := map[string]string{
		"connector.class": postgresClass, "transforms": "outbox", "transforms.outbox.type": routerClass, "plugin.name": "pgoutput",
		"key.converter": stringConverter, "value.converter": stringConverter, "producer.override.security.protocol": "SASL_SSL",
		"producer.override.sasl.mechanism": "OAUTHBEARER",
	}
	for _, name := range declared {
		if _, isSet := values[name]; !isSet {
			values[name] = "1"
		}
	}
	result, err := newConnector("all", values).Translate()
	require.NoError(t, err)
	for _, e := range result.Report.NoEquivalent {
		assert.NotContains(t, e.Says, "unknown", e.Option)
	}
	assertComplete(t, newConnector("all", values), result.Report)
}

// An option is in the table once, so that what is said does not depend on the
// order of the entries. A prefix may have exceptions before it.
func TestKnownOptionsAreListedOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range knownOptions {
		assert.NotEmpty(t, k.says)
		assert.Equal(t, k.verdict == same, k.next == "", k.names)
		for name := range strings.FieldsSeq(k.names) {
			assert.False(t, seen[name], name)
			seen[name] = true
		}
	}
}
