package decoder

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Mapping says where in an outbox table the parts of an event are.
type Mapping struct {
	// Schema and Table name the outbox table, or are a pattern of the names of
	// several (see pgname.Table.IsPattern). Rows of other tables are ignored.
	Schema, Table string
	// Messages is the prefix of messages that are CloudEvents in JSON; empty: the
	// mapping is of a table. The columns are then those of MessageColumns.
	Messages string
	// RelationID is the table's OID, or 0. The WAL may hold rows from a time when
	// the table had another name. They are outbox rows nevertheless, in
	// transactions that commit at RelationSince or later.
	RelationID    uint32
	RelationSince replication.LSN
	// Columns are the mapped columns, or column#/json/pointer; an attribute that
	// is missing is not mapped.
	Columns map[Attribute]string
	// Extensions maps CloudEvents extension names to columns, or the same.
	Extensions map[string]string
	// Headers are the columns, or the same, of record headers of their own. With
	// AsDebezium their values are what Debezium makes of them; otherwise they are
	// in the canonical string form of CloudEvents.
	Headers    []string
	AsDebezium bool
	// Defaults are the values of text attributes where no column is mapped, or
	// where it has none.
	Defaults map[Attribute]string
	// TimeUnit is the unit of a time that is a number, in microseconds; 0: a
	// millisecond.
	TimeUnit int64
	// Charset converts the text of messages to UTF-8; nil: it is in UTF-8, or
	// meant to be. It is the database's, and so the same for all its tables.
	Charset *replication.Charset
}

// Located returns the mappings for a stream from a server with these tables,
// whose database has this encoding. Those of a pattern find their tables by name
// only.
func Located(mappings []Mapping, tables []replication.Table, encoding string) []Mapping {
	located := slices.Clone(mappings)
	for i := range located {
		located[i].Charset = replication.NewCharset(encoding)
	}
	for _, t := range tables {
		m := &located[t.Outbox.Entry]
		if t.Outbox.Pattern == "" {
			m.RelationID, m.RelationSince = t.OID, t.Since()
		}
	}
	return located
}

// ColumnNames lists every mapped column once, sorted.
func (m Mapping) ColumnNames() []string {
	var names []string
	for _, reference := range m.references() {
		name, _ := ColumnName(reference)
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Documents lists every mapped column that must hold JSON once, sorted.
func (m Mapping) Documents() []string {
	var names []string
	for _, reference := range m.references() {
		if name, inside := ColumnName(reference); inside {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m Mapping) references() []string {
	return slices.Concat(slices.Collect(maps.Values(m.Columns)), slices.Collect(maps.Values(m.Extensions)), m.Headers)
}

// relation is the outbox table as the last Relation message described it.
// Columns are found by name, never by position (R14).
type relation struct {
	table   *table // nil: no outbox table
	named   bool   // it has the outbox table's name
	names   Names
	columns []column
	rows    int64 // that Rows has not returned yet
}

// count hands over what Rows has not returned yet.
func (r *relation) count(visit func(table string, rows int64)) {
	if r.rows > 0 {
		visit(r.names.Name, r.rows)
		r.rows = 0
	}
}

type column struct {
	name    string
	typeOID uint32
	// Where the value goes; a column may serve several attributes.
	targets []int // index into table.values
}

// typeMessage records the built-in type on which a domain is based. Values of a
// domain come with its own OID but look like its base type, which this message
// names.
func (d *Decoder) typeMessage(c *cursor) error {
	id := c.uint32()
	schema, name := d.name(c), d.name(c)
	if c.short {
		return errShort("type")
	}
	base, known := builtInTypes[name]
	if known && schema == "" { // pg_catalog, as pgoutput spells it
		d.baseTypes[id] = base
	} else {
		delete(d.baseTypes, id)
	}
	return nil
}

// name reads the name of an object.
func (d *Decoder) name(c *cursor) string { return string(d.charset.UTF8(c.text())) }

func (d *Decoder) relationMessage(c *cursor) error {
	id := c.uint32()
	schema, table := d.name(c), d.name(c)
	c.uint8() // replica identity
	count := int(c.uint16())
	columns := make([]column, 0, min(count, 1664)) // PostgreSQL's limit
	for range count {
		c.uint8() // key flag
		name := d.name(c)
		typeOID := c.uint32()
		c.uint32() // type modifier
		if c.short {
			break
		}
		if base, ok := d.baseTypes[typeOID]; ok {
			typeOID = base
		}
		columns = append(columns, column{name: name, typeOID: typeOID})
	}
	if c.short {
		return errShort("relation")
	}
	if schema == "" {
		schema = "pg_catalog" // that is how pgoutput spells it
	}
	r := &relation{table: d.tableNamed(schema, table), columns: columns, names: NamesOf(schema, table)}
	if r.table != nil {
		r.named = true
		d.succeed(r, id)
	} else if r.table = d.tableOf(id); r.table != nil {
		r.names = NamesOf(r.table.mapping.Schema, r.table.mapping.Table)
	}
	if known := d.relations[id]; known != nil && known.table != nil && r.table == nil {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"outbox table %s was renamed to %s.%s in the transaction committing at %s",
				known.names.Table, schema, table, d.event.Position.Commit,
			),
			"set outbox.table to the new name, or rename the table back",
		))
	}
	d.relations[id] = r
	if r.table != nil {
		return d.plan(r)
	}
	return nil
}

// succeed records which relation has the outbox table's name. A relation that
// had the name before has lost it, and its rows are no outbox rows from here on.
func (d *Decoder) succeed(named *relation, id uint32) {
	t := named.table
	for former, r := range d.relations {
		if !r.named || r.table != t || !bytes.Equal(r.names.Table, named.names.Table) || former == id {
			continue
		}
		d.relations[former] = &relation{columns: r.columns}
		if former == t.mapping.RelationID {
			t.mapping.RelationID, t.mapping.RelationSince = id, d.event.Position.Commit
		}
	}
}

// plan finds every mapped column and records where its value goes.
func (d *Decoder) plan(r *relation) error {
	var missing []string
	for target, name := range r.table.targets {
		i := slices.IndexFunc(r.columns, func(c column) bool { return c.name == name })
		if i < 0 && !slices.Contains(missing, name) { // several pointers may lead into it
			missing = append(missing, name)
		}
		if i < 0 {
			continue
		}
		r.columns[i].targets = append(r.columns[i].targets, target)
	}
	if len(missing) > 0 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"the stream has no column %s of outbox table %s as of the transaction committing at %s",
				strings.Join(missing, ", "), r.names.Table, d.event.Position.Commit,
			),
			"map the column's new name under outbox.columns, or bring it back: restore it, publish it, or, if it is generated, DROP EXPRESSION; "+
				"rows committed before that stay without it: pass over them with `streamer checkpoint set`, start `streamer run`, and publish "+
				"them from the table with `streamer replay --missing` (docs/how-to/incidents.md#a-column-is-not-in-the-stream)",
		))
	}
	return nil
}
