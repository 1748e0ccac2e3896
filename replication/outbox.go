package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
)

// OutboxQuery selects what ReadOutbox reads of the outbox table.
type OutboxQuery struct {
	Outbox  Outbox   // the table
	Columns []string // in this order; the table's if empty
	// TimeColumn holds the time when a row was written: a timestamptz, a timestamp
	// in UTC, a number in the configured unit, or text in ISO 8601. It may be empty.
	TimeColumn string
	// From and To limit TimeColumn: at or after From, before To. Zero times are no
	// limits.
	From, To time.Time
	// Undated includes rows whose TimeColumn holds no time: NULL or infinity.
	Undated bool
	// IDs limits the column IDColumn to these values; nil is no limit. Where the
	// server cannot filter, more rows may be returned.
	IDColumn string
	IDs      []string
	// OrderBy is a column to sort by; empty for no order.
	OrderBy string
	// AsWritten sorts by the beginning of the transactions that wrote the rows,
	// which is roughly the order of their commits.
	AsWritten bool
}

// OutboxSnapshot describes the snapshot that ReadOutbox sees.
type OutboxSnapshot struct {
	// Opened is the end of the WAL just before the snapshot: rows that commit at
	// or above it may be missing from the snapshot.
	Opened LSN
	// Settled is the end of the WAL just after the snapshot: every visible row has
	// its commit record below it.
	Settled LSN
	// Rows is the server's estimate of the number of rows; it may be far off.
	Rows int64
	// Types are the OIDs of the columns' types, with domains resolved.
	Types []uint32
}

// OutboxRow is a row as ReadOutbox hands it out. It is valid during the call
// only.
type OutboxRow struct {
	// Values are the columns in PostgreSQL's text form; nil is NULL.
	Values [][]byte
	// Time is the value of TimeColumn in microseconds since the Unix epoch, 0 if
	// it is NULL, infinite or not asked for.
	Time int64
}

// outboxLockTimeout is how long reading waits for a session that is altering
// the table.
const outboxLockTimeout = 10 * time.Second

