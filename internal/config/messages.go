package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/pgname"
)

// messagesPrefix bounds the prefix to what is the same in every encoding.
var messagesPrefix = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,63}$`)

// foreignPrefixes begin the prefixes of messages that others write.
var foreignPrefixes = []string{"sequin", "_sequin", "debezium", "wal2json", "pglogical", "citus", "peerdb"}

// Name is the table, or what stands for it where events are messages.
func (o Outbox) Name() string {
	if o.Messages != "" {
		return pgname.OfMessages(o.Messages)
	}
	return o.Table
}

// messageColumns say where a CloudEvent in JSON has what. They are those of
// decoder.MessageColumns.
var messageColumns = Columns{
	ID: "content#/id", AggregateType: "content#/aggregatetype", AggregateID: "content#/subject", Type: "content#/type",
	Payload: "content#/data", Time: "content#/time", Source: "content#/source", DataSchema: "content#/dataschema",
	DataContentType: "content#/datacontenttype", TraceParent: "content#/traceparent", TraceState: "content#/tracestate",
	CorrelationID: "content#/correlationid", CausationID: "content#/causationid", PartitionKey: "content#/partitionkey",
}

// takeMessages replaces the defaults for a table.
func (o *Outbox) takeMessages() {
	usual := Default().Outbox
	if o.Table == usual.Table {
		o.Table = ""
	}
	if o.Columns == usual.Columns {
		o.Columns = messageColumns
	}
}

// messages checks an entry whose events are messages.
func (k *checker) messages(i int, o Outbox) {
	at := k.below(i, "messages")
	switch lower := strings.ToLower(o.Messages); {
	case !messagesPrefix.MatchString(o.Messages):
		k.add(at, o.Messages, "use 1 to 63 letters, digits and the characters _ . : / - for the prefix")
	case lower == pgname.OwnMessages:
		k.add(at, o.Messages, "the streamer writes messages with this prefix itself: choose another")
	case slices.ContainsFunc(foreignPrefixes, func(prefix string) bool { return strings.HasPrefix(lower, prefix) }):
		k.add(at, o.Messages, "other programs write messages with such a prefix: choose one that is only yours, such as orders")
	}
	for _, unfit := range []struct {
		set bool
		key string
	}{
		{o.Table != "", "table"},
		{o.Preset != "", "preset"},
		{o.Columns != messageColumns, "columns"},
		{len(o.Extensions) > 0, "extensions"},
		{len(o.Headers) > 0, "headers"},
		{o.Cleanup.Mode != CleanupNone, "cleanup.mode"},
	} {
		if unfit.set {
			k.addHidden(k.below(i, unfit.key), "is for a table, and "+at+" says that there is none: remove one of the two")
		}
	}
	for _, s := range k.constants(i, o) {
		if (s.name == "type" || s.name == "datacontenttype") && s.value.String() != "" {
			k.addHidden(s.at, "every message says it, as a CloudEvent does: remove it")
		}
	}
}
