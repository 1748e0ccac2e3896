package replication

import (
	"fmt"
	"slices"
)

// Compatible are columns whose values are written as Debezium's connector writes
// them, by what they become. All of them are empty where nothing has to be.
type Compatible struct {
	Keys    []string // the ID and the key of a record
	Payload string
	Headers []string // of a record
}

// keyTypes, payloadTypes and headerTypes are those whose values the streamer
// writes exactly as Debezium does, in any row that both publish.
var (
	keyTypes     = []string{"text", "character varying", "character", "uuid", "smallint", "integer", "bigint"}
	payloadTypes = []string{"text", "character varying", "character", "json", "jsonb", "bytea"}
	headerTypes  = append([]string{"json", "jsonb", "boolean"}, keyTypes...)
	// headerTimes have no precision of their own, on which Debezium's form depends.
	headerTimes = []string{"timestamp with time zone", "timestamp without time zone"}
)

// checkCompatible checks the types of the columns.
func checkCompatible(t Table) []Finding {
	var found []Finding
	check := func(name, becomes, remedy string, isExact func(Column) bool) {
		column, ok := t.column(name)
		if !ok || isExact(column) {
			return
		}
		found = append(found, Finding{
			true,
			fmt.Sprintf("column %q of %s is %s, which is not written as %s as Debezium writes it", name, t.Outbox.Table, column.Type, becomes),
			remedy + "leave cloudevents.compatibility empty",
		})
	}
	of := func(types []string) func(Column) bool {
		return func(c Column) bool { return slices.Contains(types, columnType(t, c.Name)) }
	}
	for _, name := range t.Outbox.Compatible.Keys {
		check(name, "a key or an ID", "", of(keyTypes))
	}
	if name := t.Outbox.Compatible.Payload; name != "" {
		check(name, "a value", "", of(payloadTypes))
	}
	for _, name := range t.Outbox.Compatible.Headers {
		check(name, "a header", "leave it out of outbox.headers if no consumer reads it, or ", func(c Column) bool {
			return of(headerTypes)(c) || slices.Contains(headerTimes, c.Type)
		})
	}
	return found
}
