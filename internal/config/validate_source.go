package config

import (
	"cmp"
	"fmt"
	"maps"
	"mime"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// longestIdentifier is PostgreSQL's NAMEDATALEN less one, in bytes. PostgreSQL
// truncates longer names silently.
const longestIdentifier = 63

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (k *checker) postgres() {
	p := k.Postgres
	if !slotName.MatchString(p.Slot) {
		k.add("postgres.slot", p.Slot, "use 1 to 63 lower-case letters, digits and underscores")
	}
	k.identifier("postgres.publication", p.Publication)
	if p.WALSenderTimeout > 0 && p.StatusInterval > p.WALSenderTimeout/2 {
		k.add(
			"postgres.status_interval", p.StatusInterval.String(),
			"must be at most half of postgres.wal_sender_timeout, or the server ends the connection",
		)
	}
}

func (k *checker) identifier(at, name string) {
	if name == "" || len(name) > longestIdentifier || strings.ContainsRune(name, 0) {
		k.add(at, name, "use a name of 1 to 63 bytes")
	}
}

// table checks a name that normalise has qualified.
func (k *checker) table(at, name string) {
	t, ok := pgname.Parse(name)
	if !ok || t.String() != name || strings.ContainsRune(name, 0) || len(t.Schema) > longestIdentifier || len(t.Name) > longestIdentifier {
		k.add(
			at, name,
			`write schema.table, each name spelled as in the catalog, or in double quotes if it has a dot or a quote: "my.schema".outbox`,
		)
	}
}

var (
	extensionName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

	// coreAttributes have their own columns or keys. data is the name of the
	// payload in the JSON format.
	coreAttributes = []string{
		"id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data",
	}
	// ownExtensions are set by the streamer itself.
	ownExtensions = []string{
		"sequence", "partitionkey", "traceparent", "tracestate", "correlationid", "causationid", "replay",
		"snapshot",
	}
)

// below is the path of a key of the i-th table.
func (k *checker) below(i int, key string) string { return cmp.Or(k.Entry(i), "outbox") + "." + key }

func (k *checker) outboxes() {
	if len(k.Outboxes) > 0 && !reflect.DeepEqual(k.Outbox, Default().Outbox) {
		k.addHidden("outbox", "is for a single table, and outboxes is set: make it an entry of outboxes")
	}
	seen := map[string]int{}
	for i, o := range k.Tables() {
		k.outbox(i, o)
		if first, again := seen[o.Name()]; again {
			what := "table"
			if o.Messages != "" {
				what = "messages"
			}
			k.add(k.below(i, what), cmp.Or(o.Messages, o.Table), "is that of "+k.Entry(first)+" as well: keep one of the two")
		}
		seen[o.Name()] = i
	}
}

func (k *checker) outbox(i int, o Outbox) {
	if o.Messages != "" {
		k.messages(i, o)
		k.tableTemplates(i, o)
		return
	}
	k.table(k.below(i, "table"), o.Table)
	if o.IsPattern() && len(k.Outboxes) == 0 {
		k.add("outbox.table", o.Table, "a pattern stands for several tables: make it an entry of outboxes")
	}
	k.columns(i, o)
	if o.Cleanup.Mode != CleanupNone && o.CleanupColumn() == "" {
		k.addHidden(
			k.below(i, "cleanup.time_column"),
			"name the column that says when a row was written, or map it as "+k.below(i, "columns.time"),
		)
	}
	k.extensions(k.below(i, "extensions."), o.Extensions)
	k.headers(k.below(i, "headers."), o.Headers)
	k.tableTemplates(i, o)
}

// tableTemplates checks what the table has of its own.
func (k *checker) tableTemplates(i int, resolved Outbox) {
	own := k.Outbox
	if len(k.Outboxes) > 0 {
		own = k.Outboxes[i]
	}
	known := own.placeholders()
	if own.Source != "" {
		k.source(k.below(i, "source"), own.Source, known)
	}
	if own.Topic != "" {
		k.topicTemplate(k.below(i, "topic"), own.Topic, known)
	}
	if own.Key != "" {
		k.template(k.below(i, "key"), own.Key, known)
	}
	k.tombstone(k.below(i, "null_payload"), k.CloudEvents.Mode, own.NullPayload)
	k.routes(k.below(i, "routes"), own.Routes, resolved, known)
}

func (k *checker) extensions(at string, extensions map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		switch {
		case slices.Contains(coreAttributes, name):
			k.addHidden(at+name, "this is an attribute of CloudEvents itself: map it in outbox.columns or cloudevents, or choose another name")
		case slices.Contains(ownExtensions, name):
			k.addHidden(
				at+name, "this extension is set by the streamer: map its column in outbox.columns where there is one, or choose another name",
			)
		case !extensionName.MatchString(name):
			k.addHidden(at+name, "use 1 to 20 lower-case letters and digits for the name of an extension")
		}
		k.reference(at+name, extensions[name])
	}
}

