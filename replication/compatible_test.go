package replication

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// A type whose values Debezium writes in another way is found at the start.
func TestCompatibleTypes(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(
		"CREATE TYPE mood AS ENUM ('ok')", "CREATE DOMAIN word AS text", "CREATE DOMAIN moment AS timestamp(3)",
		`CREATE TABLE outbox (a text, b varchar(9), c char(3), d uuid, e int2, f int4, g int8, h bool, i json, j jsonb,
			k timestamptz, l timestamp, m word,
			n timestamptz(3), o timestamp(0), p moment, q date, r numeric, s float8, t bytea, u mood, v name, w text[])`,
		"CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')",
	)
	table, err := f.control().DescribeTable(t.Context(), f.config.Outboxes[0])
	require.NoError(t, err)
	refused := func(c Compatible) string {
		var names []string
		table.Outbox.Compatible = c
		for _, finding := range checkCompatible(table) {
			assert.True(t, finding.Fatal)
			assert.Contains(t, finding.Remedy, "leave cloudevents.compatibility empty")
			names = append(names, finding.Problem[len(`column "`):len(`column "`)+1])
		}
		return strings.Join(names, "")
	}
	var all []string
	for _, column := range table.Columns {
		all = append(all, column.Name)
	}
	assert.Equal(t, "nopqrstuvw", refused(Compatible{Headers: all}))
	assert.Equal(t, "hijklnopqrstuvw", refused(Compatible{Keys: all}))
	var payloads []string
	for _, name := range all {
		payloads = append(payloads, refused(Compatible{Payload: name}))
	}
	assert.Equal(t, "defghklnopqrsuvw", strings.Join(payloads, ""))
	table.Outbox.Compatible = Compatible{Headers: []string{"n"}}
	found := CheckTable(table, f.config)
	assert.Contains(t, found, Finding{
		true, `column "n" of public.outbox is timestamp(3) with time zone, which is not written as a header as Debezium writes it`,
		"leave it out of outbox.headers if no consumer reads it, or leave cloudevents.compatibility empty",
	})
}
