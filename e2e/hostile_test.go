package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// Every command works with a role and a database whose settings end sessions,
// hide warnings, forbid writing and switch the role.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"14", "15", "17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if version != "17" {
				testserver.Long(t)
			}
			r := newRig(t, "", withServer(pgtest.New(t, pgtest.Options{Version: version})), withStore("postgres"),
				withConfig("outbox.columns.time=created_at", "outbox.cleanup.retention=1h", "outbox.cleanup.interval=100ms", "rewind.keep=1h"))
			r.dsn = r.pg.HostileRole(t, r.db, "REPLICATION")
			r.exec("grant create on schema public to hostile")
			r.exec("do $$ begin execute format('grant create on database %I to hostile', current_database()); end $$")
			output, code := r.command("setup", "--create-table")
			require.Zero(t, code, output)

			const rows = 40_000
			p := r.start("replication.reader=stream")
			r.one(rows)
			r.await(p, "order", rows)
			r.looksFine()
			assert.Zero(t, p.stop())

			r.one(rows)
			p = r.start("replication.reader=catch-up", "outbox.cleanup.mode=delete")
			r.await(p, "order", 2*rows)
			r.verify().clean(t)
			r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, created_at) " +
				"values ('order', 'o1', 't', '{}', now() - interval '1 day')")
			p.eventually("the old row is removed", func() bool { return r.count() == 2*rows })
			assert.Zero(t, p.stop())
			assert.NotContains(t, p.log.String(), "SQLSTATE")
		})
	}
}

// one commits this many rows in one transaction.
func (r *rig) one(rows int) {
	r.t.Helper()
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"select 'order', 'o' || n, 't', '{}' from generate_series(1, $1) n", rows)
}

// looksFine runs the commands that only look.
func (r *rig) looksFine() {
	r.t.Helper()
	found, _ := r.doctor()
	for _, f := range found {
		assert.NotEqual(r.t, "FAIL", f.Verdict, f)
	}
	r.verify().clean(r.t)
	for _, command := range []string{"status", "checkpoint show", "setup", "replay --missing", "replay --from beginning --dry-run"} {
		output, code := r.command(strings.Fields(command)...)
		assert.Zero(r.t, code, fmt.Sprint(command, output))
	}
}
