package debezium

import (
	"strings"
)

// Converters of Kafka Connect and Debezium.
const (
	stringConverter = "org.apache.kafka.connect.storage.StringConverter"
	jsonConverter   = "org.apache.kafka.connect.json.JsonConverter"
)

// writing is how a converter writes a text or bytes.
type writing int

const (
	asText     writing = iota // as they are
	asJSONText                // as a text in JSON, with quotes and escapes
	asEnvelope                // inside an object with a schema
	asRegistry                // in a format with a schema registry
	asUnknown
)

// writes says how the converter writes a key, a value or a header.
func (t *translator) writes(converter string) writing {
	class := strings.ToLower(shortClass(t.value(converter, "")))
	switch name := strings.TrimSuffix(class, "converter"); name { // Kafka Connect takes the short names, too
	case "string", "bytearray", "binarydata", "bytebuffer", "simpleheader", "simple":
		return asText
	case "json":
		if t.hasSchemas(converter) {
			return asEnvelope
		}
		return asJSONText
	default:
		for _, format := range []string{"avro", "protobuf", "jsonschema"} {
			if strings.Contains(name, format) {
				return asRegistry
			}
		}
		return asUnknown
	}
}

// hasSchemas reports whether a JSON converter adds the schema.
func (t *translator) hasSchemas(converter string) bool {
	return !strings.EqualFold(t.value(converter+".schemas.enable", t.value("format.schemas.enable", "true")), "false")
}

// converters says how keys, values and headers differ.
func (t *translator) converters() {
	t.keyConverter()
	t.valueConverter()
	t.headerConverter()
	const context = "extended.headers.enabled"
	if t.isTrue(context, true) {
		t.differs(context, "the headers __debezium.context are not written", "consumers that read them")
	} else {
		t.same(context, "the headers __debezium.context are not written")
	}
}

// headerConverter translates the converter of headers. Without one, Kafka
// Connect writes plain text, and Debezium Server JSON.
func (t *translator) headerConverter() {
	const name = "header.converter"
	switch t.writes(name) {
	case asText:
		t.same(name, "")
	case asJSONText, asEnvelope:
		if t.flavour != "" {
			t.same(name, "headers are JSON, apart from those of CloudEvents and the streamer", compatibilityKey)
			break
		}
		t.differs(name, "headers are plain text, and not in quotes", "consumers that read headers as JSON")
	default:
		t.differs(name, "headers are plain text", "consumers that read headers in the format of this converter")
	}
	if t.isServer {
		t.byDefault(name)
	}
}

func (t *translator) keyConverter() {
	const name, key = "key.converter", "kafka.key"
	const order = "consumers that read keys, and the order of an aggregate's events: other bytes may be another partition, so let consumers " +
		"finish what the connector has published before the streamer starts"
	switch t.writes(name) {
	case asText:
		t.same(name, "keys are the column's text, in a column of text, uuid or integers; others are as PostgreSQL writes them", key)
	case asJSONText:
		t.differs(name, "keys are the text of the column, and not in quotes: 42 where the converter writes \"42\"", order, key)
	case asEnvelope:
		t.differs(name, "keys are the text of the column, and not an object with schema and payload", order, key)
	case asRegistry, asUnknown:
		t.differs(name, "keys are the text of the column", order, key)
	}
	t.unset(name, "keys are the text of the column: the same with StringConverter, other bytes and maybe another partition with others", order)
}

func (t *translator) valueConverter() {
	const name, key = "value.converter", "cloudevents.mode"
	t.set(key, "binary")
	switch t.writes(name) {
	case asText:
		t.same(name, "values are the payload as it is", key)
	case asJSONText:
		t.jsonValues(name, key)
	case asEnvelope:
		t.differs(name, "values are the payload as it is, and not an object with schema and payload", "consumers that look for the member "+
			"payload", key)
	case asRegistry:
		t.lacks(name, "the streamer has no schema registry: values are the payload as it is",
			"let consumers read JSON, or write bytes that are encoded already to a bytea column: they are published unchanged")
	case asUnknown:
		t.lacks(name, "what this class does is not known: values are the payload as it is",
			"compare one value with what `streamer preview` shows before consumers read it")
	}
	t.unset(name, "values are the payload as it is: the same with StringConverter; JsonConverter writes a text in JSON or an object with "+
		"schema and payload", "consumers, unless the worker's converter is StringConverter: import the worker's properties as well")
}

// jsonValues says how values differ from those of a JSON converter without
// schemas.
func (t *translator) jsonValues(name, key string) {
	isExpanded := true
	for _, router := range t.routers() {
		isExpanded = isExpanded && t.isTrue("transforms."+router+".table.expand.json.payload", false)
	}
	if isExpanded {
		t.differs(name, "values are JSON as PostgreSQL holds it, and not written again: the same meaning in other bytes",
			"consumers that compare bytes", key)
		return
	}
	t.differs(name, "values are the payload as it is, and not a text in JSON, in quotes", "consumers that parse the value twice", key)
}

// unset notes a converter that the files do not name.
func (t *translator) unset(name, how, concerns string) {
	if t.isServer {
		t.byDefault(name)
	} else if !t.has(name) {
		t.notes = append(t.notes, Entry{Option: name + " (not set: the worker decides)", Says: how, Concerns: concerns})
	}
}

// byDefault notes what became of a converter that the file leaves to Debezium
// Server.
func (t *translator) byDefault(name string) {
	if f := t.findings[name]; t.options[name].spelled == "" && f.verdict == different {
		f.entry.Option = "debezium.format." + strings.TrimSuffix(name, ".converter") + " (not set: json)"
		t.notes = append(t.notes, f.entry)
	}
}
