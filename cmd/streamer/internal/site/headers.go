package site

import (
	"maps"
	"slices"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// debeziumID is the header in which Debezium's consumers look for the event ID.
const debeziumID = "id"

// isCompatible reports whether Debezium's consumers can read a table's records.
func isCompatible(c config.Config, o config.Outbox) bool {
	return c.CloudEvents.Compatibility != "" && o.Messages == ""
}

// headerNames are the headers of a table's records that are no attributes. The
// header of the ID comes first, as Debezium writes it.
func headerNames(c config.Config, o config.Outbox) []string {
	names := slices.Sorted(maps.Keys(o.Headers))
	if isCompatible(c, o) {
		names = slices.Insert(names, 0, debeziumID)
	}
	return names
}

// headerColumns are the columns of outbox.headers, by the names of the headers.
func headerColumns(o config.Outbox) []string {
	var columns []string
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		columns = append(columns, o.Headers[name])
	}
	return columns
}

// compatibleMapping is the mapping whose values belong to headerNames.
func compatibleMapping(c config.Config, o config.Outbox) decoder.Mapping {
	m := Mapping(o)
	if isCompatible(c, o) {
		m.Headers, m.AsDebezium = slices.Insert(m.Headers, 0, o.Columns.ID), true
	}
	return m
}

// compatible are the columns whose types matter to consumers of Debezium.
func compatible(c config.Config, o config.Outbox) replication.Compatible {
	if !isCompatible(c, o) {
		return replication.Compatible{}
	}
	keys := slices.DeleteFunc([]string{o.Columns.ID, o.Columns.AggregateID, o.Columns.PartitionKey}, func(column string) bool {
		return column == ""
	})
	return replication.Compatible{Keys: keys, Payload: o.Columns.Payload, Headers: headerColumns(o)}
}
