package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgname"
)

// Lookup selects rows of an outbox table by one value.
type Lookup struct {
	// Reference is where the value is: a column, or column#/json/pointer.
	Reference string
	// Value is as in events.
	Value string
	// Most is how many rows are returned, the newest ones.
	Most int
	// Timeout ends the search.
	Timeout time.Duration
}

// Found are the rows of a table that a Lookup has found.
type Found struct {
	Rows []StoredRow
	// More reports that there are more rows than asked for.
	More bool
	// Value is the value as the server prints it.
	Value string
	// Indexed reports whether an index leads to the rows. Otherwise the whole table
	// was read.
	Indexed bool
}

// StoredRow is a row as it is in the table now.
type StoredRow struct {
	Columns []StoredValue
	// Written is the commit time of the transaction that wrote the row, or changed it
	// last. It is zero where the server does not keep it (track_commit_timestamp).
	Written time.Time
}

// StoredValue is the value of a column in PostgreSQL's text form; nil is NULL.
// The type of a domain is the type on which it is based.
type StoredValue struct {
	Name    string
	TypeOID uint32
	Text    []byte
}

var (
	// ErrOtherType reports that no row can have the value, because of the column's
	// type.
	ErrOtherType = errors.New("value is not of the type of the column")
	// ErrUnfinished reports that the search took too long.
	ErrUnfinished = errors.New("search of the table was given up")
)

// Lookup looks for rows in a transaction that changes nothing and ends after
// the timeout.
func (c *Control) Lookup(ctx context.Context, t Table, l Lookup) (found Found, err error) {
	column, ok := pgname.ParseColumn(l.Reference)
	value, holds := t.Charset().Encode(l.Value)
	if _, exists := t.column(column.Name); !ok || !exists {
		return found, failure.Misconfigure(fmt.Errorf("table %s has no column %q", t.Outbox.Table, column.Name))
	}
	if !holds {
		return found, ErrOtherType
	}
	if found.Indexed, err = c.indexed(ctx, t, column); err != nil {
		return found, err
	}
	tx, err := c.beginReading(ctx, t.encoding)
	if err != nil {
		return found, fmt.Errorf("search table %s: %w", t.Outbox.Table, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has changed nothing
	if err := limit(ctx, tx, l.Timeout); err != nil {
		return found, fmt.Errorf("search table %s: %w", t.Outbox.Table, err)
	}
	if err := c.collect(ctx, t, l, comparisonOf(t, column), value, &found); err != nil {
		return found, c.explainLookup(t, column, err)
	}
	return found, nil
}

func limit(ctx context.Context, tx pgx.Tx, timeout time.Duration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = '1s'; set local statement_timeout = %d", max(1, timeout.Milliseconds())))
	return err
}

// comparison is how a value is compared with a parameter.
type comparison struct {
	have, want string // SQL; the parameter is $1
	text       string // the parameter as text, in the server's form
}

// asThemselves are types whose values are compared as such, so that an index
// helps.
var asThemselves = []string{"uuid", "text", "smallint", "integer", "bigint", "numeric", "name"}

func comparisonOf(t Table, column pgname.Column) comparison {
	name := quoteIdentifier(column.Name)
	typ := columnType(t, column.Name)
	plain := comparison{want: "$1::text", text: "$1::text"}
	switch {
	case column.Pointer != nil && typ == "bytea":
		plain.have = "(convert_from(" + name + ", 'UTF8')::jsonb #>> " + textArray(column.Pointer) + ")"
	case column.Pointer != nil:
		plain.have = "(" + name + "::jsonb #>> " + textArray(column.Pointer) + ")"
	case typ == "bytea":
		return comparison{have: name, want: "decode($1::text, 'base64')", text: "$1::text"}
	case typ == "character varying":
		plain.have = name // as text, which its index is of
	case typ == "character": // trailing blanks do not count
		plain.have, plain.want = name, "$1::text::bpchar"
	case slices.Contains(asThemselves, typ):
		return comparison{have: name, want: "$1::text::" + typ, text: "$1::text::" + typ + "::text"}
	default:
		plain.have = name + "::text"
	}
	return plain
}

func textArray(tokens []string) string {
	quoted := make([]string, len(tokens))
	for i, token := range tokens {
		quoted[i] = quoteLiteral(token)
	}
	return "array[" + strings.Join(quoted, ", ") + "]::text[]"
}

// collect reads the rows. pgx is bypassed because values are wanted as the
// server prints them.
func (c *Control) collect(ctx context.Context, t Table, l Lookup, by comparison, value string, found *Found) error {
	parameter := [][]byte{[]byte(value)}
	charset := t.Charset()
	printed := c.conn.PgConn().ExecParams(ctx, "select "+by.text, parameter, nil, nil, nil).Read()
	if printed.Err != nil {
		return printed.Err
	}
	found.Value = string(charset.UTF8(printed.Rows[0][0]))
	var selected []string
	for _, name := range t.Outbox.Columns {
		selected = append(selected, quoteIdentifier(name))
	}
	const written = "case when current_setting('track_commit_timestamp') = 'on' " +
		"then (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint end"
	statement, err := inEncoding(fmt.Sprintf("select %s, %s from %s where %s = %s order by age(xmin) limit %d",
		strings.Join(selected, ", "), written, t.source(), by.have, by.want, l.Most+1), t.encoding)
	if err != nil {
		return err
	}
	result := c.conn.PgConn().ExecParams(ctx, statement, parameter, nil, nil, nil).Read()
	if result.Err != nil {
		return result.Err
	}
	found.More = len(result.Rows) > l.Most
	for _, values := range result.Rows[:min(len(result.Rows), l.Most)] {
		var row StoredRow
		last := len(values) - 1
		if micro, err := strconv.ParseInt(string(values[last]), 10, 64); err == nil {
			row.Written = time.UnixMicro(micro).UTC()
		}
		for i, text := range values[:last] {
			row.Columns = append(row.Columns, StoredValue{t.Outbox.Columns[i], result.FieldDescriptions[i].DataTypeOID, charset.UTF8(text)})
		}
		found.Rows = append(found.Rows, row)
	}
	return nil
}

// indexed reports whether an index leads to the values of a column.
func (c *Control) indexed(ctx context.Context, t Table, column pgname.Column) (is bool, err error) {
	if column.Pointer != nil {
		return false, nil
	}
	return c.exists(ctx, "indexes of table "+t.Outbox.Table, `select from pg_index i
		join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam
		join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
		where i.indrelid = $1 and a.attname = $2 and am.amname in ('btree', 'hash') and i.indisvalid and i.indpred is null`, t.OID, column.Name)
}

func (c *Control) explainLookup(t Table, column pgname.Column, err error) error {
	switch sqlState(err) {
	case "22P02", "22003", "22023", "22021":
		if column.Pointer == nil {
			return ErrOtherType
		}
		return fmt.Errorf("search table %s: column %q holds text that is no JSON", t.Outbox.Table, column.Name) // the message quotes it
	case "57014":
		return ErrUnfinished
	}
	return c.explainOutbox(t, err)
}
