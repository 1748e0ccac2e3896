package replication

import (
	"context"
	"fmt"
)

// sampled is how much of a table LargestValue reads, in bytes.
const sampled = 64 << 20

// LargestValue is the size in bytes that the longest value of a column has in
// the stream, in a sample of the table t. It needs SELECT. size is the table's
// size on disk, as in Condition.
func (c *Control) LargestValue(ctx context.Context, t Table, column string, size int64) (largest int64, err error) {
	value := quoteIdentifier(column) + "::text"
	if columnType(t, column) == "bytea" {
		value = quoteIdentifier(column) // has no text of its own on the way to Kafka
	}
	percent := 100.0
	if size > sampled {
		percent *= sampled / float64(size)
	}
	err = c.conn.QueryRow(
		ctx,
		fmt.Sprintf("select coalesce(max(octet_length(%s)), 0)::bigint from %s tablesample system (%f)", value, t.source(), percent),
	).Scan(&largest)
	if err != nil {
		return 0, c.explainOutbox(t, err)
	}
	return largest, nil
}
