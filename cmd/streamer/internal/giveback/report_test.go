package giveback

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/debezium"
	"github.com/outboxstream/streamer/replication"
)

func TestReport(t *testing.T) {
	t.Parallel()
	connectors, err := debezium.Read([]debezium.File{{Name: "c.json", Content: []byte(
		`{"name": "my outbox", "config": {"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "topic.prefix": "shop"}}`)}})
	require.NoError(t, err)
	waiting := int64(1234)
	said := func(g giveBack, result string) string {
		var out bytes.Buffer
		g.std.Out = &out
		g.cfg = config.Default()
		g.cfg.Postgres.Slot, g.cfg.Postgres.Publication = "orders", "published"
		g.report.slot = replication.Slot{Confirmed: 0x16B374D48}
		g.require()
		require.NoError(t, g.say(result))
		return out.String()
	}

	kept := said(giveBack{
		Debezium: Debezium{Offsets: "keep"}, report: report{Repeats: &events{}, Waiting: &waiting, Notes: []string{"one"}},
	}, resultDone)
	for _, text := range []string{
		"slot orders is at 1/6B374D48\n", "events that Debezium will repeat: 0\n", "events that wait for Debezium: 1,234\n", "note: one\n",
		"  slot.name=orders\n", "  publication.name=published\n", "  snapshot.mode=no_data\n",
		"  offset.mismatch.strategy=trust_slot\n", resultDone,
	} {
		assert.Contains(t, kept, text)
	}
	assert.NotContains(t, kept, "DELETE")

	deleted := said(giveBack{Debezium: Debezium{Offsets: "delete"}, connector: &connectors[0], std: console.Streams{}}, resultDone)
	assert.NotContains(t, deleted, "trust_slot")
	assert.Contains(t, deleted, "-X DELETE CONNECT/connectors/my%20outbox/offsets")
	assert.Contains(t, deleted, `{"offsets":[{"partition":{"server":"shop"},"offset":{"lsn":6093753672}}]}`)

	failed := said(giveBack{report: report{Repeats: &events{3, true, "a", "c"}}}, resultNot)
	assert.Contains(t, failed, "at most 3, from a to c")
	assert.NotContains(t, failed, "Debezium has to start")
}
