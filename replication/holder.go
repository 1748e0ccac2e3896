package replication

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/jackc/pgx/v5"
)

// Holder is a session of the server that holds the lock of the slot or reads
// the slot. The server tells the name and the address only to roles that may
// know them.
type Holder struct {
	PID         int    `json:"pid"`
	Application string `json:"application,omitempty"`
	Address     string `json:"address,omitempty"`
	Lock        bool   `json:"lock"` // it holds the lock: it is a streamer
}

func (h Holder) String() string {
	text := fmt.Sprintf("process %d of the server", h.PID)
	if h.Lock {
		text = "a streamer, " + text
	}
	if h.Application != "" {
		text += fmt.Sprintf(", application %q", h.Application)
	}
	if h.Address != "" {
		text += ", connected from " + h.Address
	}
	return text
}

// Holders returns the sessions that hold the lock of the slot or read the slot.
// It takes no lock.
func (c *Control) Holders(ctx context.Context) ([]Holder, error) {
	rows, err := c.conn.Query(ctx, `with holding as (
			select pid, true as locked from pg_catalog.pg_locks
			where locktype = 'advisory' and granted and objsubid = 2 and classid::bigint = $2 and objid::bigint = $3
				and database = (select oid from pg_catalog.pg_database where datname = current_database())
			union all
			select active_pid, false from pg_catalog.pg_replication_slots where slot_name = $1 and active_pid is not null)
		select h.pid, coalesce(max(a.application_name), ''), coalesce(max(host(a.client_addr)), ''), bool_or(h.locked)
		from holding h left join pg_catalog.pg_stat_activity a on a.pid = h.pid group by h.pid order by h.pid`,
		c.config.Slot, int64(lockClass), int64(lockKey(c.config.Slot)))
	if err != nil {
		return nil, explainShared(fmt.Errorf("sessions that use slot %q: %w", c.config.Slot, err))
	}
	holders, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Holder, err error) {
		err = row.Scan(&h.PID, &h.Application, &h.Address, &h.Lock)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("sessions that use slot %q: %w", c.config.Slot, err)
	}
	return holders, nil
}

// lockKey is the second key of a slot's advisory lock.
func lockKey(slot string) uint32 {
	hash := fnv.New32a()
	hash.Write([]byte(slot))
	return hash.Sum32()
}
