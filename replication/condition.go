package replication

import (
	"context"
	"fmt"
	"time"
)

// Condition is the state of the server, apart from its slot.
type Condition struct {
	Slots, MaxSlots int
	// Senders are walsenders of other clients.
	Senders, MaxSenders int
	Clock               time.Duration // the server's clock minus the streamer's
	// Oldest is the oldest transaction that writes, if any.
	Oldest *Transaction
}

// TableSize is the state of an outbox table.
type TableSize struct {
	Rows, Dead int64 // the server's estimates
	Bytes      int64 // on disk, indexes included
}

// Condition asks the server. It needs no privileges.
func (c *Control) Condition(ctx context.Context) (Condition, error) {
	var s Condition
	var clock time.Time
	asked := time.Now()
	err := c.conn.QueryRow(ctx, `select (select count(*) from pg_replication_slots), current_setting('max_replication_slots')::int,
		(select count(*) from pg_stat_replication where application_name is distinct from $1),
		current_setting('max_wal_senders')::int, clock_timestamp()`,
		c.config.ApplicationName()).
		Scan(&s.Slots, &s.MaxSlots, &s.Senders, &s.MaxSenders, &clock)
	if err != nil {
		return s, fmt.Errorf("condition of the server: %w", err)
	}
	s.Clock = clock.Sub(asked.Add(time.Since(asked) / 2))
	oldest, found, err := oldestTransaction(ctx, c, c.conn.PgConn().PID())
	if err != nil {
		return s, err
	}
	if found {
		s.Oldest = &oldest
	}
	return s, nil
}

// TableSize asks the server. It needs no privileges.
func (c *Control) TableSize(ctx context.Context, t Table) (s TableSize, err error) {
	err = c.conn.QueryRow(
		ctx,
		`select coalesce(sum(n_live_tup), 0)::bigint, coalesce(sum(n_dead_tup), 0)::bigint,
			coalesce(sum(pg_total_relation_size(relid)), 0)::bigint
		from pg_stat_all_tables where relid in (`+storage+")",
		t.OID,
	).Scan(&s.Rows, &s.Dead, &s.Bytes)
	if err != nil {
		return s, fmt.Errorf("size of table %s: %w", t.Outbox.Table, err)
	}
	return s, nil
}

const (
	// spareSlots is how many slots catching up takes: a copy of the slot for each
	// of two sessions.
	spareSlots = 2
	// spareSenders counts one walsender to stream through, and one whose client
	// the server has not yet noticed to be gone.
	spareSenders = 2
	// longTransaction is the age from which a transaction that writes is reported.
	longTransaction = 10 * time.Minute
	// largeTable and manyDead are the thresholds above which the outbox table
	// should be cleaned up.
	largeTable = 10 << 30
	manyDead   = 1_000_000
)

// ClocksApart is the smallest difference between two clocks that is reported.
const ClocksApart = 5 * time.Second

// CheckCondition looks for problems before they occur.
func CheckCondition(s Condition) []Finding {
	var found []Finding
	warn := func(remedy, format string, arguments ...any) {
		found = append(found, Finding{false, fmt.Sprintf(format, arguments...), remedy})
	}
	if spare := s.MaxSlots - s.Slots; spare < spareSlots {
		warn(
			fmt.Sprintf(
				"ALTER SYSTEM SET max_replication_slots = %d and restart PostgreSQL, or drop unused slots "+
					"(SELECT * FROM pg_replication_slots)",
				s.MaxSlots+10,
			),
			"%d of max_replication_slots = %d are left: catching up by SQL, with copies of the slot, takes %d",
			max(spare, 0), s.MaxSlots, spareSlots,
		)
	}
	if left := s.MaxSenders - s.Senders; left < spareSenders {
		warn(
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d and restart PostgreSQL", s.MaxSenders+10),
			"other clients take %d of max_wal_senders = %d: a streamer that was cut off may get none until the server has noticed",
			s.Senders, s.MaxSenders,
		)
	}
	if oldest := s.Oldest; oldest != nil && oldest.Age >= longTransaction {
		warn(oldest.end(), "%s: the server keeps all WAL since then, and reads it again after each reconnect", oldest)
	}
	if s.Clock.Abs() >= ClocksApart {
		warn(
			"synchronise both clocks with NTP",
			"the server's clock and this machine's are %s apart: lag in seconds and times of replays are wrong by that much",
			s.Clock.Abs().Round(time.Second),
		)
	}
	return found
}

// CheckSize looks for tables that need cleaning up.
func CheckSize(s TableSize, t Table) []Finding {
	var found []Finding
	warn := func(remedy, format string, arguments ...any) {
		found = append(found, Finding{false, fmt.Sprintf(format, arguments...), remedy})
	}
	if s.Bytes >= largeTable {
		warn(
			"delete rows that are published: see outbox.cleanup, or docs/how-to/clean-up.md",
			"outbox table %s takes %d GiB on disk and has about %d rows",
			t.Outbox.Table, s.Bytes>>30, s.Rows,
		)
	}
	if s.Dead >= manyDead && s.Dead > s.Rows {
		warn(
			"VACUUM "+QuoteTable(t.Outbox.Table),
			"outbox table %s holds %d dead rows and %d live ones: autovacuum does not keep up, or a long transaction holds it back",
			t.Outbox.Table, s.Dead, s.Rows,
		)
	}
	return found
}

// end is how to end the transaction.
func (t Transaction) end() string {
	if t.PID == 0 {
		return "COMMIT PREPARED or ROLLBACK PREPARED " + quoteLiteral(t.Prepared)
	}
	return fmt.Sprintf("SELECT pg_terminate_backend(%d), if nothing waits for it", t.PID)
}
