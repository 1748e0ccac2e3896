package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// Server identifies a PostgreSQL server and its capabilities.
type Server struct {
	SystemID  string // from initdb; the same on a primary and its standbys
	Timeline  int32
	Database  string
	Version   int    // server_version_num, 150018 for 15.18
	Encoding  string // of the database
	Flushed   LSN    // end of the WAL that is safely on disk
	InStandby bool   // the server is in recovery
	Started   string // when this run of the server began, by its own account
	WALLevel  string
	// SynchronousStandbyNames as configured; see checkSynchronous.
	SynchronousStandbyNames string
	MaxSlotKeepSize         string // max_slot_wal_keep_size, as shown
	// SynchronizedStandbySlots as configured, from PostgreSQL 17 on.
	SynchronizedStandbySlots string
	// Publication reports whether the configured publication exists.
	Publication bool
	// Pooled reports that another process serves the SQL connection than the one
	// that was announced when it was opened: something in between shares
	// connections out.
	Pooled bool
}

// Control is an SQL connection to the server, for questions and for the lock
// that keeps a second instance waiting. Losing the connection must end the
// session. A Control is not for concurrent use.
type Control struct {
	conn   *pgx.Conn
	config Config
}

// Connect opens the SQL connection.
func Connect(ctx context.Context, c Config) (*Control, error) {
	conn, err := connectSQL(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Control{conn: conn, config: c}, nil
}

// Close ends the connection and, with it, releases the lock.
func (c *Control) Close() { closeQuietly(c.conn) }

// Conn is the connection itself, for the commands that set things up.
func (c *Control) Conn() *pgx.Conn { return c.conn }

// lockClass is the first key of the streamer's advisory locks, "strm" in ASCII.
const lockClass = 0x7374726d

// TryLock takes the session lock of the slot. It reports whether it got the
// lock; if not, another instance holds it. The lock belongs to the connection
// and ends with it.
func (c *Control) TryLock(ctx context.Context) (bool, error) {
	var locked bool
	err := c.conn.QueryRow(ctx, "select pg_catalog.pg_try_advisory_lock($1, $2)",
		int32(lockClass), int32(lockKey(c.config.Slot))).Scan(&locked)
	if err != nil {
		return false, explainShared(fmt.Errorf("lock of slot %q: %w", c.config.Slot, err))
	}
	return locked, nil
}

// explainShared explains that a prepared statement of this connection belongs to
// another (42P05), or does not exist (26000): a pooler gives each transaction
// any of its connections to the server.
func explainShared(err error) error {
	if code := sqlState(err); code != "42P05" && code != "26000" {
		return err
	}
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("%w: a connection pooler is in between", err), "%s", pgsession.DirectRemedy(dsnKey),
	))
}

// Identify asks the server for its identity. It uses a short-lived replication
// connection, because only IDENTIFY_SYSTEM is open to every replication role.
func (c *Control) Identify(ctx context.Context) (Server, error) {
	var s Server
	var pid uint32
	err := c.conn.QueryRow(ctx, `select current_database(), current_setting('server_version_num')::int,
		current_setting('server_encoding'), pg_is_in_recovery(), current_setting('wal_level'),
		current_setting('synchronous_standby_names'), current_setting('max_slot_wal_keep_size'),
		coalesce(current_setting('synchronized_standby_slots', true), ''), pg_postmaster_start_time()::text,
		pg_backend_pid(), exists(select from pg_publication where pubname = $1)`, c.config.Publication).
		Scan(&s.Database, &s.Version, &s.Encoding, &s.InStandby, &s.WALLevel, &s.SynchronousStandbyNames, &s.MaxSlotKeepSize,
			&s.SynchronizedStandbySlots, &s.Started, &pid, &s.Publication)
	if err != nil {
		return Server{}, explainShared(fmt.Errorf("identify server: %w", err))
	}
	s.Pooled = pid != c.conn.PgConn().PID()
	conn, _, err := connectReplication(ctx, c.config, s.Encoding, nil)
	if err != nil {
		return Server{}, err
	}
	defer closeQuietly(conn)
	here, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return Server{}, fmt.Errorf("identify system: %w", err)
	}
	s.SystemID, s.Timeline, s.Flushed = here.SystemID, here.Timeline, here.XLogPos
	return s, nil
}

// Slot is the state of a replication slot, from pg_replication_slots. Fields
// that a server version does not have keep their zero value.
type Slot struct {
	Name               string    `json:"slot_name"`
	Plugin             string    `json:"plugin"`
	Type               string    `json:"slot_type"`
	Database           string    `json:"database"`
	Temporary          bool      `json:"temporary"`
	Active             bool      `json:"active"`
	ActivePID          int       `json:"active_pid"`
	RestartText        string    `json:"restart_lsn"`
	ConfirmedText      string    `json:"confirmed_flush_lsn"`
	WALStatus          string    `json:"wal_status"`
	SafeWALSize        *int64    `json:"safe_wal_size"` // bytes, nil without a limit
	Conflicting        bool      `json:"conflicting"`
	InvalidationReason string    `json:"invalidation_reason"`
	Failover           bool      `json:"failover"`
	Synced             bool      `json:"synced"` // kept by a standby as a copy of the primary's slot
	TwoPhase           bool      `json:"two_phase"`
	RetainedWAL        int64     `json:"-"` // bytes that the slot retains on disk
	Lag                int64     `json:"-"` // bytes between the confirmed position and the end of the WAL
	Flushed            LSN       `json:"-"` // end of the WAL when asked
	Restart            LSN       `json:"-"`
	Confirmed          LSN       `json:"-"`
	At                 time.Time `json:"-"` // when the server was asked
	// Copies is the number of copies through which a streamer is catching up.
	Copies int `json:"-"`
	// NextTransaction is the ID that the next transaction that writes will get.
	NextTransaction int64 `json:"-"`
	// Decoded is how many transactions were read from the slot, as far as the
	// server's statistics go back.
	Decoded int64 `json:"-"`
	// InStandby reports whether the server is in recovery.
	InStandby bool `json:"-"`
}

