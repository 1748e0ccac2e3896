package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Observer looks at the outbox table repeatedly. Between looks it keeps a
// snapshot, on its own session. The snapshot shows which transaction ended a
// version of a catalog row. If the same transaction created the next version,
// the table was never without one. One goroutine owns an Observer.
type Observer struct {
	control *Control
	last    Table
	conn    *pgx.Conn // in a transaction that sees what the last look saw; or nil
}

// heldAtMost is how long the server keeps the snapshot of a frozen instance:
// the snapshot holds back vacuum.
const heldAtMost = 30 * time.Second

// Observe begins with the result of the last look at the table.
func (c *Control) Observe(last Table) *Observer { return &Observer{control: c, last: last} }

// Table is the last description that was found free of problems.
func (o *Observer) Table() Table { return o.last }

// Look describes the table. It reports what is wrong with it, or may have been
// since the last look.
func (o *Observer) Look(ctx context.Context) (Table, []Finding, error) {
	now, err := o.control.DescribeTable(ctx)
	if err != nil {
		return now, nil, err
	}
	now = now.After(o.last.Membership())
	config := o.control.config
	found := CheckTable(now, config)
	if Refusal(found) == nil {
		found = append(found, left(o.before(ctx).gap(now.footing), config)...)
	}
	if Refusal(found) == nil {
		o.last = now
		o.hold(ctx)
	}
	return now, found, nil
}

// before is what the last look saw and, if the snapshot was kept, which
// transactions have ended it since.
func (o *Observer) before(ctx context.Context) footing {
	if o.conn != nil {
		if was, err := o.read(ctx); err == nil && was.same(o.last.footing) {
			return was
		}
		o.Close()
	}
	return o.last.footing
}

func (o *Observer) read(ctx context.Context) (footing, error) {
	return readFooting(ctx, o.conn, o.conn.PgConn().ParameterStatus("server_version"), o.control.config)
}

// hold takes a snapshot that sees what the last look saw. Without a snapshot
// the next look knows less, and refuses where it cannot tell.
func (o *Observer) hold(ctx context.Context) {
	if err := o.begin(ctx); err != nil {
		o.Close()
		return
	}
	seen, err := o.read(ctx)
	if err == nil { // releases the locks on the catalog and keeps the snapshot
		_, err = o.conn.Exec(ctx, "rollback to look")
	}
	if err != nil || !seen.same(o.last.footing) {
		o.Close()
	}
}

func (o *Observer) begin(ctx context.Context) error {
	if o.conn == nil {
		config := o.control.config
		config.LockTimeout = 0
		conn, err := connectSQL(ctx, config)
		if err != nil {
			return err
		}
		o.conn = conn
		if _, err := conn.Exec(ctx, fmt.Sprintf("set idle_in_transaction_session_timeout = %d", heldAtMost.Milliseconds())); err != nil {
			return err
		}
	} else if _, err := o.conn.Exec(ctx, "commit"); err != nil {
		return err
	}
	_, err := o.conn.Exec(ctx, "begin isolation level repeatable read read only; select; savepoint look")
	return err
}

// Close releases the snapshot.
func (o *Observer) Close() {
	if o.conn != nil {
		closeQuietly(o.conn)
		o.conn = nil
	}
}
