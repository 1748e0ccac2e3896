package faults

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

const (
	// oldEvents is how many events are in the table before the slot, and snapshotRate
	// how many are published in a second, so that faults strike meanwhile.
	oldEvents    = 4000
	snapshotRate = "100"
)

// underSnapshot are faults that are also played while the rows from before the
// slot are published.
var underSnapshot = []string{"SIGKILL", "SIGTERM", "frozen shortly", "zombie", "standby", "started at once"}

// withSnapshots returns the faults, and those of underSnapshot once more.
func withSnapshots(faults []fault) []fault {
	all := slices.Clone(faults)
	for _, f := range faults {
		if f.group == processGroup && slices.Contains(underSnapshot, f.name) {
			all = append(all, withSnapshot(f))
		}
	}
	return all
}

func withSnapshot(f fault) fault {
	f.name += ", snapshot under way"
	f.what += ", while the rows from before the slot are published"
	f.settings = maps.Clone(f.settings)
	if f.settings == nil {
		f.settings = map[string]string{}
	}
	f.settings["snapshot.mode"], f.settings["snapshot.order_by"] = "initial", "n"
	f.settings["snapshot.rate"], f.settings["snapshot.chunk_rows"] = snapshotRate, "300"
	f.fast = f.fast && f.name != "SIGKILL, snapshot under way" && f.name != "standby, snapshot under way" // which take longest
	prepare, times := f.prepare, f.times
	f.times = func() int { return min(times(), 15) } // the snapshot takes less than a minute
	f.patience = 3 * time.Minute
	f.prepare = func(r *run) {
		if prepare != nil {
			prepare(r)
		}
		r.prefill()
	}
	return f
}

// prefill commits events before the slot is created. Column n has the order in
// which the rows of an aggregate were committed, because it is taken while its
// lock is held.
func (r *run) prefill() {
	r.t.Helper()
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec("alter table outbox add column n bigserial; create index on outbox (n)")
	l := &load{dsn: r.dsn, journal: newJournal()}
	r.audit.journal, r.audit.snapshot = l.journal, true
	w := &writer{load: l, random: rand.New(rand.NewPCG(r.seed, writers+1))}
	defer w.disconnect(context.WithoutCancel(r.ctx))
	require.True(r.t, w.connected(r.ctx))
	for count := 0; count < oldEvents; {
		w.transact(r.ctx, w.fillOld)
		require.NoError(r.t, w.conn.QueryRow(r.ctx, "select count(*) from outbox").Scan(&count))
	}
	r.exec("analyze outbox")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
}

// fillOld does the work of a transaction whose rows stay in the table: a row
// that is deleted before the snapshot is not published.
func (w *writer) fillOld(ctx context.Context, tx pgx.Tx, t *transaction) error {
	switch dice := w.random.IntN(10); {
	case dice < 3:
		return w.several(ctx, tx, t)
	case dice < 4:
		return w.savepoint(ctx, tx, t)
	case dice < 5:
		return errors.Join(w.insert(ctx, tx, t, w.aggregate(), 3, 0), errRollback)
	default:
		return w.copy(ctx, tx, t, w.aggregate(), 5+w.random.IntN(30))
	}
}