// Lost reports whether the slot can never be read again because the server has
// removed WAL that it needed.
func (s Slot) Lost() bool {
	return s.WALStatus == "lost" || s.InvalidationReason != "" || s.Conflicting
}

// InUse reports whether a client reads the slot, directly or through copies.
func (s Slot) InUse() bool { return s.Active || s.Copies > 0 }

// Slot reads the state of the configured slot. A missing slot is
// ErrSlotMissing.
func (c *Control) Slot(ctx context.Context) (Slot, error) {
	var text []byte
	var flushed string
	var copies int
	var next, decoded int64
	var standby bool
	asked := time.Now()
	err := c.conn.QueryRow(ctx, `select to_jsonb(s),
		(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end)::text,
		(select count(*) from pg_catalog.pg_replication_slots c where c.temporary and c.slot_name like $2),
		pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_is_in_recovery(),
		coalesce((select total_txns from pg_catalog.pg_stat_replication_slots t where t.slot_name = $1), 0)
		from pg_catalog.pg_replication_slots s where slot_name = $1`, c.config.Slot, copiesOf(c.config.Slot)).
		Scan(&text, &flushed, &copies, &next, &standby, &decoded)
	if errors.Is(err, pgx.ErrNoRows) {
		return Slot{}, c.slotMissing()
	}
	if err != nil {
		return Slot{}, fmt.Errorf("state of slot %q: %w", c.config.Slot, err)
	}
	slot := Slot{At: asked, Copies: copies, NextTransaction: next, InStandby: standby, Decoded: decoded}
	if err := json.Unmarshal(text, &slot); err != nil {
		return Slot{}, fmt.Errorf("state of slot %q: %w", c.config.Slot, err)
	}
	for _, field := range []struct {
		text string
		into *LSN
	}{{slot.RestartText, &slot.Restart}, {slot.ConfirmedText, &slot.Confirmed}, {flushed, &slot.Flushed}} {
		if field.text == "" {
			continue
		}
		if *field.into, err = pglogrepl.ParseLSN(field.text); err != nil {
			return Slot{}, fmt.Errorf("state of slot %q: %w", c.config.Slot, err)
		}
	}
	if slot.Restart != 0 {
		slot.RetainedWAL = int64(slot.Flushed) - int64(slot.Restart)
	}
	slot.Lag = max(0, int64(slot.Flushed)-int64(slot.Confirmed))
	return slot, nil
}

func (c *Control) slotMissing() error {
	return failure.Refuse(
		failure.Advise(
			fmt.Errorf("%w: slot %q does not exist", ErrSlotMissing, c.config.Slot),
			"create the slot with `streamer setup`; if it existed before, accept the gap with "+
				"`streamer checkpoint set slot --yes`, start `streamer run`, and publish what was committed in between from "+
				"the outbox table with `streamer replay --missing` (docs/how-to/slot-lost.md)",
		),
	)
}

// Ping proves that the connection, and with it the lock, is alive.
func (c *Control) Ping(ctx context.Context) error {
	if err := c.conn.Ping(ctx); err != nil {
		return fmt.Errorf("SQL connection that holds the lock of slot %q: %w", c.config.Slot, err)
	}
	return nil
}

var (
	// ErrSlotMissing reports that no slot of the configured name exists.
	ErrSlotMissing = errors.New("replication slot is missing")
	// ErrSlotActive reports that another client is streaming from the slot.
	// Waiting helps.
	ErrSlotActive = errors.New("replication slot is in use by another client")
)

// SwitchPoint is where the server's history left the given older timeline: the
// last LSN that both have in common. ok is false when the server's history does
// not contain that timeline at all.
func (c *Control) SwitchPoint(ctx context.Context, s Server, timeline int32) (at LSN, ok bool, err error) {
	if s.Timeline == 1 {
		return 0, false, nil // the first timeline has no history file
	}
	conn, _, err := connectReplication(ctx, c.config, s.Encoding, nil)
	if err != nil {
		return 0, false, err
	}
	defer closeQuietly(conn)
	history, err := pglogrepl.TimelineHistory(ctx, conn, s.Timeline)
	if err != nil {
		return 0, false, fmt.Errorf("history of timeline %d: %w", s.Timeline, err)
	}
	at, ok = switchPoint(string(history.Content), timeline)
	return at, ok, nil
}

// switchPoint reads a timeline history file. Its lines hold a timeline, the LSN
// at which it was left, and a reason.
func switchPoint(history string, timeline int32) (LSN, bool) {
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != strconv.Itoa(int(timeline)) {
			continue
		}
		at, err := pglogrepl.ParseLSN(fields[1])
		return at, err == nil
	}
	return 0, false
}
