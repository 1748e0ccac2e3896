package router

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/router/kafka"
)

// Mode is a content mode of the CloudEvents Kafka binding.
type Mode string

// The two content modes that Kafka knows.
const (
	// Binary puts attributes into headers and leaves the payload alone.
	Binary Mode = "binary"
	// Structured puts everything into one JSON document.
	Structured Mode = "structured"
)

// NullPayload is what a row without a payload becomes.
type NullPayload string

// What a NULL payload can become.
const (
	// NullJSON sends JSON null if the content is JSON, otherwise an empty
	// value. In structured mode the event has no data.
	NullJSON NullPayload = "json_null"
	// NullObject sends {}.
	NullObject NullPayload = "empty_object"
	// NullTombstone sends a null value, which deletes the key's history in a
	// compacted topic.
	NullTombstone NullPayload = "tombstone"
	// NullReject treats the row as poison.
	NullReject NullPayload = "reject"
	// NullOrBlankTombstone is NullTombstone, and a text that is empty or blank
	// counts as NULL, as with Debezium's route.tombstone.on.empty.payload.
	NullOrBlankTombstone NullPayload = "tombstone_if_blank"
)

// Compatibility says whose consumers can read a record's own headers besides
// those of CloudEvents.
type Compatibility string

// The ways in which Debezium writes headers.
const (
	// NotCompatible leaves out a header without a value.
	NotCompatible Compatibility = ""
	// DebeziumConnect is SimpleHeaderConverter, the default of Kafka Connect: text,
	// and a null value for NULL.
	DebeziumConnect Compatibility = "debezium-connect"
	// DebeziumServer is JsonConverter without schemas: JSON.
	DebeziumServer Compatibility = "debezium-server"
)

// Rules define how the events of a stream become CloudEvents and where they go.
type Rules struct {
	// Tables are the rules for each outbox table, in the order of the decoder's
	// mappings.
	Tables      []TableRules
	Partitioner string // murmur2, crc32 or fnv1a
	// Database is the value of the placeholder with this name.
	Database string
	// StreamID identifies the stream in a header of every record.
	StreamID string
	// Replay marks records that are published again. Otherwise it is empty.
	Replay string
	// Snapshot marks records of rows from before the stream. Otherwise it is
	// empty.
	Snapshot string
	// Unsequenced leaves out the attribute sequence where the position of an
	// event is not known.
	Unsequenced bool
	// Reserved are the topics that no row may choose. Nor may a row choose a
	// topic that would keep Kafka from creating one of them.
	Reserved []Reserved
	// MaxRecordBytes is the largest payload; 0 leaves it to the broker.
	MaxRecordBytes int
	// DeadLetterTopic is where rows go that can never be published, empty if none
	// does.
	DeadLetterTopic string
	// Compatibility is how the headers of TableRules.Headers are written.
	Compatibility Compatibility
}

// TableRules are the rules for the rows of one outbox table. Source, Type,
// DataSchema, Topic and Key are templates.
type TableRules struct {
	// Schema and Table name the table. Name is both as in the configuration.
	// Messages is the prefix of messages instead of a table.
	Schema, Table, Name      string
	Messages                 string
	Source, Type, DataSchema string
	DataContentType          string // empty: by the type of the payload column
	Topic, Key               string
	Mode                     Mode
	NullPayload              NullPayload
	Routes                   []Rule
	// Poison is what happens to rows that can never be published.
	Poison Policy

	// Columns, Defaults and Extensions are the mapping of the table.
	Columns    map[decoder.Attribute]string
	Defaults   map[decoder.Attribute]string
	Extensions []string // sorted
	// Headers are the names of the headers that Event.Headers have the values of.
	Headers []string
	// Entry is the table's own part of the configuration in error texts, as in
	// "outboxes[1]"; empty where there is only one.
	Entry string
}

// Reserved is a topic of the streamer's own.
type Reserved struct {
	Topic string
	Keeps string // for error texts, such as "the dead letters"
}

// Rule overrides the general rules for some aggregate types. The first match
// wins. Empty fields fall back to the general rules.
type Rule struct {
	AggregateType string // glob pattern
	Topic, Key    string
	Mode          Mode
	NullPayload   NullPayload
	Poison        Policy
}

