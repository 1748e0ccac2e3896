package debezium

import (
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// selection is the set of tables that the connector captures.
type selection struct {
	tables  []pgname.Table
	isKnown bool   // whether the files name them
	option  string // which names them
	prefix  string // of the topics that the router sees
}

// selectTables translates the lists of schemas and tables.
func (t *translator) selectTables() selection {
	s := selection{prefix: t.value("topic.prefix", t.value("database.server.name", ""))}
	include, schemas := "table.include.list", "schema.include.list"
	for current, former := range map[*string]string{&include: "table.whitelist", &schemas: "schema.whitelist"} {
		if !t.has(*current) && t.has(former) {
			*current = former
		}
	}
	switch {
	case t.has(include):
		s = t.included(s, include, schemas)
	case t.has(schemas):
		found, err := schemasOf(splitPatterns(t.value(schemas, "")))
		t.selected(schemas, err)
		s.tables, s.option, s.isKnown = found, schemas, err == nil
	}
	for _, name := range []string{"table.exclude.list", "schema.exclude.list", "table.blacklist", "schema.blacklist"} {
		t.lacks(name, "the streamer reads only the tables that are named", "name the outbox table in outbox.table, or a pattern in outboxes")
	}
	return s
}

// included reads table.include.list, as far as the schemas are included as
// well.
func (t *translator) included(s selection, include, schemas string) selection {
	var problem error
	for _, pattern := range splitPatterns(t.value(include, "")) {
		tables, err := tablesOf(pattern)
		if err != nil {
			problem = err
		}
		s.tables = append(s.tables, tables...)
	}
	if problem != nil {
		s.tables = nil
	}
	t.selected(include, problem)
	s.option, s.isKnown = include, problem == nil
	if !t.has(schemas) {
		return s
	}
	isIncluded, err := matcher(splitPatterns(t.value(schemas, "")), true)
	if err != nil {
		t.selected(schemas, err)
		return s
	}
	s.tables = slices.DeleteFunc(s.tables, func(table pgname.Table) bool {
		return !strings.Contains(table.Schema, "*") && !isIncluded(table.Schema)
	})
	t.same(schemas, "the tables are named", "outbox.table")
	return s
}

// selected notes what became of a list.
func (t *translator) selected(name string, err error) {
	value := t.value(name, "")
	_, isReference := findReference(name, value)
	switch {
	case isReference:
		t.literal(name, "outbox.table")
	case err != nil:
		t.lacks(name, err.Error(), "name the outbox table in outbox.table, or several in outboxes, where * stands for any text")
	case value != strings.ToLower(value):
		t.differs(name, "names are as in the catalog, where capitals count; Debezium ignores case",
			"tables whose names are spelled in another way in the catalog", "outbox.table")
	default:
		t.same(name, "", "outbox.table")
	}
}

// routed are the tables whose rows come to the router, sorted.
func (r *router) routed(s selection) []string {
	accepts, ok := r.predicate(s)
	if !ok {
		return nil
	}
	var names []string
	for _, table := range s.tables {
		if accepts == nil || table.IsPattern() || accepts(s.prefix+"."+table.Schema+"."+table.Name) {
			names = append(names, table.String())
		}
	}
	if len(s.tables) == 0 || len(names) > 0 && accepts != nil && s.tables[0].IsPattern() {
		if named := r.namedByPredicate(s); named != nil {
			names = named
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// leftOut notes the tables that are captured and are no outbox, and that no
// table is known.
func (t *translator) leftOut(s selection, entries []outbox) {
	isPublished := func(name string) bool {
		return slices.ContainsFunc(entries, func(o outbox) bool { return o.Table == name })
	}
	var left []string
	for _, table := range s.tables {
		if name := table.String(); !table.IsPattern() && !isPublished(name) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		t.differs(s.option, "only outbox tables are published, and these are not: "+strings.Join(left, ", "),
			"consumers of their changes: keep a connector for them", "outbox.table")
	}
	if !isPublished("") {
		return
	}
	option := "outbox table (not set: none found)"
	if s.option == "" {
		option = "table.include.list (not set: all tables)"
	} else if t.findings[s.option].verdict == noEquivalent {
		return // which says it
	}
	t.refusals = append(t.refusals, Entry{
		Option: option, Says: "the files do not say which table is the outbox", Action: "name it in outbox.table, or several in outboxes",
	})
}
