package config

import (
	"maps"
	"mime"
	"path"
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

func (k *checker) outbox() {
	k.table("outbox.table", k.Outbox.Table)
	defaults := valueOf(Default().Outbox.Columns)
	for _, s := range settingsOf(root.child("outbox").child("columns"), valueOf(k.Outbox.Columns), "outbox.columns.") {
		isOptional := defaults.Field(s.index).IsZero()
		if column := s.value.String(); column != "" || !isOptional {
			k.identifier(s.at, column)
		}
	}
	if k.Outbox.Cleanup.Mode != CleanupNone && k.Outbox.CleanupColumn() == "" {
		k.addHidden("outbox.cleanup.time_column", "name the column that says when a row was written, or map it as outbox.columns.time")
	}
	for _, name := range slices.Sorted(maps.Keys(k.Outbox.Extensions)) {
		at := "outbox.extensions." + name
		switch {
		case slices.Contains(coreAttributes, name):
			k.addHidden(at, "this is an attribute of CloudEvents itself: map it in outbox.columns or cloudevents, or choose another name")
		case slices.Contains(ownExtensions, name):
			k.addHidden(at, "this extension is set by the streamer: map its column in outbox.columns where there is one, or choose another name")
		case !extensionName.MatchString(name):
			k.addHidden(at, "use 1 to 20 lower-case letters and digits for the name of an extension")
		}
		k.identifier(at, k.Outbox.Extensions[name])
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
	if strings.ContainsRune(s.Where, 0) {
		k.addHidden("snapshot.where", "must not contain the character NUL")
	}
}

func (k *checker) cloudEvents() {
	e := k.CloudEvents
	if parts, ok := k.template("cloudevents.source", e.Source); ok && !isURIReference(fill(parts, "x")) {
		k.add(
			"cloudevents.source", e.Source,
			"not a URI-reference as defined in RFC 3986: write https://example.com/outbox or /outbox, for example, "+
				"and percent-encode other characters",
		)
	}
	k.template("cloudevents.type", e.Type)
	if e.DataSchema != "" {
		if parts, ok := k.template("cloudevents.dataschema", e.DataSchema); ok && !isAbsoluteURI(fill(parts, "x")) {
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
	k.tombstone("outbox.null_payload", e.Mode, k.Outbox.NullPayload)
}

// tombstone refuses what the structured mode cannot express: its records always
// have a value.
func (k *checker) tombstone(at, mode, nullPayload string) {
	if mode == ModeStructured && nullPayload == NullPayloadTombstone {
		k.add(at, nullPayload, "a record in structured mode always has a value: use mode binary, or json_null, empty_object or reject")
	}
}

// template checks the placeholders of a template that must not be empty. It
// returns the parts of a valid template.
func (k *checker) template(at, template string) ([]part, bool) {
	if template == "" {
		k.addHidden(at, "must not be empty: omit it to use the default")
		return nil, false
	}
	parts, err := parseTemplate(template)
	if err != nil {
		k.add(at, template, err.Error())
		return nil, false
	}
	known := k.Placeholders()
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

func (k *checker) routes() {
	for i, r := range k.Routes {
		at := indexed([]string{"routes"}, i)[0] + "."
		switch _, err := path.Match(r.AggregateType, ""); {
		case r.AggregateType == "":
			k.addHidden(at+"aggregate_type", "a route needs a pattern of aggregate types, such as order or order.*")
		case err != nil:
			k.add(at+"aggregate_type", r.AggregateType, "not a pattern: close every [ with ], or put a backslash before it")
		}
		if r.Topic != "" {
			k.topicTemplate(at+"topic", r.Topic)
		}
		if r.Key != "" {
			k.template(at+"key", r.Key)
		}
		if r.Mode != "" || r.NullPayload != "" {
			mode, nullPayload := k.CloudEvents.Mode, k.Outbox.NullPayload
			if r.Mode != "" {
				mode = r.Mode
			}
			if r.NullPayload != "" {
				nullPayload = r.NullPayload
			}
			k.tombstone(at+"null_payload", mode, nullPayload)
		}
	}
}
