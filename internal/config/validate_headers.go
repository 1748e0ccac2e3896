package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// isTombstone reports whether a NULL payload becomes a record without a value.
func isTombstone(nullPayload string) bool {
	return nullPayload == NullPayloadTombstone || nullPayload == NullPayloadBlank
}

// debeziumID is the header in which Debezium has the event ID.
const debeziumID = "id"

// ownHeaders and ownHeaderPrefixes are headers that the streamer writes. Readers
// of CloudEvents may take the names in lower case.
var (
	ownHeaders        = []string{"content-type", "traceparent", "tracestate"}
	ownHeaderPrefixes = []string{"ce_", "streamer-"}
)

// headers checks the names of a table's own headers and their columns.
func (k *checker) headers(at string, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		hasPrefix := func(prefix string) bool { return strings.HasPrefix(lower, prefix) }
		switch {
		case name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			k.addHidden(at+name, "use a name of one or more characters, without control characters")
		case slices.Contains(ownHeaders, lower), slices.ContainsFunc(ownHeaderPrefixes, hasPrefix):
			k.addHidden(at+name, "the streamer writes this header itself: map its column in outbox.columns or outbox.extensions, "+
				"or choose another name")
		case name == debeziumID && k.CloudEvents.Compatibility != "":
			k.addHidden(at+name, "cloudevents.compatibility writes this header: remove it")
		}
		k.reference(at+name, headers[name])
	}
}

// compatibility refuses what Debezium's consumers would read otherwise than
// Debezium writes it. What depends on the types of columns is found out at the
// start.
func (k *checker) compatibility() {
	if k.CloudEvents.Compatibility == "" {
		return
	}
	k.compatibleMode("cloudevents.mode", k.CloudEvents.Mode)
	if k.Kafka.Partitioner != "murmur2" {
		k.add("kafka.partitioner", k.Kafka.Partitioner, "Debezium's producer uses murmur2, and cloudevents.compatibility is set: "+
			"use murmur2, or leave cloudevents.compatibility empty")
	}
	for i, o := range k.Tables() {
		k.compatibleOutbox(i, o)
	}
}

const orIncompatible = ", or leave cloudevents.compatibility empty"

func (k *checker) compatibleMode(at, mode string) {
	if mode == ModeStructured {
		k.add(at, mode, "a consumer of Debezium takes the value for the payload: use binary"+orIncompatible)
	}
}

func (k *checker) compatibleNull(at, nullPayload string) {
	if !isTombstone(nullPayload) {
		k.add(at, nullPayload, "Debezium writes a record without a value: use tombstone, or tombstone_if_blank if "+
			"route.tombstone.on.empty.payload is set"+orIncompatible)
	}
}

func (k *checker) compatibleOutbox(i int, o Outbox) {
	if o.Messages != "" {
		k.add(k.below(i, "messages"), o.Messages, "Debezium's outbox event router reads tables only: leave cloudevents.compatibility empty, "+
			"and publish the messages with a streamer of their own")
		return
	}
	k.compatibleNull(k.below(i, "null_payload"), o.NullPayload)
	references := map[string]string{
		"columns.id": o.Columns.ID, "columns.aggregate_id": o.Columns.AggregateID, "columns.payload": o.Columns.Payload,
	}
	for name, column := range o.Headers {
		references["headers."+name] = column
	}
	for _, name := range slices.Sorted(maps.Keys(references)) {
		if reference := references[name]; reference != "" && wholeColumn(reference) == "" {
			k.add(k.below(i, name), reference, "Debezium reads columns as a whole: name a column without a JSON pointer"+orIncompatible)
		}
	}
	list := "routes"
	if k.Entry(i) != "" && len(k.Outboxes[i].Routes) > 0 || k.Entry(i) == "" && len(k.Outbox.Routes) > 0 {
		list = k.below(i, list)
	}
	for at, r := range o.Routes {
		route := fmt.Sprintf("%s[%d].", list, at)
		k.compatibleMode(route+"mode", r.Mode)
		k.compatibleNull(route+"null_payload", cmp.Or(r.NullPayload, o.NullPayload))
	}
}
