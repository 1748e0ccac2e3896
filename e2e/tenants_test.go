package e2e

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTenant creates the schema of a tenant, with its outbox.
func (r *rig) newTenant(n int) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`create schema tenant_%[1]d; create table tenant_%[1]d.outbox (
		id bigint generated always as identity primary key, aggregatetype text, aggregateid text, type text, payload jsonb)`, n))
}

func (r *rig) ofTenant(n int) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`insert into tenant_%d.outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 'placed', '{}')`, n))
}

// A schema for each tenant: tables that match the pattern join when they are
// published, are announced when they are not, and may be dropped.
func TestTenants(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", withConfig(
		"outboxes=[{table: tenant_*.outbox, source: '/{schema}'}]", "postgres.publication=streamer", "kafka.topics.partitions=1",
	))
	setup := func() (string, error) {
		output, err := exec.CommandContext(t.Context(), binary, append([]string{"setup"}, r.arguments()...)...).CombinedOutput()
		return string(output), err
	}
	output, err := setup()
	require.Error(t, err)
	assert.Contains(t, output, "no table matches tenant_*.outbox")
	r.newTenant(1)
	r.newTenant(2)
	r.exec("create schema other; create table other.outbox (like tenant_1.outbox including all)")
	output, err = setup()
	require.NoError(t, err, output)

	p := r.startReady()
	r.ofTenant(1)
	r.ofTenant(2)
	r.exec("insert into other.outbox (aggregatetype, aggregateid, type) values ('order', 'o1', 'placed')")
	assert.Equal(t, []string{"/tenant_1", "/tenant_2"}, sources(r.await(p, "order", 2)))

	r.newTenant(3)
	r.ofTenant(3) // in no stream
	p.logged("outbox table is not in the publication")
	r.exec("alter publication streamer add table tenant_3.outbox")
	r.ofTenant(3)
	messages := r.await(p, "order", 3)
	assert.Equal(t, "/tenant_3", header(messages[2], "ce_source"))
	assert.Equal(t, "2", header(messages[2], "ce_id"))
	p.logged("outbox table has joined the stream")

	r.exec("drop schema tenant_1 cascade")
	p.logged("outbox table no longer exists")
	r.ofTenant(2)
	r.await(p, "order", 4)
	p.kill()
	p = r.startReady()
	r.ofTenant(3)
	messages = r.await(p, "order", 5)
	assert.Equal(t, []string{"/tenant_1", "/tenant_2", "/tenant_3", "/tenant_2", "/tenant_3"}, sources(messages))
	f := r.verify().only(t, "missing")
	assert.Equal(t, "1", f.EventID, "the row from before the table was published")
	assert.Equal(t, 0, p.stop())
}

// A first start counts the rows that were there before. Tables that another
// session holds do not keep it from streaming.
func TestFirstStartOfLockedTenants(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", withConfig("outboxes=[{table: tenant_*.outbox, source: '/{schema}'}]", "postgres.publication=streamer"))
	if r.pg.Version() >= 160000 {
		t.Log("there pg_publication_tables itself waits for the locks, and so does the start")
		return
	}
	const tenants = 15
	for n := range tenants {
		r.newTenant(n)
	}
	output, code := r.command("setup")
	require.Zero(t, code, output)
	holder := r.open()
	_, err := holder.Exec(t.Context(), `begin; do $$ declare name text; begin
		for name in select nspname from pg_namespace where nspname like 'tenant%' loop
			execute format('lock table %I.outbox in access exclusive mode', name); end loop; end $$`)
	require.NoError(t, err)
	p := r.startReady()
	p.logged("not counted: rows that were committed before the slot began")
	_, err = holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	r.ofTenant(7)
	r.await(p, "order", 1)
}