func (k *checker) source(at, source string, known []string) {
	if parts, ok := k.template(at, source, known); ok && !isURIReference(fill(parts, "x")) {
		k.add(
			at, source,
			"not a URI-reference as defined in RFC 3986: write https://example.com/outbox or /outbox, for example, "+
				"and percent-encode other characters",
		)
	}
}

func (k *checker) snapshot() {
	s := k.Snapshot
	if s.OrderBy != "" {
		k.identifier("snapshot.order_by", s.OrderBy)
	}
	if s.Mode == SnapshotInitial && s.OrderBy == "" {
		k.addHidden("snapshot.order_by", "name the column that says in which order the rows of the table are published, such as created_at")
	}
	if s.Mode == SnapshotInitial && k.Outbox.IDColumn() == "" && k.Outbox.Messages == "" {
		k.addHidden(
			"outbox.columns.id", "snapshot.mode: initial tells rows apart by their ID, which has to be a column of its own, not inside JSON",
		)
	}
	if s.Mode == SnapshotInitial && len(k.Outboxes) > 0 {
		k.add("snapshot.mode", s.Mode, "takes a single table, and outboxes is set: set none, or make the first start with outbox")
	}
	if s.Mode == SnapshotInitial && len(k.Outboxes) == 0 && k.Outbox.Messages != "" {
		k.add("snapshot.mode", s.Mode, "there is nothing to read: messages are only in the WAL; set none")
	}
	if strings.ContainsRune(s.Where, 0) {
		k.addHidden("snapshot.where", "must not contain the character NUL")
	}
}

func (k *checker) cloudEvents() {
	e := k.CloudEvents
	known := k.Placeholders()
	k.source("cloudevents.source", e.Source, known)
	k.template("cloudevents.type", e.Type, known)
	if e.DataSchema != "" {
		if parts, ok := k.template("cloudevents.dataschema", e.DataSchema, known); ok && !isAbsoluteURI(fill(parts, "x")) {
			k.add(
				"cloudevents.dataschema", e.DataSchema,
				"not an absolute URI as defined in RFC 3986: write https://example.com/schemas/{type}.json, for example",
			)
		}
	}
	if e.DataContentType != "" {
		mediaType, _, err := mime.ParseMediaType(e.DataContentType)
		if err != nil || !strings.Contains(mediaType, "/") {
			k.add("cloudevents.datacontenttype", e.DataContentType, "not a media type: write application/json, for example")
		}
	}
}

// tombstone refuses what the structured mode cannot express: its records always
// have a value.
func (k *checker) tombstone(at, mode, nullPayload string) {
	if mode == ModeStructured && isTombstone(nullPayload) {
		k.add(at, nullPayload, "a record in structured mode always has a value: use mode binary, or json_null, empty_object or reject")
	}
}

// template checks the placeholders of a template that must not be empty. It
// returns the parts of a valid template.
func (k *checker) template(at, template string, known []string) ([]part, bool) {
	if template == "" {
		k.addHidden(at, "must not be empty: omit it to use the default")
		return nil, false
	}
	parts, err := parseTemplate(template)
	if err != nil {
		k.add(at, template, err.Error())
		return nil, false
	}
	ok := true
	for _, p := range parts {
		if !p.placeholder || slices.Contains(known, p.text) {
			continue
		}
		ok = false
		remedy := ": use {" + strings.Join(known, "}, {") + "}"
		if name := nearest(p.text, known, "."); name != "" {
			remedy = didYouMean("{" + name + "}")
		}
		k.add(at, template, "unknown placeholder {"+p.text+"}"+remedy)
	}
	return parts, ok
}

func (k *checker) generalRoutes() {
	k.routes("routes", k.Routes, k.Tables()[0], k.Placeholders())
}

// routes checks routes of a table.
func (k *checker) routes(list string, routes []Route, o Outbox, known []string) {
	for i, r := range routes {
		at := fmt.Sprintf("%s[%d].", list, i)
		switch _, err := path.Match(r.AggregateType, ""); {
		case r.AggregateType == "":
			k.addHidden(at+"aggregate_type", "a route needs a pattern of aggregate types, such as order or order.*")
		case err != nil:
			k.add(at+"aggregate_type", r.AggregateType, "not a pattern: close every [ with ], or put a backslash before it")
		}
		if r.Topic != "" {
			k.topicTemplate(at+"topic", r.Topic, known)
		}
		if r.Key != "" {
			k.template(at+"key", r.Key, known)
		}
		if r.Mode != "" || r.NullPayload != "" {
			k.tombstone(at+"null_payload", cmp.Or(r.Mode, k.CloudEvents.Mode), cmp.Or(r.NullPayload, o.NullPayload))
		}
	}
}
