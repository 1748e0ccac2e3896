package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Column is a column of the outbox table.
type Column struct {
	Name string
	Type string // as format_type prints it
	// Base is the type without a length or precision. For a domain, it is the type
	// on which the domain is based.
	Base string
	// Generated is how the server computes the column: generatedStored,
	// generatedVirtual, or empty for an ordinary column.
	Generated string
}

// The values of pg_attribute.attgenerated.
const (
	generatedStored  = "s"
	generatedVirtual = "v"
)

// describeColumns resolves domains, whose values the stream carries as those of
// their base types.
func (c *Control) describeColumns(ctx context.Context, t *Table) error {
	rows, err := c.conn.Query(ctx, `select a.attname::text, format_type(a.atttypid, a.atttypmod), (
			with recursive base as (select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = a.atttypid
				union all select t.oid, t.typtype, t.typbasetype from base join pg_type t on t.oid = base.typbasetype where base.typtype = 'd')
			select format_type(oid, null) from base where typtype <> 'd'), a.attgenerated::text
		from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum`, t.OID)
	if err == nil {
		t.Columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Column])
	}
	if err != nil {
		return fmt.Errorf("columns of table %s: %w", t.Outbox.Table, err)
	}
	return nil
}

// column finds a column by its name.
func (t Table) column(name string) (Column, bool) {
	at := slices.IndexFunc(t.Columns, func(have Column) bool { return have.Name == name })
	if at < 0 {
		return Column{}, false
	}
	return t.Columns[at], true
}

// columnType is the base type of a column, or empty if there is no such column.
func columnType(t Table, name string) string {
	column, _ := t.column(name)
	if column.Base == "" {
		return column.Type
	}
	return column.Base
}

func columnNames(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// checkColumns checks that the mapped columns exist and can be read.
func checkColumns(t Table, c Config) []Finding {
	var found []Finding
	for _, name := range t.Outbox.Columns {
		column, ok := t.column(name)
		switch {
		case !ok:
			found = append(found, Finding{
				true, fmt.Sprintf("outbox table %s has no column %q", t.Outbox.Table, name),
				"add the column, or map another one under outbox.columns, or a constant under outbox.defaults; the table has " +
					columnNames(t.Columns),
			})
		case c.Binary && !slices.Contains(binaryTypes, columnType(t, name)):
			found = append(found, Finding{
				true, fmt.Sprintf("column %q of %s is %s, whose binary form is not known", name, t.Outbox.Table, column.Type),
				"set postgres.binary: false",
			})
		}
		if typ := columnType(t, name); ok && slices.Contains(t.Outbox.Documents, name) && !slices.Contains(documentTypes, typ) {
			found = append(found, Finding{
				true, fmt.Sprintf("a JSON pointer leads into column %q of %s, which is %s and holds no JSON", name, t.Outbox.Table, column.Type),
				"map a json, jsonb, text or bytea column under outbox.columns or outbox.extensions, or this one without a pointer",
			})
		}
		if ok && column.Generated != "" && !t.publishes(column) {
			found = append(found, checkGenerated(t, c, column))
		}
	}
	return append(append(found, checkTime(t)...), checkCompatible(t)...)
}

// binaryTypes are the types whose binary form the decoder reads.
var binaryTypes = []string{
	"boolean", "bytea", `"char"`, "name", "smallint", "integer", "bigint", "text", "character", "character varying", "json", "jsonb",
	"uuid", "timestamp without time zone", "timestamp with time zone",
}

// documentTypes are the types of columns into which a JSON pointer can lead.
var documentTypes = []string{"json", "jsonb", "text", "character varying", "character", "bytea"}

// publishes reports whether the values of a generated column can be in the
// stream. The first version that publishes them, PostgreSQL 18, lists them
// among the attributes if it does. Earlier ones leave them out, although
// PostgreSQL 15 lists them.
func (t Table) publishes(column Column) bool {
	return t.version >= 180000 && (!t.Published || slices.Contains(t.Attributes, column.Name))
}

// checkGenerated says how a generated column gets into the stream.
func checkGenerated(t Table, c Config, column Column) Finding {
	name := quoteIdentifier(column.Name)
	var remedies []string
	if column.Generated == generatedStored {
		remedies = append(remedies, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION, and let the application write it",
			QuoteTable(t.Outbox.Table), name))
		if t.version >= 180000 {
			remedies = append(remedies, "ALTER PUBLICATION "+quoteIdentifier(c.Publication)+" SET (publish_generated_columns = stored)")
		}
	}
	remedies = append(remedies, "map another column under outbox.columns")
	return Finding{
		true,
		fmt.Sprintf("column %q of %s is generated, and publication %q does not publish its values: they are not in the stream",
			column.Name, t.Outbox.Table, c.Publication),
		strings.Join(remedies, ", or ") + "; rows committed before that stay without it (docs/how-to/incidents.md#a-column-is-not-in-the-stream)",
	}
}

// noTimes are types from which no time can be read, or only part of one.
var noTimes = []string{
	"date", "time without time zone", "time with time zone", "interval", "smallint", "double precision", "real", "boolean", "uuid",
	"json", "jsonb", "bytea",
}

// checkTime checks the type of the time column. With an unsuitable type no row
// could be published.
func checkTime(t Table) []Finding {
	o := t.Outbox
	typ := columnType(t, o.TimeColumn)
	if o.TimeColumn != "" && (slices.Contains(noTimes, typ) || typ == "integer" && o.TimeUnit != microseconds) {
		return []Finding{{
			true, fmt.Sprintf("column %q of %s, which holds the time of an event, is %s", o.TimeColumn, o.Table, typ),
			"map a column of type timestamptz, timestamp, bigint or numeric (in outbox.time_unit), integer (seconds) or text (RFC 3339) " +
				"as outbox.columns.time, or none: then events have the time of their commit",
		}}
	}
	return nil
}