// Fingerprint returns a hash that changes when events may go to other topics or
// partitions than before. With several tables it also changes with the tables,
// because they decide which rows of a transaction are counted.
func (r Rules) Fingerprint() string {
	h := fnv.New64a()
	for i, t := range r.Tables {
		if i > 0 {
			fmt.Fprint(h, "\n")
		}
		if len(r.Tables) > 1 {
			fmt.Fprintf(h, "%q %q ", t.Schema, t.Table)
		}
		if t.Messages != "" {
			fmt.Fprintf(h, "messages %q ", t.Messages)
		}
		r.write(h, t)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// write writes what decides about the topic and the partition of a table's
// rows.
func (r Rules) write(h io.Writer, t TableRules) {
	fmt.Fprintf(h, "%q %q %q %q %q", t.Topic, t.Key, r.Partitioner, t.Columns[decoder.PartitionKey], t.Columns[decoder.Topic])
	templates := []string{t.Topic, t.Key}
	for _, route := range t.Routes {
		fmt.Fprintf(h, " %q %q %q", route.AggregateType, route.Topic, route.Key)
		templates = append(templates, route.Topic, route.Key, "{aggregate_type}")
	}
	// The meanings of the placeholders count as well.
	meanings := r.namesOf(t)
	for a, column := range t.Columns {
		meanings[a.String()] = column
	}
	for a, constant := range t.Defaults {
		meanings[a.String()] += " or " + constant
	}
	for _, name := range slices.Sorted(maps.Keys(meanings)) {
		if strings.Contains(strings.Join(templates, " "), "{"+name+"}") {
			fmt.Fprintf(h, " %s=%q", name, meanings[name])
		}
	}
}

// constants returns the placeholders that are the same for every row of a table.
// Where the rules are those of a pattern, the names of the table are not.
func (r Rules) constants(t TableRules) names {
	if (pgname.Table{Schema: t.Schema, Name: t.Table}).IsPattern() {
		return names{"database": r.Database}
	}
	return r.namesOf(t)
}

// namesOf are the names of a table, or of what stands for one. Messages have no
// schema.
func (r Rules) namesOf(t TableRules) names {
	if t.Messages != "" {
		return names{"table": t.Messages, "database": r.Database}
	}
	return names{"table": t.Schema + "." + t.Table, "schema": t.Schema, "database": r.Database}
}

// mapped are the attributes that rows can have, each with where it comes from.
func (t TableRules) mapped() map[decoder.Attribute]string {
	all := maps.Clone(t.Defaults)
	if all == nil {
		return t.Columns
	}
	maps.Copy(all, t.Columns)
	return all
}

// route is a resolved rule.
type route struct {
	pattern     string
	topic, key  template
	mode        Mode
	nullPayload NullPayload
	poison      Policy
}

// Router finds the topic and key of an event. It is not for concurrent use.
type Router struct {
	rules   Rules
	tables  []*tableRouter
	scratch []byte
}

// tableRouter is the resolved rules of one table.
type tableRouter struct {
	TableRules
	routes     []route // the last one matches everything
	source     template
	typ        template
	dataSchema template
}

// Destination is where an event goes. The slices are valid until the next call
// of Route.
type Destination struct {
	Topic, Key  []byte
	Mode        Mode
	NullPayload NullPayload

	source, typ, dataSchema []byte
}

// NewRouter resolves all templates and proves with the CloudEvents SDK that an
// event made by each route is valid.
func NewRouter(rules Rules) (*Router, error) {
	r := &Router{rules: rules}
	var problems []error
	for _, t := range rules.Tables {
		resolved, err := r.resolve(t)
		r.tables = append(r.tables, resolved)
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, failure.Misconfigure(err)
	}
	for i := range r.tables {
		problems = append(problems, r.prove(i))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, failure.Misconfigure(err)
	}
	return r, nil
}

// table returns the index of a table's rules. Letters of earlier versions do
// not name their table; there was only one.
func (r Rules) table(name string) (int, error) {
	for i, t := range r.Tables {
		if name == "" || t.Name == name || t.matches(name) {
			return i, nil
		}
	}
	return 0, failure.Advise(fmt.Errorf("table %s is not an outbox table of this configuration", name), "add it under outboxes")
}

// matches reports whether these are the rules of a pattern that the table
// matches.
func (t TableRules) matches(name string) bool {
	table, ok := pgname.Parse(name)
	return ok && pgname.Table{Schema: t.Schema, Name: t.Table}.Matches(table.Schema, table.Name)
}

// own returns a key of the table's own configuration, for error texts.
func (t TableRules) own(key string) string {
	if t.Entry == "" {
		return key
	}
	return t.Entry + "." + key
}

// resolve resolves the templates of a table.
func (r *Router) resolve(rules TableRules) (*tableRouter, error) {
	t := &tableRouter{TableRules: rules}
	var problems []error
	constants := r.rules.constants(rules)
	parseWith := func(constants names, key, text string) template {
		parsed, err := parseTemplate(key, text, constants, rules.mapped(), rules.Extensions)
		if err != nil {
			problems = append(problems, err)
		}
		return parsed
	}
	parse := func(key, text string) template { return parseWith(constants, key, text) }
	t.source = parseWith(constants.escaped(), "cloudevents.source", rules.Source)
	t.typ = parse("cloudevents.type", rules.Type)
	t.dataSchema = parseWith(constants.escaped(), "cloudevents.dataschema", rules.DataSchema)
	for i, rule := range append(slices.Clip(rules.Routes), Rule{AggregateType: "*"}) {
		key := fmt.Sprintf(rules.own("routes[%d]"), i)
		topic, topicKey := rule.Topic, key+".topic"
		if topic == "" {
			topic, topicKey = rules.Topic, "kafka.topic"
		}
		partitionKey, partitionKeyKey := rule.Key, key+".key"
		if partitionKey == "" {
			partitionKey, partitionKeyKey = rules.Key, "kafka.key"
		}
		ready := route{
			pattern: rule.AggregateType, topic: parse(topicKey, topic), key: parse(partitionKeyKey, partitionKey),
			mode: cmp.Or(rule.Mode, rules.Mode), nullPayload: cmp.Or(rule.NullPayload, rules.NullPayload), poison: cmp.Or(rule.Poison, rules.Poison),
		}
		if _, err := path.Match(rule.AggregateType, ""); err != nil {
			problems = append(problems, fmt.Errorf("%s.aggregate_type: %q is not a valid pattern", key, rule.AggregateType))
		}
		if constant, ok := ready.topic.constant(); ok && (constant != "" || rules.Columns[decoder.Topic] == "") {
			if err := r.checkTopic([]byte(constant)); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", topicKey, err))
			}
		}
		t.routes = append(t.routes, ready)
	}
	return t, errors.Join(problems...)
}

// prove validates a sample event of a table with the SDK.
func (r *Router) prove(table int) error {
	t := r.tables[table]
	sample := decoder.Event{Table: table, Names: decoder.NamesOf("sample", "sample"), Extensions: make([]decoder.Extension, len(t.Extensions))}
	for _, a := range decoder.Attributes() {
		sample.SetAttribute(a, []byte("sample"))
	}
	for i, name := range t.Extensions {
		sample.Extensions[i] = decoder.Extension{Name: name, Value: []byte("sample")}
	}
	sample.SetAttribute(decoder.DataSchema, nil)
	sample.SetAttribute(decoder.Source, nil)
	d, err := r.Route(&sample)
	if err != nil {
		return err
	}
	e := cloudevents.New()
	e.SetID("sample")
	e.SetType(string(d.typ))
	e.SetSource(string(d.source))
	e.SetTime(time.Unix(0, 0))
	e.SetDataContentType(r.contentType(&sample))
	if len(d.dataSchema) > 0 {
		e.SetDataSchema(string(d.dataSchema))
	}
	for _, name := range t.Extensions {
		e.SetExtension(name, "sample")
	}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("cloudevents: events would not be valid: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}

// Route finds where e goes. An error says why the row cannot be routed.
func (r *Router) Route(e *decoder.Event) (Destination, error) {
	t := r.tables[e.Table]
	chosen := t.match(e.Attribute(decoder.AggregateType))
	d := Destination{Mode: chosen.mode, NullPayload: chosen.nullPayload}
	r.scratch = r.scratch[:0]
	var err error
	if d.Topic, err = r.expand(decoder.Topic, &chosen.topic, e, false); err != nil {
		return d, fmt.Errorf("topic: %w", err)
	}
	if err := r.checkTopic(d.Topic); err != nil {
		return d, err
	}
	if d.Key, err = r.expand(decoder.PartitionKey, &chosen.key, e, false); err != nil {
		return d, fmt.Errorf("key: %w", err)
	}
	if d.source, err = r.expand(decoder.Source, &t.source, e, true); err != nil {
		return d, fmt.Errorf("source: %w", err)
	}
	if d.typ, err = r.expand(-1, &t.typ, e, false); err != nil {
		return d, fmt.Errorf("type: %w", err)
	}
	if d.dataSchema, err = r.expand(decoder.DataSchema, &t.dataSchema, e, true); err != nil {
		return d, fmt.Errorf("dataschema: %w", err)
	}
	return d, checkColumns(e)
}

// Source is the attribute source of an event, also of one that cannot be
// published. It is nil where the row does not say it.
func (r *Router) Source(e *decoder.Event) []byte {
	r.scratch = r.scratch[:0]
	source, err := r.expand(decoder.Source, &r.tables[e.Table].source, e, true)
	if err != nil {
		return nil
	}
	return source
}

// checkColumns checks URIs that come from the row itself. URIs from templates
// were checked at start and are escaped.
func checkColumns(e *decoder.Event) error {
	if source := e.Attribute(decoder.Source); source != nil {
		if err := checkURI(source); err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	if schema := e.Attribute(decoder.DataSchema); schema != nil {
		if err := checkAbsoluteURI(schema); err != nil {
			return fmt.Errorf("dataschema: %w", err)
		}
	}
	return nil
}

func (r *Router) checkTopic(topic []byte) error {
	if err := checkTopic(topic); err != nil {
		return err
	}
	for _, reserved := range r.rules.Reserved {
		if len(topic) != len(reserved.Topic) {
			continue
		}
		if string(topic) == reserved.Topic {
			return fmt.Errorf("topic %q keeps %s and takes no events: "+topicRemedy, reserved.Topic, reserved.Keeps)
		}
		if kafka.Collide(view(topic), reserved.Topic) {
			return kafka.CollisionError(string(topic), reserved.Topic)
		}
	}
	return nil
}

func (t *tableRouter) match(aggregateType []byte) *route {
	last := len(t.routes) - 1
	for i := range t.routes[:last] {
		if ok, _ := path.Match(t.routes[i].pattern, string(aggregateType)); ok {
			return &t.routes[i]
		}
	}
	return &t.routes[last]
}

// expand returns the row's own value of the attribute if it has one, otherwise
// the template's value.
func (r *Router) expand(own decoder.Attribute, t *template, e *decoder.Event, escape bool) ([]byte, error) {
	if own >= 0 {
		if value := e.Attribute(own); len(value) > 0 {
			return value, nil
		}
	}
	if value, ok := t.single(e); ok && !escape && len(value) > 0 {
		return value, nil
	}
	start := len(r.scratch)
	var err error
	r.scratch, err = t.append(r.scratch, e, escape)
	return r.scratch[start:len(r.scratch):len(r.scratch)], err
}

// contentType returns the media type of the data.
func (r *Router) contentType(e *decoder.Event) string {
	if declared := r.tables[e.Table].DataContentType; declared != "" {
		return declared
	}
	switch e.DataKind {
	case decoder.JSON:
		return "application/json"
	case decoder.Bytes:
		return "application/octet-stream"
	case decoder.XML:
		return "application/xml"
	default:
		return "text/plain; charset=utf-8"
	}
}

// topicRemedy is what can be done about a row whose topic cannot be.
const topicRemedy = "correct the row's aggregate type or kafka.topic"

// checkTopic applies Kafka's rules for names and keeps rows away from Kafka's
// own topics (S-08).
func checkTopic(topic []byte) error {
	const longest = 249
	switch {
	case len(topic) == 0 || len(topic) > longest:
		return fmt.Errorf("topic name of %d characters, Kafka takes 1 to %d: "+topicRemedy, len(topic), longest)
	case string(topic) == "." || string(topic) == "..":
		return errors.New("topic name is . or .., which Kafka does not take: " + topicRemedy)
	case strings.HasPrefix(string(topic), "__"):
		return fmt.Errorf("topic name %q begins with __, which is reserved for Kafka itself: "+topicRemedy, printable(topic))
	}
	for _, c := range topic {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("topic name %q has characters that Kafka does not take: "+topicRemedy+
				" (letters, digits, '.', '_' and '-')", printable(topic))
		}
	}
	return nil
}

// printable shortens a name from a row for an error text.
func printable(name []byte) string {
	const shown = 60
	if len(name) > shown {
		return string(name[:shown]) + "…"
	}
	return string(name)
}