// ReadOutbox hands every row of the outbox table, as of one moment, to visit.
// It is one sequential read that is sent as it goes. Nothing is collected on
// either side and no row is locked. Until the read ends, vacuum cannot remove
// rows that have died since it began.
func (c *Control) ReadOutbox(ctx context.Context, q OutboxQuery, open func(OutboxSnapshot) error, visit func(OutboxRow) error) error {
	table, err := c.DescribeTable(ctx, q.Outbox)
	if err != nil {
		return err
	}
	if !table.Exists {
		return failure.Refuse(table.Missing())
	}
	if err := Refusal(checkStrays(table)); err != nil {
		return err
	}
	charset := table.Charset()
	statement, parameters, err := q.sql(table)
	if err != nil {
		return err
	}
	if statement, err = inEncoding(statement, table.encoding); err != nil {
		return err
	}
	var snapshot OutboxSnapshot
	if snapshot.Opened, err = c.logEnd(ctx); err != nil {
		return err
	}
	tx, err := c.beginReading(ctx, table.encoding)
	if err != nil {
		return fmt.Errorf("read table %s: %w", q.Outbox.Table, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has changed nothing
	if err := c.openSnapshot(ctx, tx, table, &snapshot); err != nil {
		return err
	}
	return c.readRows(ctx, table, statement, parameters, q.TimeColumn != "", snapshot, open, func(row OutboxRow) error {
		for i, value := range row.Values {
			row.Values[i] = charset.UTF8(value)
		}
		return visit(row)
	})
}

// openSnapshot takes the snapshot, and only then asks for the end of the WAL.
func (c *Control) openSnapshot(ctx context.Context, tx pgx.Tx, t Table, s *OutboxSnapshot) error {
	_, err := tx.Exec(ctx, "set local lock_timeout = "+strconv.FormatInt(outboxLockTimeout.Milliseconds(), 10))
	if err == nil {
		err = tx.QueryRow(
			ctx,
			"select coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class where relkind = 'r' and oid in ("+storage+")",
			t.OID,
		).Scan(&s.Rows)
	}
	if err != nil {
		return fmt.Errorf("read table %s: %w", t.Outbox.Table, err)
	}
	s.Settled, err = c.logEnd(ctx)
	return err
}

// logEnd is the earliest position at which the next commit record could go.
func (c *Control) logEnd(ctx context.Context) (LSN, error) {
	var text string
	err := c.conn.QueryRow(
		ctx,
		"select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text",
	).Scan(&text)
	if err != nil {
		return 0, fmt.Errorf("end of the WAL: %w", err)
	}
	lsn, err := ParseLSN(text)
	// At the end of a page the insert position is after the next page's header. No
	// record ends there, and on an idle server that position would never be
	// confirmed.
	const page, header = 8192, 40
	if rest := lsn % page; rest <= header {
		lsn -= rest
	}
	return lsn, err
}

// ParseLSN reads an LSN as PostgreSQL prints it.
func ParseLSN(text string) (LSN, error) {
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not an LSN such as 0/15306C8", text)
	}
	return lsn, nil
}

func (c *Control) readRows(
	ctx context.Context, t Table, statement string, parameters [][]byte, timed bool, s OutboxSnapshot,
	open func(OutboxSnapshot) error, visit func(OutboxRow) error,
) error {
	// pgx is bypassed because values are wanted as the server prints them.
	result := c.conn.PgConn().ExecParams(ctx, statement, parameters, nil, nil, nil)
	opened := false
	for result.NextRow() {
		if !opened {
			opened = true
			for _, field := range result.FieldDescriptions() {
				s.Types = append(s.Types, field.DataTypeOID)
			}
			if err := open(s); err != nil {
				return abandon(c, err)
			}
		}
		row := OutboxRow{Values: result.Values()}
		if timed {
			last := len(row.Values) - 1
			if text := row.Values[last]; text != nil {
				row.Time, _ = strconv.ParseInt(string(text), 10, 64) // a bigint of the server's
			}
			row.Values = row.Values[:last]
		}
		if err := visit(row); err != nil {
			return abandon(c, err)
		}
	}
	if _, err := result.Close(); err != nil {
		return c.explainOutbox(t, err)
	}
	if !opened {
		return open(s)
	}
	return nil
}

// abandon ends the connection: what the server still sends is not wanted.
func abandon(c *Control, err error) error {
	closeQuietly(c.conn)
	return err
}

func (c *Control) explainOutbox(t Table, err error) error {
	described := fmt.Errorf("read table %s: %w", t.Outbox.Table, err)
	switch sqlState(err) {
	case "42501":
		return explainDenied(
			described, err,
			"GRANT SELECT ON "+QuoteTable(t.Outbox.Table)+" TO this user, or name one that may read it in postgres.dsn",
		)
	case "42703":
		return failure.Misconfigure(failure.Advise(described, "correct outbox.columns"))
	case "22007", "22008": // PostgreSQL's message quotes the value
		return failure.Misconfigure(failure.Advise(
			fmt.Errorf("read table %s: a row has text that is no time in the column that says when rows were written", t.Outbox.Table),
			"name another column with --time-column, or none",
		))
	case "53400":
		return failure.Advise(described, temporaryFiles)
	case "55P03":
		return failure.Advise(fmt.Errorf("%w: the table is being altered", described), "try again when the table has been altered")
	}
	return described
}

// sql is the statement and its parameters.
func (q OutboxQuery) sql(t Table) (string, [][]byte, error) {
	columns := q.Columns
	if len(columns) == 0 {
		columns = t.Outbox.Columns
	}
	var selected []string
	for _, name := range columns {
		selected = append(selected, quoteIdentifier(name))
	}
	order := ""
	switch {
	case q.AsWritten:
		order = " order by age(xmin) desc, ctid"
	case q.OrderBy != "" && columnType(t, q.OrderBy) == "uuid":
		return "", nil, failure.Misconfigure(
			failure.Advise(
				fmt.Errorf("column %q of %s is uuid, whose values have no order", q.OrderBy, t.Outbox.Table),
				"name a column that grows with time",
			),
		)
	case q.OrderBy != "":
		order = " order by " + quoteIdentifier(q.OrderBy)
	}
	var conditions []string
	var parameters [][]byte
	if q.TimeColumn != "" {
		at, err := timeExpressions(t, q.TimeColumn)
		if err != nil {
			return "", nil, err
		}
		selected = append(selected, at.micro)
		undated := ""
		if q.Undated {
			undated = " or (" + at.micro + ") is null"
		}
		for operator, bound := range map[string]time.Time{">=": q.From, "<": q.To} {
			if bound.IsZero() {
				continue
			}
			parameters = append(parameters, []byte(bound.UTC().Format(time.RFC3339Nano)))
			conditions = append(conditions, "("+at.compared+" "+operator+" "+fmt.Sprintf(at.limit, len(parameters))+undated+")")
		}
	}
	if q.IDs != nil && len(q.IDs) <= mostIDs && slices.Contains(plainIDs, columnType(t, q.IDColumn)) {
		parameters = append(parameters, arrayOf(t.Charset(), q.IDs))
		conditions = append(conditions, fmt.Sprintf("%s::text = any($%d::text[])", quoteIdentifier(q.IDColumn), len(parameters)))
	}
	statement := "select " + strings.Join(selected, ", ") + " from " + t.source()
	if len(conditions) > 0 {
		statement += " where " + strings.Join(conditions, " and ")
	}
	return statement + order, parameters, nil
}

// mostIDs is how many IDs the server is asked for individually.
const mostIDs = 100_000

// plainIDs are types whose text is the ID of the event.
var plainIDs = []string{"uuid", "text", "bigint", "integer"}

// escaped escapes elements of arrays within quotes.
var escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// arrayOf is the text of an array. It leaves out values that the database
// cannot hold.
func arrayOf(charset *Charset, values []string) []byte {
	text := []byte{'{'}
	for _, v := range values {
		v, ok := charset.Encode(v)
		if !ok {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(append(append(text, '"'), escaped.Replace(v)...), '"')
	}
	return append(text, '}')
}

// ErrNoCopy means that a slot could not be copied, for example because the server
// has none to spare.
var ErrNoCopy = errors.New("temporary copy of the slot")

// PeekWaiting hands the pgoutput messages that the configured slot has not
// confirmed to visit. It reads a temporary copy of the slot, so a client that
// streams from the slot is not disturbed. The copy takes one of the server's
// replication slots while PeekWaiting runs. The data is valid during the call
// of visit only.
func (c *Control) PeekWaiting(ctx context.Context, s Server, visit func(at LSN, data []byte) error) error {
	name := suffixed(c.config.Slot, "_verify_"+strconv.FormatUint(uint64(c.conn.PgConn().PID()), 10))
	if _, err := c.conn.Exec(ctx, "select pg_copy_logical_replication_slot($1, $2, true)", c.config.Slot, name); err != nil {
		return fmt.Errorf("%w %q: %w", ErrNoCopy, c.config.Slot, err)
	}
	if _, err := c.Of(name).Peek(ctx, s, 0, visit); err != nil {
		return err // a temporary slot ends with its connection
	}
	if _, err := c.conn.Exec(ctx, "select pg_drop_replication_slot($1)", name); err != nil {
		return fmt.Errorf("drop %w %q: %w", ErrNoCopy, name, err)
	}
	return nil
}
