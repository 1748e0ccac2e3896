package e2e

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readers are the ways to read the WAL, including one that keeps switching.
var readers = map[string][]string{
	"stream":   {"replication.reader=stream"},
	"catch-up": {"replication.reader=catch-up"},
	"changing": {"replication.reader=auto", "replication.catch_up_from=1KiB"},
	"plain":    {"replication.reader=stream", "replication.bulk_reads=false"},
}

// A streamer with a large backlog reads it by SQL and streams from the end of
// the backlog. Nothing is lost, repeated or left out at the joint.
func TestCatchesUpAndThenStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("replication.reader=auto", "replication.catch_up_from=4MiB"))
	const waiting, more = 40_000, 500
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) "+
		"select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, $1::int / 2) n", waiting)
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', "+
		"'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series($1::int / 2 + 1, $1::int) n", waiting)
	p := r.startReady()
	streams := regexp.MustCompile(`reader=catch-up [\s\S]*reader=stream `)
	require.Eventually(t, func() bool { return streams.MatchString(p.log.String()) },
		patience, 20*time.Millisecond, "catches up, then streams")
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) select 'order', 'o' || n % 7, "+
		"'t', jsonb_build_object('n', n) from generate_series($1::int + 1, $1::int + $2::int) n", waiting, more)
	r.confirmed(p)
	r.requireOnce(p, waiting+more)
	assert.Equal(t, 0, p.stop())
	var slots int
	require.NoError(t, r.db.QueryRow(t.Context(),
		"select count(*) from pg_replication_slots where database = current_database()").Scan(&slots))
	assert.Equal(t, 1, slots, "the copies are gone")
	assert.NotContains(t, p.log.String(), "level=WARN")
}

// If no slot is left for the copies, the streamer streams and says so.
func TestStreamsWhereCatchingUpIsNotPossible(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("replication.reader=auto", "replication.catch_up_from=1MiB"))
	r.exec("insert into outbox (aggregatetype, aggregateid, type, payload) " +
		"select 'order', 'o' || n % 7, 't', jsonb_build_object('n', n) from generate_series(1, 10000) n")
	r.exec("revoke execute on function pg_copy_logical_replication_slot(name, name, boolean) from public")
	r.asRole("replication")
	p := r.startReady()
	r.requireOnce(p, 10_000)
	assert.Contains(t, p.log.String(), "catching up by SQL is not possible, streaming instead")
	assert.Contains(t, p.log.String(), "reader=stream")
	assert.Equal(t, 0, p.stop())
}
