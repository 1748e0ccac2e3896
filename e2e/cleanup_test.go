package e2e

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// datedTable also has a column that says when a row was written.
const datedTable = `create table outbox (
	id uuid primary key default gen_random_uuid(),
	aggregatetype text, aggregateid text, type text, payload jsonb, created_at timestamptz not null default clock_timestamp())`

var cleaning = withConfig("outbox.cleanup.mode=delete", "outbox.cleanup.time_column=created_at", "outbox.cleanup.retention=1s",
	"outbox.cleanup.interval=100ms", "outbox.cleanup.batch_rows=30", "outbox.cleanup.pause=1ms")

func (r *rig) count() (n int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select count(*) from outbox").Scan(&n))
	return n
}

func TestCleanupDeletesWhatIsPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t, datedTable, cleaning)
	p := r.startReady()
	const total = 2000
	wait := r.load(total)
	wait()
	r.requireOnce(p, total)
	p.eventually("the table is empty", func() bool { return r.count() == 0 })
	removed, _ := metric(t, r.address, "streamer_rows_removed_total")
	assert.InDelta(t, total, removed, 0)

	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, created_at) "+
		"values ('order', 'o1', 't', jsonb_build_object('n', $1::int), now() + interval '1 hour')", total)
	r.await(p, "order", total+1)
	assert.Equal(t, 1, r.count(), "it is not old enough")
	assert.Zero(t, p.stop())
	r.verifyRecords(total + 1)
}

// verifyRecords requires that no number is missing.
func (r *rig) verifyRecords(total int) {
	r.t.Helper()
	var all []int
	for _, numbers := range byKey(r.t, r.records("order")) {
		all = append(all, numbers...)
	}
	slices.Sort(all)
	assert.Len(r.t, slices.Compact(all), total)
}

// Rows that are not published yet stay, however old they are.
func TestCleanupWaitsForKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{})
	r := newRig(t, datedTable, cleaning, withKafka(cluster))
	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	p.eventually("the table is empty", func() bool { return r.count() == 0 })
	pause(t, cluster)
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, created_at) " +
		"select 'order', 'o1', 't', jsonb_build_object('n', n), now() - interval '1 hour' from generate_series(2, 100) n")
	p.logged("broker does not acknowledge")
	assert.Equal(t, 99, r.count())
	require.NoError(t, cluster.ResumeBroker(0))
	p.eventually("the table is empty", func() bool { return r.count() == 0 })
	r.await(p, "order", 100)
	assert.Zero(t, p.stop())
}

func TestCleanupDropsPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t, `create table outbox (id uuid default gen_random_uuid(), `+
		`aggregatetype text, aggregateid text, type text, payload jsonb, created_at timestamptz not null)
		partition by range (created_at);
		create table outbox_old partition of outbox for values from ('2020-01-01') to ('2020-02-01');
		create table outbox_older partition of outbox for values from (minvalue) to ('2020-01-01');
		create table outbox_now partition of outbox for values from ('2020-02-01') to (maxvalue)`,
		withConfig("outbox.cleanup.mode=drop-partitions", "outbox.cleanup.time_column=created_at", "outbox.cleanup.interval=100ms"))
	for n, at := range []string{"2019-05-05", "2020-01-05", "2026-01-01"} {
		r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, created_at) "+
			"values ('order', 'o1', 't', jsonb_build_object('n', $1::int), $2::timestamptz)", n, at)
	}
	p := r.startReady()
	r.published(p, "o1", 0, 1, 2)
	p.eventually("only the partition that is still written to is left", func() bool {
		var left int
		require.NoError(t, r.db.QueryRow(t.Context(), "select count(*) from pg_inherits where inhparent = 'outbox'::regclass").Scan(&left))
		return left == 1
	})
	assert.Equal(t, 1, r.count())
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload, created_at) " +
		"values ('order', 'o1', 't', jsonb_build_object('n', 3), now())")
	r.published(p, "o1", 0, 1, 2, 3)
	assert.Zero(t, p.stop())
}

// The streamer reports what it cannot clean up, and the stream continues.
func TestCleanupRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, datedTable, cleaning)
	r.asRole("replication")
	p := r.startReady()
	r.numbered("o1", 1)
	p.logged("GRANT SELECT, DELETE ON")
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	assert.Equal(t, 2, r.count())
	assert.Zero(t, p.stop())
}
