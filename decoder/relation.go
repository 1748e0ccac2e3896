package decoder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// Mapping says where in the outbox table the parts of an event are.
type Mapping struct {
	// Schema and Table name the outbox table. Rows of other tables are ignored.
	Schema, Table string
	// RelationID is the table's OID, or 0. The WAL may hold rows from a time when
	// the table had another name. They are outbox rows nevertheless, in
	// transactions that commit at RelationSince or later.
	RelationID    uint32
	RelationSince replication.LSN
	// Columns are the mapped columns; an attribute that is missing is not mapped.
	Columns map[Attribute]string
	// Extensions maps CloudEvents extension names to columns.
	Extensions map[string]string
	// Charset converts the text of messages to UTF-8; nil: it is in UTF-8, or
	// meant to be.
	Charset *replication.Charset
}

// ColumnNames lists every mapped column once, sorted.
func (m Mapping) ColumnNames() []string {
	var names []string
	for _, column := range m.Columns {
		names = append(names, column)
	}
	for _, column := range m.Extensions {
		names = append(names, column)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// relation is the outbox table as the last Relation message described it.
// Columns are found by name, never by position (R14).
type relation struct {
	outbox  bool
	named   bool // it has the outbox table's name
	columns []column
}

type column struct {
	name    string
	typeOID uint32
	// Where the value goes; a column may serve several attributes.
	targets []int // index into Decoder.values
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
func (d *Decoder) name(c *cursor) string { return string(d.mapping.Charset.UTF8(c.text())) }

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
	named := schema == d.mapping.Schema && table == d.mapping.Table
	if named {
		d.succeed(id)
	}
	outbox := named || id == d.mapping.RelationID && id != 0 && d.event.Position.Commit >= d.mapping.RelationSince
	if known := d.relations[id]; known != nil && known.outbox && !outbox {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"outbox table %s.%s was renamed to %s.%s in the transaction committing at %s",
				d.mapping.Schema, d.mapping.Table, schema, table, d.event.Position.Commit,
			),
			"set outbox.table to the new name, or rename the table back",
		))
	}
	r := &relation{outbox: outbox, named: named, columns: columns}
	d.relations[id] = r
	if outbox {
		return d.plan(r)
	}
	return nil
}

// succeed records which table has the outbox table's name. A table that had the
// name before has lost it, and its rows are no outbox rows from here on.
func (d *Decoder) succeed(id uint32) {
	for former, r := range d.relations {
		if !r.named || former == id {
			continue
		}
		d.relations[former] = &relation{columns: r.columns}
		if former == d.mapping.RelationID {
			d.mapping.RelationID, d.mapping.RelationSince = id, d.event.Position.Commit
		}
	}
}

// plan finds every mapped column and records where its value goes.
func (d *Decoder) plan(r *relation) error {
	var missing []string
	for target, name := range d.targets {
		i := slices.IndexFunc(r.columns, func(c column) bool { return c.name == name })
		if i < 0 {
			missing = append(missing, name)
			continue
		}
		r.columns[i].targets = append(r.columns[i].targets, target)
	}
	if len(missing) > 0 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"the stream has no column %s of outbox table %s.%s as of the transaction committing at %s",
				strings.Join(missing, ", "), d.mapping.Schema, d.mapping.Table, d.event.Position.Commit,
			),
			"map the column's new name under outbox.columns, or bring it back: restore it, publish it, or, if it is generated, DROP EXPRESSION; "+
				"rows committed before that stay without it: pass over them with `streamer checkpoint set`, start `streamer run`, and publish "+
				"them from the table with `streamer replay --missing` (docs/how-to/incidents.md#a-column-is-not-in-the-stream)",
		))
	}
	return nil
}
