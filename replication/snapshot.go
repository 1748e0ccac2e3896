package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
)

// Snapshot reads the rows of the outbox table that were committed before the
// slot began. No snapshot of the server's is exactly these rows. So they are
// defined by what the stream delivers: an old row is a row of the table that the
// slot does not deliver.
//
//	Settle     every old row is visible
//	Highest    no old row has a higher key
//	Open       a moment: everything below is as of it
//	Streamed   what the slot delivers up to after that moment
//	Ask, Next  the rows of the moment; those that were not in Streamed are old
//	Done       the moment is over
//
// From Open to Done the server keeps dead rows for this reader, so a caller
// keeps that short. One goroutine owns a Snapshot; only Wake may be called from
// others. docs/positions.md#rows-from-before-the-slot explains why this is
// exact.
type Snapshot struct {
	control *Control // for questions and messages
	config  Config
	server  Server
	table   Table
	query   SnapshotQuery
	order   Order

	rows *rowReader // nil when it has to be opened
	ids  *idReader  // nil when it has to be opened
	from LSN        // of the slot
	waker
}

// OpenSnapshot connects. Table, server and slot must have been checked. from is
// where the slot begins.
func OpenSnapshot(ctx context.Context, c Config, server Server, t Table, q SnapshotQuery, o Order, from LSN) (*Snapshot, error) {
	c.LockTimeout, c.Binary = 0, false
	control, err := Connect(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{control: control, config: c, server: server, table: t, query: q, order: o, from: from}
	// Messages must be on disk, but need not wait for a standby that others wait
	// for.
	if _, err := control.conn.Exec(ctx, "set synchronous_commit = local"); err != nil {
		s.Close()
		return nil, fmt.Errorf("set synchronous_commit: %w", err)
	}
	s.endPredecessors(ctx)
	return s, nil
}

// endPredecessors ends what a killed predecessor has left on the server: it
// decodes on until it notices that its client is gone, which may take as long as
// the snapshot itself. The caller holds the lock, so no other streamer uses
// copies of the slot. Without the right to do it, they end by themselves.
func (s *Snapshot) endPredecessors(ctx context.Context) {
	_, _ = s.control.conn.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots
		where temporary and active_pid is not null and slot_name like $1`, copiesOf(s.config.Slot))
}

// Order is the order of the rows.
func (s *Snapshot) Order() Order { return s.order }

// Close ends all connections.
func (s *Snapshot) Close() {
	s.closeRows()
	s.Restart()
	s.control.Close()
}

// Restart makes Streamed begin again where the slot begins.
func (s *Snapshot) Restart() {
	if s.ids != nil {
		s.ids.leave()
		s.ids = nil
	}
}

func (s *Snapshot) closeRows() {
	if s.rows != nil {
		s.rows.close()
		s.rows = nil
	}
}

// Estimate is the server's estimate of the number of rows, without reading
// them.
func (s *Snapshot) Estimate(ctx context.Context, after, last Key) (int64, error) {
	statement, err := s.statement("select", after, last, "")
	if err != nil {
		return 0, err
	}
	var rows int64
	err = s.control.quickly(ctx, func(tx pgx.Tx) error {
		rows, err = planRows(ctx, tx, statement) // in a session in UTF-8
		return err
	})
	if err != nil {
		return 0, s.explain(err)
	}
	return rows, nil
}

// Highest returns the highest key of the table. found is false if it has no
// row.
func (s *Snapshot) Highest(ctx context.Context) (k Key, found bool, err error) {
	rows, err := s.reader(ctx)
	if err != nil {
		return nil, false, err
	}
	statement, err := s.statement("select "+s.order.plain(), nil, nil, " order by "+s.order.sql(" desc")+" limit 1")
	if err != nil {
		return nil, false, err
	}
	if statement, err = inEncoding(statement, s.server.Encoding); err != nil {
		return nil, false, err
	}
	k, err = rows.one(ctx, statement)
	if err != nil {
		s.closeRows()
		return nil, false, s.explain(err)
	}
	if k == nil {
		return nil, false, nil
	}
	if err := s.order.Check(k); err != nil {
		return nil, false, failure.Refuse(failure.Advise(err, orderRemedy))
	}
	return k, true, nil
}

// Open begins a moment.
func (s *Snapshot) Open(ctx context.Context) error {
	rows, err := s.reader(ctx)
	if err == nil {
		err = rows.begin(ctx)
	}
	if err != nil {
		s.closeRows()
		return s.explain(err)
	}
	return nil
}

func (s *Snapshot) reader(ctx context.Context) (*rowReader, error) {
	if s.rows != nil {
		return s.rows, nil
	}
	var err error
	s.rows, err = openRows(ctx, s.config, s.server)
	return s.rows, err
}

// Ask requests the rows after a key, up to and including last, in order. after
// is nil at the beginning.
func (s *Snapshot) Ask(after, last Key, limit int) error {
	columns := append(quoteAll(s.table.Outbox.Columns), s.order.plain())
	statement, err := s.statement("select "+strings.Join(columns, ", "), after, last,
		fmt.Sprintf(" order by %s limit %d", s.order.sql(""), limit))
	if err == nil {
		statement, err = inEncoding(statement, s.server.Encoding)
	}
	if err != nil {
		return err
	}
	return s.rows.ask(statement)
}

// statement selects rows of the table in the range of keys. It is in UTF-8.
func (s *Snapshot) statement(selected string, after, last Key, rest string) (string, error) {
	var ranges []string
	if after != nil {
		ranges = append(ranges, s.order.than(">", after))
	}
	if last != nil {
		ranges = append(ranges, s.order.than("<=", last))
	}
	condition, err := s.query.condition(s.config, s.table, ranges...)
	if err != nil {
		return "", err
	}
	return selected + " from " + s.table.source() + condition + rest, nil
}

// Next returns the next row that has been received: the columns of the
// configuration, in their order, and then those of the key. It returns no row
// when none has been received yet, and done after the last one. A row is valid
// until the next call of Next or Wait.
func (s *Snapshot) Next() (row [][]byte, done bool, err error) {
	if row, done, err = s.rows.next(); err != nil {
		err = s.explain(err)
	}
	return row, done, err
}

// Types are the OIDs of the types of a row's values. They are known with the
// first row.
func (s *Snapshot) Types() []uint32 { return s.rows.types }

// Wait blocks until more has been received, Wake is called or until has passed.
func (s *Snapshot) Wait(until time.Time) error {
	_, err := s.fill(&s.rows.feed, until)
	return err
}

// Flowing reports whether rows are arriving as fast as the server can send them.
func (s *Snapshot) Flowing() bool { return s.rows != nil && s.rows.busy && s.rows.Flowing() }

// Done ends the moment. It also gives up rows that were asked for and not read.
func (s *Snapshot) Done(ctx context.Context) error {
	if s.rows == nil {
		return nil
	}
	if s.rows.busy { // a server that is blocked while it sends notices only the end of the connection
		s.closeRows()
		return nil
	}
	if err := s.rows.commit(ctx); err != nil {
		s.closeRows()
		return s.explain(err)
	}
	return nil
}

// Streamed hands visit the pgoutput messages that the slot delivers, from where
// the previous call ended to after everything that is visible now. each is
// called while waiting for the server.
func (s *Snapshot) Streamed(ctx context.Context, visit func(message []byte) error, each func() error) error {
	to, err := s.emit(ctx, "fence")
	if err != nil {
		return err
	}
	if s.ids == nil {
		if s.ids, err = openIDs(ctx, s.config, s.server, s.from); err != nil {
			return err
		}
	}
	if err := s.ids.read(ctx, &s.waker, to, visit, each); err != nil {
		s.Restart()
		return err
	}
	return nil
}

// explain adds what to do about an error of reading the table.
func (s *Snapshot) explain(err error) error {
	if _, refused := errors.AsType[*TooLargeError](err); refused {
		return failure.Refuse(fmt.Errorf("read table %s: %w", s.table.Outbox.Table, err))
	}
	return s.control.explainOutbox(s.table, err)
}
