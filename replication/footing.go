package replication

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// version is one version of a catalog row. It was in force, without a gap, from
// the commit of the transaction that created it to the commit of the
// transaction that ended it.
type version struct {
	OID   uint32 `json:"o"`
	XMin  uint32 `json:"x"` // the transaction that created it
	Owner uint32 `json:"w,omitempty"`
	// XMax is the transaction that ended it, or 0 if unknown. Only a snapshot
	// taken earlier shows that transaction.
	XMax uint32 `json:"-"`
}

// sameAs reports whether both are the same version of the same row.
func (v version) sameAs(w version) bool { return v.OID == w.OID && v.XMin == w.XMin }

// passesTo reports whether there was no committed state in which neither v nor w
// was in force.
func (v version) passesTo(w version) bool {
	return v.OID != 0 && w.OID != 0 && (v.sameAs(w) || v.XMax != 0 && v.XMax == w.XMin)
}

// footing is the basis on which rows of the outbox table are published: the
// versions of catalog rows, as of one moment. docs/adr/0009 explains the
// choice.
type footing struct {
	Publication version `json:"p"`
	AllTables   bool    `json:"a,omitempty"`
	Table       uint32  `json:"t"`
	Schema      uint32  `json:"s"`
	Name        uint32  `json:"n"` // a hash of the configured name
	// Type is the table's row type. It changes exactly when the table is renamed,
	// moved to another schema or given to another owner.
	Type version `json:"y"`
	// Born is the transaction that created the table.
	Born uint32 `json:"b"`
	// Entry and SchemaEntry are the entries of the table and its schema in the
	// publication, if any.
	Entry       version `json:"e,omitzero"`
	SchemaEntry version `json:"c,omitzero"`
	// Rewritten holds those of the outbox table and its partitions that ALTER
	// TABLE has rewritten, as SET LOGGED does, each with its storage.
	Rewritten map[uint32]uint32 `json:"r,omitempty"`

	// Since is the end of the WAL when the table was first seen to have the name;
	// 0 if it always had it.
	Since LSN `json:"l,omitempty"`

	class   version            // of the table in pg_class, which changes often
	entries map[uint32]version // by table: all entries in the publication
	types   map[uint32]version // by table: of all tables in the publication
	// storage holds, for the outbox table and each partition, the relation that a
	// rewrite by ALTER TABLE replaces. That is the TOAST table. A table too narrow
	// to have a TOAST table is represented by its file, which TRUNCATE and VACUUM
	// FULL replace as well.
	storage map[uint32]version
}

// footingSQL returns one row for each version: its kind, the number of the outbox
// table that it is about (0: all of them), the table or schema it is about, and
// the version. The catalog of schemas in publications is newer than PostgreSQL
// 14.
const footingSQL = `with outbox as (
		select number, c.oid, c.relnamespace, c.reltype
		from unnest($2::text[], $3::text[]) with ordinality as named(schema, name, number)
			join pg_namespace n on n.nspname = schema join pg_class c on c.relnamespace = n.oid and c.relname = name and c.relkind in ('r', 'p')),
	publication as (select oid, xmin, xmax, pubowner, puballtables from pg_publication where pubname = $1),
	entry as (select oid, xmin, xmax, prrelid from pg_publication_rel where prpubid in (select oid from publication)),
	stored as (select number, oid from outbox union select number, relid from outbox, pg_partition_tree(outbox.oid))
	select what, number, about, oid, xmin::text::bigint, xmax::text::bigint, owner from (
		select case when puballtables then 'all' else 'some' end as what, 0 as number, 0::oid as about, oid, xmin, xmax, pubowner as owner
			from publication
		union all select 'entry', 0, prrelid, oid, xmin, xmax, 0 from entry
		union all select 'type', 0, typrelid, oid, xmin, xmax, typowner from pg_type
			where typrelid in (select oid from outbox union select prrelid from entry)
		union all select 'table', number, c.relnamespace, c.oid, c.xmin, c.xmax, c.relowner from pg_class c join outbox using (oid)
		union all select 'born', number, a.attrelid, 0, a.xmin, a.xmax, 0 from pg_attribute a join outbox on outbox.oid = a.attrelid
			where a.attname = 'tableoid'
		union all select case when toast.xmin = own.xmin or c.relfilenode = c.oid then 'storage' else 'rewritten' end, number, c.oid,
				coalesce(toast.attrelid, c.relfilenode), coalesce(toast.xmin, c.xmin), coalesce(toast.xmax, c.xmax), 0
			from pg_class c join stored using (oid)
			join pg_attribute own on own.attrelid = c.oid and own.attname = 'tableoid'
			left join pg_attribute toast on toast.attrelid = c.reltoastrelid and toast.attname = 'tableoid'
			where c.relkind = 'r'
		%s
	) versions`

const schemaEntrySQL = `union all select 'schema', number, pnnspid, e.oid, e.xmin, e.xmax, 0
			from pg_publication_namespace e join outbox on outbox.relnamespace = pnnspid where pnpubid in (select oid from publication)`

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error)
}

// readFooting is readFootings for one table.
func readFooting(ctx context.Context, q querier, server, publication string, o Outbox) (footing, error) {
	footings, err := readFootings(ctx, q, server, publication, []Outbox{o})
	if err != nil {
		return footing{}, err
	}
	return footings[0], nil
}

