package debezium

import (
	"slices"
	"strings"
)

// router is one Outbox Event Router.
type router struct {
	*translator
	name   string
	outbox outbox
	exact  bool // whether the topics are those of Debezium
}

func (t *translator) router(name string) *router {
	return &router{translator: t, name: name, outbox: outbox{
		Columns: map[string]string{}, Extensions: map[string]string{}, Headers: map[string]string{},
	}}
}

// option is the full name of an option of the router.
func (r *router) option(name string) string { return "transforms." + r.name + "." + name }

// columns translates which column holds what.
func (r *router) columns() {
	for _, c := range []struct{ option, key, fallback string }{
		{"table.field.event.id", "id", "id"},
		{"table.field.event.key", "aggregate_id", "aggregateid"},
		{"table.field.event.type", "type", "type"},
		{"table.field.event.payload", "payload", "payload"},
		{"route.by.field", "aggregate_type", "aggregatetype"},
	} {
		name, key := r.option(c.option), "outbox.columns."+c.key
		column, ok := r.literal(name, key)
		if !ok {
			column = c.fallback
		} else {
			r.same(name, "", key)
		}
		r.outbox.Columns[c.key] = column
	}
	if !r.has(r.option("table.field.event.type")) {
		r.remark("outbox.columns.type", untoldType)
	}
	r.eventTime()
	name := r.option("table.field.event.schema.version")
	if column, ok := r.inPlace(name); ok {
		r.outbox.Extensions["schemaversion"] = column
		r.differs(name, "there is no schema of Kafka Connect whose version it could be; the column becomes the header ce_schemaversion",
			"consumers that read the version of the schema", "outbox.extensions.schemaversion")
	}
}

// untoldType is about a column that Debezium needs only where it is placed.
const untoldType = "Debezium does not read this column unless it is placed somewhere, and the streamer does. If the table has none, " +
	"leave this empty and set outbox.defaults.type."

// eventTime translates the column that Debezium takes for the timestamp of a
// record.
func (r *router) eventTime() {
	const key = "outbox.columns.time"
	name := r.option("table.field.event.timestamp")
	if column, ok := r.literal(name, key); ok {
		r.outbox.Columns["time"] = column
		r.differs(name, "the attribute time is the column's value; the timestamp of the record is the time of the commit",
			"consumers and topics that use the timestamp of a record", key)
	}
}

// route translates the topic.
func (r *router) route() {
	regexName, replacementName := r.option("route.topic.regex"), r.option("route.topic.replacement")
	const key = "kafka.topic"
	for _, name := range []string{regexName, replacementName} {
		if _, isReference := findReference(name, r.value(name, "")); isReference && name == replacementName {
			r.literal(name, key)
			r.lacksOrSame(regexName, "the replacement is kept elsewhere")
			r.outbox.Topic = "outbox.event." + wholeValue
			return
		}
	}
	regex := r.value(regexName, defaultRegex)
	found, err := deriveRouting(regex, r.value(replacementName, defaultReplacement))
	if err != nil {
		action := "list the aggregate types under routes, each with its topic; or add a column with the topic and map it as outbox.columns.topic"
		for _, name := range []string{regexName, replacementName} {
			r.lacks(name, err.Error(), action)
		}
		r.remark(key, "Not that of the connector: "+err.Error()+".")
		r.outbox.Topic = "outbox.event." + wholeValue
		return
	}
	r.exact = true
	r.outbox.Topic, r.outbox.Routes = found.topic, found.routes
	keys := []string{key}
	if len(found.routes) > 0 {
		keys = append(keys, "routes")
	}
	for _, name := range []string{regexName, replacementName} {
		r.same(name, "", keys...)
	}
	if slices.ContainsFunc(found.routes, func(r route) bool { return strings.Contains(r.AggregateType, "*") }) {
		r.remark("routes", "In a pattern, * does not stand for a slash.")
	}
}

// events says how records differ as a whole.
func (r *router) events() {
	const rest = "the timestamp of a record is the time of the commit, and not that of processing. A row whose ID, aggregate type, " +
		"aggregate ID or type is NULL or empty is not published: poison.policy says what happens to it"
	if r.flavour != "" {
		r.differs(r.option("type"), "events are CloudEvents: there are further headers that begin with ce_, and "+rest+". "+
			compatibilityKey+" keeps all other parts for consumers of the connector", "consumers that read the timestamp; tables with such rows",
			compatibilityKey)
		return
	}
	r.differs(r.option("type"), "events are CloudEvents: the header id is ce_id, there are further headers that begin with ce_, and "+rest+
		". "+compatibilityKey+" is not set, because "+r.incompatible,
		"consumers that read the header id, above all to deduplicate, or the timestamp; tables with such rows")
}

func (r *router) lacksOrSame(name, why string) {
	if r.value(name, defaultRegex) == defaultRegex {
		r.same(name, "", "kafka.topic")
		return
	}
	r.lacks(name, why, "set kafka.topic and routes")
}

// behaviour translates what the router does about surprises, and tracing.
func (r *router) behaviour() {
	r.events()
	if name := r.option("table.op.invalid.behavior"); r.value(name, "warn") == "fatal" {
		r.lacks(name, "the streamer asks the server for inserts only, so it does not see that a row is updated",
			"forbid updates in the database, by a trigger or by taking away the right, if they are a mistake")
	} else {
		r.differs(name, "updates of rows publish nothing, as in Debezium, and are not logged either: the streamer asks the server for "+
			"inserts only", "searches of the log for that message")
	}
	if name := r.option("table.fields.additional.error.on.missing"); r.isTrue(name, true) {
		r.same(name, "a mapped column that the table lacks is refused at the start")
	} else {
		r.differs(name, "a mapped column that the table lacks is refused at the start",
			"tables of which some lack a column: make each an entry of outboxes with its own extensions")
	}
	if strings.Contains(r.remarks["outbox.columns.type"], untoldType) {
		r.notes = append(r.notes, Entry{
			Option: r.option("table.field.event.type") + " (not set: type)", Says: untoldType, Concerns: "tables without a column type",
			Keys: []string{"outbox.columns.type"},
		})
	}
	for _, name := range []string{"tracing.span.context.field", "tracing.operation.name", "tracing.with.context.field.only"} {
		r.lacks(r.option(name), "the streamer does not read the context that Debezium's extensions write, which is a list of Java properties",
			"write a W3C traceparent to a column and map it as outbox.columns.traceparent")
	}
}

// extension notes a column that becomes an attribute of its own.
func (r *router) extension(name, column string) bool {
	if taken, ok := r.outbox.Extensions[name]; ok && taken != column {
		return false
	}
	r.outbox.Extensions[name] = column
	return true
}
