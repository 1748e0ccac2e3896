package debezium

import "strings"

// transformActions say what to do about transforms that the streamer lacks, by
// the class without its package.
var transformActions = map[string]string{
	"ExtractNewRecordState": "nothing, if it is applied to other tables than the outbox; what the router publishes has no state to extract",
	"RegexRouter":           "set kafka.topic and routes to the names that topics have after it",
	"TimestampRouter":       "the streamer's topics have no time in their names: let consumers read one topic",
	"InsertHeader":          "let consumers do without it, or write the value to a column and map that as an extension",
	"InsertField":           "write the field into the payload where the row is written",
	"ReplaceField":          "write or leave out the fields where the row is written",
	"MaskField":             "mask the fields where the row is written: they are published as they are",
	"Cast":                  "write the payload in the type that consumers expect",
	"Flatten":               "write the payload flat where the row is written",
	"HoistField":            "write the payload inside the field where the row is written",
	"ExtractField":          "map the value inside the payload with column#/json/pointer",
	"ValueToKey":            "map the column, or column#/json/pointer, as outbox.columns.partition_key",
	"HeaderFrom":            "map the column as an extension under outbox.extensions",
	"DropHeaders":           "let consumers ignore the headers; those of extensions are written only if they are mapped",
	"Filter":                "do not insert rows that are not to be published, or let consumers filter",
	"TimestampConverter":    "times in attributes are in RFC 3339; the payload is published as it is",
	"SetSchemaMetadata":     "there is no schema of Kafka Connect: let consumers do without it",
	"ByLogicalTableRouter":  "set kafka.topic to the topic, with placeholders, or outbox.topic",
	"PartitionRouting":      "map the column that the partition depends on as outbox.columns.partition_key",
	"ActivateTracingSpan":   "write a W3C traceparent to a column and map it as outbox.columns.traceparent",
	"ContentBasedRouter":    "write the topic to a column and map it as outbox.columns.topic",
}

// transforms notes those that are not routers, and predicates that no router
// uses.
func (t *translator) transforms() {
	t.same("transforms", "see each of them")
	t.same("predicates", "see each of them")
	for _, name := range t.list("transforms") {
		if t.isRouter(name) {
			continue
		}
		class := shortClass(strings.TrimSuffix(strings.TrimSuffix(t.value("transforms."+name+".type", ""), "$Key"), "$Value"))
		action, isKnown := transformActions[class]
		if !isKnown {
			action = "find out what it does to the records of the outbox, and let the writer of the rows or the consumers do it"
		}
		for option := range t.options {
			if !isBelow(option, "transforms."+name) {
				continue
			}
			if option == "transforms."+name+".type" {
				t.lacks(option, "the streamer has no transforms, and this one is of "+namedClass(class), action)
			} else {
				t.lacks(option, "it belongs to the transform "+name, "as for transforms."+name+".type")
			}
		}
	}
	for option := range t.options {
		if _, isFound := t.findings[option]; strings.HasPrefix(option, "predicates.") && !isFound {
			t.lacks(option, "no outbox event router uses this predicate", nothingToDo)
		}
	}
}

// renamesTopics reports whether a transform may give the router's records
// another topic.
func (t *translator) renamesTopics() bool {
	for _, name := range t.list("transforms") {
		if !t.isRouter(name) && strings.Contains(t.value("transforms."+name+".type", ""), "Router") {
			return true
		}
	}
	return false
}
