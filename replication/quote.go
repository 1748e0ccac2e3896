package replication

import (
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// Replication commands take no parameters, and pglogrepl splices its arguments
// unquoted, so names are quoted here (S-01).

func quoteIdentifier(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func quoteLiteral(text string) string {
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}

// QuoteTable quotes a table's name in the configuration, "public.outbox", for SQL.
func QuoteTable(name string) string {
	schema, table := SplitTable(name)
	return quoteIdentifier(schema) + "." + quoteIdentifier(table)
}

// SplitTable splits a table's name as it is in the configuration. A name
// without a schema is in schema public.
func SplitTable(name string) (schema, table string) {
	t, _ := pgname.Parse(name) // the configuration has been checked
	return t.Schema, t.Name
}
