package replication

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestLargestValue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table, value string
		want         int64
	}{
		"text":  {"CREATE TABLE outbox (id int PRIMARY KEY, payload text)", "'größer'", 8},
		"jsonb": {"CREATE TABLE outbox (id int PRIMARY KEY, payload jsonb)", `'{"a":1}'`, 8}, // a space after the colon
		"bytea": {"CREATE TABLE outbox (id int PRIMARY KEY, payload bytea)", "'12345'", 5},
		"partitioned": {"CREATE TABLE outbox (id int, payload text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF outbox " +
			"DEFAULT", "repeat('x', 100000)", 100000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newEmptyFixture(t, pgtest.Shared(t))
			f.exec(c.table, "CREATE PUBLICATION p FOR TABLE outbox", "INSERT INTO outbox VALUES (1, NULL), (2, "+c.value+")")
			control, err := Connect(t.Context(), f.config)
			require.NoError(t, err)
			defer control.Close()
			table, err := control.DescribeTable(t.Context(), control.config.Outboxes[0])
			require.NoError(t, err)
			largest, err := control.LargestValue(t.Context(), table, "payload", 1<<20)
			require.NoError(t, err)
			assert.Equal(t, c.want, largest)
			largest, err = control.LargestValue(t.Context(), table, "payload", 1<<40)
			require.NoError(t, err)
			assert.LessOrEqual(t, largest, c.want, "only part of a large table is read")
		})
	}
}
