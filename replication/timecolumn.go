package replication

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// timeSQL are the expressions that read a time from a column.
type timeSQL struct {
	micro    string // microseconds since the Unix epoch, NULL for infinity
	compared string // what is compared with limit
	limit    string // for a timestamptz parameter whose number is left open
}

// defaultTimeUnit is a millisecond, in microseconds.
const defaultTimeUnit = 1000

// timeExpressions says how to read the time from a column, by its type.
func timeExpressions(t Table, column string) (timeSQL, error) {
	have, ok := t.column(column)
	if !ok {
		return timeSQL{}, failure.Misconfigure(
			fmt.Errorf("outbox table %s has no column %q: it has %s", t.Outbox.Table, column, columnNames(t.Columns)),
		)
	}
	name := quoteIdentifier(column)
	unit := cmp.Or(t.Outbox.TimeUnit, defaultTimeUnit)
	switch typ := columnType(t, column); {
	case strings.HasPrefix(typ, "timestamp") && strings.HasSuffix(typ, "with time zone"):
		return timestampSQL(name, "$%d::timestamptz"), nil
	case strings.HasPrefix(typ, "timestamp"):
		return timestampSQL(name, "($%d::timestamptz at time zone 'UTC')"), nil
	case typ == "bigint":
		return timeSQL{
			micro: fmt.Sprintf("%s * %d", name, unit), compared: name,
			limit: fmt.Sprintf("(extract(epoch from $%%d::timestamptz) * %d)::bigint", microseconds/unit),
		}, nil
	case typ == "integer" && unit == microseconds, typ == "numeric":
		return timeSQL{
			micro: fmt.Sprintf("trunc(%s::numeric * %d)::bigint", name, unit), compared: name + "::numeric",
			limit: fmt.Sprintf("(extract(epoch from $%%d::timestamptz) * %d)::numeric", microseconds/unit),
		}, nil
	case slices.Contains(textTypes, typ): // the session's time zone is UTC
		return timestampSQL("(case when "+name+" ~ '"+beginsAsTime+"' then "+name+"::timestamptz end)", "$%d::timestamptz"), nil
	}
	return timeSQL{}, failure.Misconfigure(
		fmt.Errorf(
			"column %q of table %s is %s, not timestamptz, timestamp, a number in outbox.time_unit or text", column, t.Outbox.Table, have.Type,
		),
	)
}

// cleanupExpressions says how to read the time by which rows are removed. Text
// is refused: any column may hold text that PostgreSQL takes for a time.
func cleanupExpressions(t Table, column string) (timeSQL, error) {
	at, err := timeExpressions(t, column)
	if err == nil && slices.Contains(textTypes, columnType(t, column)) {
		err = failure.Misconfigure(fmt.Errorf("column %q of table %s is text, not timestamptz, timestamp or a number", column, t.Outbox.Table))
	}
	return at, err
}

var textTypes = []string{"text", "character varying", "character"}

// beginsAsTime keeps text that is no time from ending the query: it is as a
// NULL.
const beginsAsTime = `^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}`

// microseconds in a second.
const microseconds = 1_000_000

func timestampSQL(expression, limit string) timeSQL {
	return timeSQL{
		micro:    "case when isfinite(" + expression + ") then (extract(epoch from " + expression + ") * 1000000)::bigint end",
		compared: expression, limit: limit,
	}
}
