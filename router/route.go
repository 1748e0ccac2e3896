package router

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
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
)

// Rules define how events become CloudEvents and where they go. Source, Type,
// DataSchema, Topic and Key are templates.
type Rules struct {
	Source, Type, DataSchema string
	DataContentType          string // empty: by the type of the payload column
	Topic, Key               string
	Mode                     Mode
	NullPayload              NullPayload
	Routes                   []Rule
	Partitioner              string // murmur2, crc32 or fnv1a

	// Columns and Extensions are the mapping of the outbox table.
	Columns    map[decoder.Attribute]string
	Extensions []string // sorted
	// Database, Schema and Table are the values of the placeholders with these
	// names.
	Database, Schema, Table string
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
	// Poison is what happens to rows that can never be published.
	// DeadLetterTopic is where they go, empty if none does.
	Poison          Policy
	DeadLetterTopic string
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
// partitions than before.
func (r Rules) Fingerprint() string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q %q %q", r.Topic, r.Key, r.Partitioner, r.Columns[decoder.PartitionKey], r.Columns[decoder.Topic])
	templates := []string{r.Topic, r.Key}
	for _, route := range r.Routes {
		fmt.Fprintf(h, " %q %q %q", route.AggregateType, route.Topic, route.Key)
		templates = append(templates, route.Topic, route.Key, "{aggregate_type}")
	}
	// The meanings of the placeholders count as well.
	meanings := r.constants()
	for a, column := range r.Columns {
		meanings[a.String()] = column
	}
	for _, name := range slices.Sorted(maps.Keys(meanings)) {
		if strings.Contains(strings.Join(templates, " "), "{"+name+"}") {
			fmt.Fprintf(h, " %s=%q", name, meanings[name])
		}
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// constants returns the placeholders that are the same for every row.
func (r Rules) constants() names {
	return names{"table": r.Schema + "." + r.Table, "schema": r.Schema, "database": r.Database}
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
	rules      Rules
	routes     []route // the last one matches everything
	source     template
	typ        template
	dataSchema template
	scratch    []byte
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
	constants := rules.constants()
	parseWith := func(constants names, key, text string) template {
		t, err := parseTemplate(key, text, constants, rules.Columns, rules.Extensions)
		if err != nil {
			problems = append(problems, err)
		}
		return t
	}
	parse := func(key, text string) template { return parseWith(constants, key, text) }
	r.source = parseWith(constants.escaped(), "cloudevents.source", rules.Source)
	r.typ = parse("cloudevents.type", rules.Type)
	r.dataSchema = parseWith(constants.escaped(), "cloudevents.dataschema", rules.DataSchema)
	for i, rule := range append(slices.Clip(rules.Routes), Rule{AggregateType: "*"}) {
		key := fmt.Sprintf("routes[%d]", i)
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
			mode: rule.Mode, nullPayload: rule.NullPayload, poison: rule.Poison,
		}
		if ready.poison == "" {
			ready.poison = rules.Poison
		}
		if ready.mode == "" {
			ready.mode = rules.Mode
		}
		if ready.nullPayload == "" {
			ready.nullPayload = rules.NullPayload
		}
		if _, err := path.Match(rule.AggregateType, ""); err != nil {
			problems = append(problems, fmt.Errorf("%s.aggregate_type: %q is not a valid pattern", key, rule.AggregateType))
		}
		if constant, ok := ready.topic.constant(); ok && (constant != "" || rules.Columns[decoder.Topic] == "") {
			if err := r.checkTopic([]byte(constant)); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", topicKey, err))
			}
		}
		r.routes = append(r.routes, ready)
	}
	if len(problems) == 0 {
		problems = append(problems, r.prove())
	}
	if err := errors.Join(problems...); err != nil {
		return nil, failure.Misconfigure(err)
	}
	return r, nil
}

// prove validates a sample event with the SDK.
func (r *Router) prove() error {
	sample := decoder.Event{Extensions: make([]decoder.Extension, len(r.rules.Extensions))}
	for _, a := range decoder.Attributes() {
		sample.SetAttribute(a, []byte("sample"))
	}
	for i, name := range r.rules.Extensions {
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
	for _, name := range r.rules.Extensions {
		e.SetExtension(name, "sample")
	}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("cloudevents: events would not be valid: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return nil
}

// Route finds where e goes. An error says why the row cannot be routed.
func (r *Router) Route(e *decoder.Event) (Destination, error) {
	chosen := r.match(e.Attribute(decoder.AggregateType))
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
	if d.source, err = r.expand(decoder.Source, &r.source, e, true); err != nil {
		return d, fmt.Errorf("source: %w", err)
	}
	if d.typ, err = r.expand(-1, &r.typ, e, false); err != nil {
		return d, fmt.Errorf("type: %w", err)
	}
	if d.dataSchema, err = r.expand(decoder.DataSchema, &r.dataSchema, e, true); err != nil {
		return d, fmt.Errorf("dataschema: %w", err)
	}
	return d, checkColumns(e)
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

func (r *Router) match(aggregateType []byte) *route {
	last := len(r.routes) - 1
	for i := range r.routes[:last] {
		if ok, _ := path.Match(r.routes[i].pattern, string(aggregateType)); ok {
			return &r.routes[i]
		}
	}
	return &r.routes[last]
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
	if r.rules.DataContentType != "" {
		return r.rules.DataContentType
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
