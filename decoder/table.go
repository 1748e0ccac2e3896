package decoder

import (
	"cmp"
	"maps"
	"slices"

	"github.com/outboxstream/streamer/internal/pgname"
)

// table is an outbox table, and where its values go.
type table struct {
	mapping    Mapping
	name       pgname.Table
	index      int                     // of the mapping
	targets    []string                // column names; values are filled in the same order
	pointers   []*pointer              // by target; nil if no target has one
	defaults   *[attributeCount][]byte // nil if there are none
	unit       int64                   // of a time that is a number, in microseconds
	attributes []Attribute
	extensions []Extension // sorted by name; their values follow the attributes'
	headers    []Header    // their values follow the extensions'
	values     []value     // of the last row
}

func newTable(index int, m Mapping) *table {
	t := &table{mapping: m, name: pgname.Table{Schema: m.Schema, Name: m.Table}, index: index, unit: cmp.Or(m.TimeUnit, milliseconds)}
	if m.Messages != "" {
		t.target(Content)
	}
	for _, a := range Attributes() {
		if column := m.Columns[a]; column != "" && m.Messages == "" {
			t.attributes = append(t.attributes, a)
			t.target(column)
		}
		if constant := m.Defaults[a]; constant != "" {
			if t.defaults == nil {
				t.defaults = new([attributeCount][]byte)
			}
			t.defaults[a] = []byte(constant)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Extensions)) {
		t.extensions = append(t.extensions, Extension{Name: name})
		t.target(m.Extensions[name])
	}
	for _, reference := range m.Headers {
		t.target(reference)
	}
	if len(m.Headers) > 0 {
		t.headers = make([]Header, len(m.Headers))
	}
	if !slices.ContainsFunc(t.pointers, func(p *pointer) bool { return p != nil }) {
		t.pointers = nil
	}
	t.values = make([]value, len(t.targets))
	return t
}

// target adds where a value comes from.
func (t *table) target(reference string) {
	column, p := newTarget(reference)
	t.targets, t.pointers = append(t.targets, column), append(t.pointers, p)
}

// tableNamed returns the outbox table with this name, or whose pattern the name
// matches, or nil.
func (d *Decoder) tableNamed(schema, name string) *table {
	for _, t := range d.tables {
		if t.mapping.Messages == "" && t.name.Matches(schema, name) {
			return t
		}
	}
	return nil
}

// tableOf returns the outbox table that a relation of another name is at this
// point of the WAL, or nil.
func (d *Decoder) tableOf(relation uint32) *table {
	for _, t := range d.tables {
		if relation == t.mapping.RelationID && relation != 0 && d.event.Position.Commit >= t.mapping.RelationSince {
			return t
		}
	}
	return nil
}
