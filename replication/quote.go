package replication

import "strings"

// Replication commands take no parameters, and pglogrepl splices its arguments
// unquoted, so names are quoted here (S-01).

func quoteIdentifier(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func quoteLiteral(text string) string {
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}

// QuoteTable quotes a schema-qualified name, "public.outbox", for SQL.
func QuoteTable(name string) string {
	schema, table := SplitTable(name)
	return quoteIdentifier(schema) + "." + quoteIdentifier(table)
}

// SplitTable splits a schema-qualified name at its first dot. A name without a
// dot is in schema public.
func SplitTable(name string) (schema, table string) {
	if schema, table, ok := strings.Cut(name, "."); ok {
		return schema, table
	}
	return "public", name
}
