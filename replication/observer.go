package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Observer looks at the outbox tables repeatedly. Between looks it keeps a
// snapshot, on its own session. The snapshot shows which transaction ended a
// version of a catalog row. If the same transaction created the next version,
// the table was never without one. One goroutine owns an Observer.
type Observer struct {
	control *Control
	last    []Table
	conn    *pgx.Conn // in a transaction that sees what the last look saw; or nil
	turn    int       // see describe
}

// described is how many tables a look describes although nothing says that
// they have changed.
const described = 8

// heldAtMost is how long the server keeps the snapshot of a frozen instance:
// the snapshot holds back vacuum.
const heldAtMost = 30 * time.Second

// Observe begins with the result of the last look at the tables.
func (c *Control) Observe(last []Table) *Observer { return &Observer{control: c, last: last} }

// Tables is the last description that was found free of problems.
func (o *Observer) Tables() []Table { return o.last }

// Look describes the tables. It reports what is wrong with them, or may have
// been since the last look. A table that matches a pattern may come and go: the
// look that sees it first reports what was committed before, and a table that
// was dropped or has left the publication is no longer looked at.
func (o *Observer) Look(ctx context.Context) ([]Table, []Finding, error) {
	if !o.control.config.readsTables() {
		return nil, nil, nil
	}
	last := byName(o.last)
	now, err := o.describe(ctx, last)
	if err != nil {
		return now, nil, err
	}
	config := o.control.config
	for i, t := range now {
		now[i] = t.After(last[t.Outbox.Table].Membership())
	}
	found := CheckTables(now, config)
	if Refusal(found) == nil {
		before := o.before(ctx)
		for _, t := range now {
			if was, known := before[t.Outbox.Table]; known && (t.Published || t.Outbox.Pattern == "") {
				found = append(found, left(was.gap(t.footing), t, config)...)
			}
		}
	}
	if Refusal(found) == nil {
		o.last = now
		o.hold(ctx)
	}
	return now, found, nil
}

// describe describes the tables that have changed, and of the others a few in
// turn: there may be one for each tenant, and a look every second. The versions
// of the catalog rows, which one query returns for all, do not show a column
// that was renamed.
func (o *Observer) describe(ctx context.Context, last map[string]Table) ([]Table, error) {
	outboxes, err := o.control.matching(ctx)
	if err != nil {
		return nil, err
	}
	version := o.control.conn.PgConn().ParameterStatus("server_version")
	footings, err := readFootings(ctx, o.control.conn, version, o.control.config.Publication, outboxes)
	if err != nil {
		return nil, err
	}
	now := make([]Table, len(outboxes))
	for i, outbox := range outboxes {
		was, known := last[outbox.Table]
		inTurn := (i-o.turn+len(outboxes))%len(outboxes) < described
		if known && !inTurn && was.footing.same(footings[i]) {
			now[i] = was
			continue
		}
		if now[i], err = o.control.DescribeTable(ctx, outbox); err != nil {
			return nil, err
		}
	}
	o.turn = (o.turn + described) % len(outboxes)
	return now, nil
}

// byName holds tables by their names.
func byName(tables []Table) map[string]Table {
	named := map[string]Table{}
	for _, t := range tables {
		named[t.Outbox.Table] = t
	}
	return named
}

// before is what the last look saw of the published tables and, if the snapshot
// was kept, which transactions have ended it since.
func (o *Observer) before(ctx context.Context) map[string]footing {
	footings := map[string]footing{}
	if o.conn != nil {
		was, err := o.read(ctx)
		if err != nil || !o.seen(was) {
			o.Close()
			was = nil
		}
		for i, f := range was {
			if o.last[i].Published || o.last[i].Outbox.Pattern == "" {
				footings[o.last[i].Outbox.Table] = f
			}
		}
		if was != nil {
			return footings
		}
	}
	for _, t := range o.last {
		if t.Published || t.Outbox.Pattern == "" {
			footings[t.Outbox.Table] = t.footing
		}
	}
	return footings
}

// seen reports whether the last look saw the same.
func (o *Observer) seen(footings []footing) bool {
	for i, t := range o.last {
		if !footings[i].same(t.footing) {
			return false
		}
	}
	return true
}

func (o *Observer) read(ctx context.Context) ([]footing, error) {
	outboxes := make([]Outbox, len(o.last))
	for i, t := range o.last {
		outboxes[i] = t.Outbox
	}
	return readFootings(ctx, o.conn, o.conn.PgConn().ParameterStatus("server_version"), o.control.config.Publication, outboxes)
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
	if err != nil || !o.seen(seen) {
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
