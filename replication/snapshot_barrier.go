package replication

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/pgname"
	"github.com/outboxstream/streamer/internal/wait"
)

// settlePoll is how often the server is asked whether a transaction has ended.
const settlePoll = 100 * time.Millisecond

// unsettled is a transaction that was running when the slot existed, and that
// may have written its commit record before the slot's start.
type unsettled struct {
	XID   string
	PID   int // 0: a prepared transaction, or not known
	GID   string
	State string // of its session; empty where the role may not see it
	Wait  string // what the session waits for
	User  string
}

func (u unsettled) String() string {
	who := fmt.Sprintf("transaction %s of process %d (user %q)", u.XID, u.PID, u.User)
	switch {
	case u.GID != "":
		who = fmt.Sprintf("transaction %s, prepared as %q", u.XID, u.GID)
	case u.PID == 0:
		who = "transaction " + u.XID
	}
	if u.Wait != "" {
		who += ", waiting for " + u.Wait
	}
	return who
}

// unsettledSQL returns those of the transactions $1 that are still running. A
// prepared transaction that is being committed keeps its entry until the end.
const unsettledSQL = `select x::text, coalesce(l.pid, 0), coalesce(p.gid, ''), coalesce(a.state, ''),
		coalesce(a.wait_event_type || ' ' || a.wait_event, ''), coalesce(a.usename::text, '')
	from pg_snapshot_xip(pg_current_snapshot()) x
		left join pg_locks l on l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock'
			and l.transactionid::text::bigint = x::text::bigint % 4294967296
		left join pg_prepared_xacts p on p.transaction::text::bigint = x::text::bigint % 4294967296
		left join pg_stat_activity a on a.pid = l.pid
	where $1::text[] is null or x::text = any($1)`

// Settle waits until every transaction that may have committed before the slot's
// start is visible to others. Such a commit waits, for instance, for a
// synchronous standby: its record is in the WAL, below the slot's start, but no
// other session can see its rows yet. They would be in neither the table nor the
// stream.
//
// A session that is idle within its transaction has not begun to commit, so its
// commit record will be after the slot's start. A transaction that is prepared
// may be committing, so it has to end. waiting is called now and then with what
// is being waited for.
func (s *Snapshot) Settle(ctx context.Context, waiting func(string)) error {
	// The server's list of running transactions leaves out those that have begun
	// since the last one ended. Ending one includes them.
	if _, err := s.emit(ctx, "barrier"); err != nil {
		return err
	}
	open, err := s.unsettled(ctx, nil)
	if err != nil {
		return err
	}
	for began, told := time.Now(), time.Duration(0); len(open) > 0; {
		if !wait.For(ctx, settlePoll) {
			return context.Cause(ctx)
		}
		ids := make([]string, len(open))
		for i, u := range open {
			ids[i] = u.XID
		}
		if open, err = s.unsettled(ctx, ids); err != nil {
			return err
		}
		if passed := time.Since(began); len(open) > 0 && passed >= told+time.Second {
			told = passed
			waiting(open[0].String())
		}
	}
	return nil
}

// unsettled returns the transactions among ids, or among all if ids is nil, that
// may be committing.
func (s *Snapshot) unsettled(ctx context.Context, ids []string) ([]unsettled, error) {
	rows, err := s.control.conn.Query(ctx, unsettledSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("running transactions: %w", err)
	}
	running, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unsettled])
	if err != nil {
		return nil, fmt.Errorf("running transactions: %w", err)
	}
	var open []unsettled
	for _, u := range running {
		if u.PID == 0 || u.GID != "" || !strings.HasPrefix(u.State, "idle in transaction") {
			open = append(open, u)
		}
	}
	return open, nil
}

// emit writes a message to the WAL in a transaction of its own, and returns an
// LSN after its commit record, which is on disk. Every commit that was visible
// before is on disk then, too.
func (s *Snapshot) emit(ctx context.Context, content string) (LSN, error) {
	conn := s.control.conn
	_, err := conn.Exec(ctx, "select pg_logical_emit_message(true, $1, $2)", pgname.OwnMessages, content)
	if err != nil {
		return 0, fmt.Errorf("message in the WAL: %w", err)
	}
	var text string
	if err := conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("end of the WAL: %w", err)
	}
	return ParseLSN(text)
}
