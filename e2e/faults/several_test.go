package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// otherTable is a second outbox table: other names, in another order. A third
// part of the events is in no table.
const otherTable = `create schema other; create table other."Events" (
	body json, kind text not null, entity_id text not null, entity text not null, "no" uuid primary key)`

// messagesPrefix is that of events without a table.
const messagesPrefix = "faults"

// severalOutboxes are the settings for them.
const severalOutboxes = `[{table: outbox}, {table: other.Events, columns: {id: "no", aggregate_type: entity, aggregate_id: entity_id, ` +
	`type: kind, payload: body}}, {messages: ` + messagesPrefix + `}]`

// withSeveral returns the faults, and the fast ones once more with several
// outboxes.
func withSeveral(faults []fault) []fault {
	all := slices.Clone(faults)
	for _, f := range faults {
		if f.fast {
			all = append(all, several(f))
		}
	}
	return all
}

func several(f fault) fault {
	f.fast = f.name == "SIGKILL" // the others are for a full run
	f.name += ", several outboxes"
	f.what += ", with events in two tables and in none"
	f.several = true
	settings := map[string]string{"outboxes": severalOutboxes}
	maps.Copy(settings, f.settings)
	f.settings = settings
	return f
}

// destination is where a writer puts a row.
type destination int

const (
	inOutbox destination = iota
	inOther
	inNoTable
	destinations
)

// home chooses where the next row goes, among the first n destinations.
func (w *writer) home(n destination) destination {
	if !w.load.several {
		return inOutbox
	}
	return destination(w.random.IntN(int(n)))
}

// queue adds the statement that writes a row.
func (d destination) queue(batch *pgx.Batch, row []any) {
	switch d {
	case inOther:
		batch.Queue(`insert into other."Events" ("no", entity, entity_id, kind, body) values ($1, $2, $3, $4, $5)`, row...)
	case inNoTable:
		batch.Queue("select pg_logical_emit_message(true, $1, $2::text)", messagesPrefix, cloudEvent(row))
	default:
		batch.Queue("insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, $2, $3, $4, $5)", row...)
	}
}

// cloudEvent is the event that a row would have become, with its payload as it
// is.
func cloudEvent(row []any) string {
	text := func(value any) []byte {
		encoded, _ := json.Marshal(fmt.Sprint(value)) // of a text
		return encoded
	}
	return fmt.Sprintf(`{"specversion": "1.0", "source": "/faults", "id": %s, "aggregatetype": %s, "subject": %s, "type": %s, "data":%s}`,
		text(row[0]), text(row[1]), text(row[2]), text(row[3]), row[4])
}

// copyInto is where COPY puts rows: a table and its columns.
func (d destination) copyInto() (pgx.Identifier, []string) {
	if d == inOther {
		return pgx.Identifier{"other", "Events"}, []string{"no", "entity", "entity_id", "kind", "body"}
	}
	return pgx.Identifier{"outbox"}, []string{"id", "aggregatetype", "aggregateid", "type", "payload"}
}