// readFootings reads the versions that the querier's snapshot sees, for each
// table. The transactions that ended the versions are as of now.
func readFootings(ctx context.Context, q querier, server, publication string, outboxes []Outbox) ([]footing, error) {
	sql := fmt.Sprintf(footingSQL, schemaEntrySQL)
	if strings.HasPrefix(server, "14") {
		sql = fmt.Sprintf(footingSQL, "")
	}
	entries, types := map[uint32]version{}, map[uint32]version{} // the same for all
	footings := make([]footing, len(outboxes))
	schemas, names := make([]string, len(outboxes)), make([]string, len(outboxes))
	for i, o := range outboxes {
		schemas[i], names[i] = SplitTable(o.Table)
		footings[i] = footing{
			Name: nameHash(o.Table), Rewritten: map[uint32]uint32{}, entries: entries, types: types, storage: map[uint32]version{},
		}
	}
	rows, err := q.Query(ctx, sql, publication, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("state of publication %q: %w", publication, err)
	}
	var what string
	var number int
	var about uint32
	var xmin, xmax int64
	var v version
	_, err = pgx.ForEachRow(rows, []any{&what, &number, &about, &v.OID, &xmin, &xmax, &v.Owner}, func() error {
		v.XMin, v.XMax = uint32(xmin), uint32(xmax)
		if number > 0 {
			footings[number-1].add(what, about, v)
			return nil
		}
		for i := range footings {
			footings[i].add(what, about, v)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("state of publication %q: %w", publication, err)
	}
	for i := range footings {
		f := &footings[i]
		f.Entry, f.Type = f.entries[f.Table], f.types[f.Table]
	}
	return footings, nil
}

func (f *footing) add(what string, about uint32, v version) {
	switch what {
	case "all", "some":
		f.Publication, f.AllTables = v, what == "all"
	case "entry":
		f.entries[about] = v
	case "type":
		f.types[about] = v
	case "table":
		f.Table, f.Schema, f.class = v.OID, about, v
	case "born":
		f.Born = v.XMin
	case "rewritten":
		f.Rewritten[about] = v.OID
		f.storage[about] = v
	case "storage":
		f.storage[about] = v
	case "schema":
		f.SchemaEntry = v
	}
}

// nameHash distinguishes names without storing them.
func nameHash(name string) uint32 {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	return hash.Sum32()
}

// same reports whether nothing changed between two looks.
func (f footing) same(g footing) bool {
	f.Since, g.Since = 0, 0 // not part of the catalog
	return f.String() == g.String() && f.class.sameAs(g.class) &&
		maps.EqualFunc(f.entries, g.entries, version.sameAs) && maps.EqualFunc(f.types, g.types, version.sameAs)
}

// String is the form that the checkpoint keeps.
func (f footing) String() string {
	text, _ := json.Marshal(f) // numbers
	return string(text)
}

// paths are the ways in which the table is published; one is enough.
func (f footing) paths() []version {
	var paths []version
	if f.AllTables {
		paths = append(paths, f.Publication)
	}
	for _, entry := range []version{f.SchemaEntry, f.Entry} {
		if entry.OID != 0 {
			paths = append(paths, entry)
		}
	}
	return paths
}

// gap says why rows committed between f and now may be in no stream. It returns
// "" where that is impossible: in every committed state in between, the table
// of this name was published.
func (f footing) gap(now footing) string {
	switch {
	case !f.Publication.passesTo(now.Publication) && !givenAway(f.Publication, now.Publication):
		return "the publication was altered or created again"
	case f.AllTables && now.AllTables: // regardless of the tables' names
	case f.Table != now.Table && f.SchemaEntry.passesTo(now.SchemaEntry) && f.Schema == now.Schema: // any table of the schema
	case f.Table != now.Table:
		if !f.swapped(now) {
			return "another table has its name now, and nothing shows that names and publication changed in one transaction"
		}
	case !slices.ContainsFunc(f.paths(), func(before version) bool { return slices.ContainsFunc(now.paths(), before.passesTo) }):
		return "it was taken out and added again"
	case f.Name == now.Name && !f.Type.passesTo(now.Type) && !givenAway(f.Type, now.Type):
		return "it was renamed or moved to another schema and back"
	}
	for table := range now.Rewritten {
		if !f.logged(now, table) {
			return "it was rewritten by ALTER TABLE, as when it is made UNLOGGED and LOGGED again"
		}
	}
	return ""
}

// logged reports whether the table, which is logged now and was logged before,
// cannot have been UNLOGGED in between. The server refuses to make a table
// UNLOGGED that has an entry in a publication ("cannot change table to unlogged
// because it is part of a publication"). A single rewrite cannot make a table
// UNLOGGED and undo that.
func (f footing) logged(now footing, table uint32) bool {
	return f.Rewritten[table] == now.Rewritten[table] || f.storage[table].passesTo(now.storage[table]) ||
		table == now.Table && f.Table == now.Table && f.Entry.passesTo(now.Entry)
}

// givenAway reports whether a change of owner explains that v became w.
func givenAway(v, w version) bool {
	return v.OID == w.OID && v.XMax == 0 && v.Owner != 0 && w.Owner != 0 && v.Owner != w.Owner
}

// swapped reports whether one transaction moved the name from the former table
// to the new one. The former table must have been published until then and the
// new one from then on.
func (f footing) swapped(now footing) bool {
	at := now.Type.XMin // when the new table got its name
	former, still := now.types[f.Table]
	if f.Type.XMax != at && (!still || former.XMin != at) {
		return false
	}
	until := now.entries[f.Table].sameAs(f.Entry) || f.Entry.XMax == at
	since := now.Entry.XMin == at || now.Entry.XMin == now.Born || f.entries[now.Table].sameAs(now.Entry)
	return f.Entry.OID != 0 && now.Entry.OID != 0 && until && since
}
