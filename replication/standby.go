package replication

import (
	"context"
	"encoding/json"
	"fmt"
)

// waitClass is the first key of the locks that instances hold while they stand
// by, "strw" in ASCII.
const waitClass = 0x73747277

// Company is what else uses a stream: the instances that stand by, and a replay.
type Company struct {
	Standbys []Holder
	Replay   *ReplaySlotState // nil: none
}

// ReplaySlotState is the state of the slot of a replay, which is running or was
// interrupted.
type ReplaySlotState struct {
	Name      string `json:"name"`
	Active    bool   `json:"active"`
	Confirmed string `json:"confirmed"`
	// RetainedWAL is in bytes.
	RetainedWAL int64 `json:"retained_wal"`
}

// StandBy makes this instance visible to the one it waits for, with a shared
// lock that excludes nobody and ends with the connection. It is called once.
func (c *Control) StandBy(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "select pg_catalog.pg_try_advisory_lock_shared($1, $2)", int32(waitClass), int32(lockKey(c.config.Slot)))
	if err != nil {
		return fmt.Errorf("announce a standby of slot %q: %w", c.config.Slot, err)
	}
	return nil
}

// Company asks who stands by for the lock that this connection holds, and
// whether a replay has a slot. It takes no lock.
func (c *Control) Company(ctx context.Context) (Company, error) {
	var standbys, replay []byte
	err := c.conn.QueryRow(ctx, `select
		(select coalesce(jsonb_agg(jsonb_build_object('pid', l.pid, 'application', coalesce(a.application_name, ''),
				'address', coalesce(host(a.client_addr), '')) order by l.pid), '[]')
			from (select pid from pg_catalog.pg_locks
				where locktype = 'advisory' and granted and objsubid = 2 and classid::bigint = $2 and objid::bigint = $3
					and pid <> pg_backend_pid()
					and database = (select oid from pg_catalog.pg_database where datname = current_database())
				order by pid limit 100) l
			left join pg_catalog.pg_stat_activity a on a.pid = l.pid),
		(select jsonb_build_object('name', slot_name, 'active', active, 'confirmed', confirmed_flush_lsn::text,
				'retained_wal', case when pg_is_in_recovery() then 0
					else pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::bigint end)
			from pg_catalog.pg_replication_slots where slot_name = $1)`,
		ReplaySlot(c.config.Slot), int64(waitClass), int64(lockKey(c.config.Slot))).Scan(&standbys, &replay)
	if err != nil {
		return Company{}, fmt.Errorf("standbys of slot %q: %w", c.config.Slot, err)
	}
	var found Company
	if err := json.Unmarshal(standbys, &found.Standbys); err != nil {
		return Company{}, fmt.Errorf("standbys of slot %q: %w", c.config.Slot, err)
	}
	if replay != nil {
		if err := json.Unmarshal(replay, &found.Replay); err != nil {
			return Company{}, fmt.Errorf("replay slot of %q: %w", c.config.Slot, err)
		}
	}
	return found, nil
}
