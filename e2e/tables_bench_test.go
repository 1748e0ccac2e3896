package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkTables publishes a million events, ten in each transaction, that wait
// when the streamer starts: from one table, and from five tables and a hundred
// tenants' schemas. The two take turns. The ratio of the server alone is of the
// time in which it decodes the same, for no one:
//
//	go test ./e2e -run '^$' -bench Tables$ -benchtime 1x -timeout 30m
func BenchmarkTables(b *testing.B) {
	const events, rounds = 1_000_000, 7
	const list = "outboxes=[{table: several_1.outbox}, {table: several_2.outbox}, {table: several_3.outbox}, {table: several_4.outbox}, " +
		"{table: several_5.outbox}, {table: tenant_*.outbox}]"
	r := newBenchRig(b, outboxTable)
	r.exec(`do $$ declare name text; begin
		for name in select 'several_' || n from generate_series(1, 5) n union all select 'tenant_' || n from generate_series(1, 100) n loop
			execute format('create schema %1$I; create table %1$I.outbox (like public.outbox including all);
				alter publication streamer add table %1$I.outbox', name);
		end loop; end $$`)
	one := r.backlog("one", "public.outbox", "public.outbox", events)
	many := r.backlog("many", "several_' || i % 5 + 1 || '.outbox", "tenant_' || i % 100 + 1 || '.outbox", events)
	r.backlog("after", "public.outbox", "public.outbox", events) // so that something follows each of the two
	for b.Loop() {
		var single, several, ratios, server []float64
		var largest [2]int
		for round := range rounds {
			server = append(server, r.decode(one).Seconds()/r.decode(many).Seconds())
			var took [2]time.Duration
			for turn := range 2 {
				which, peak := (round+turn)%2, 0
				if which == 0 {
					took[0], peak = r.drain(one, round)
				} else {
					took[1], peak = r.drain(many, round, list)
				}
				largest[which] = max(largest[which], peak)
			}
			single, several = append(single, events/took[0].Seconds()), append(several, events/took[1].Seconds())
			ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
		}
		b.ReportMetric(median(single), "one-events/s")
		b.ReportMetric(median(several), "many-events/s")
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(median(server), "server-ratio")
		b.ReportMetric(float64(largest[0])/1024, "one-peak-MiB")
		b.ReportMetric(float64(largest[1])/1024, "many-peak-MiB")
	}
}

// backlog is a slot with the events that wait in it, up to an LSN.
type backlog struct{ slot, until string }

// backlog creates a slot and commits events, of each transaction one half into a
// table. The names of the tables are SQL between quotes.
func (r *benchRig) backlog(slot, first, second string, events int) (l backlog) {
	r.b.Helper()
	l.slot = slot
	r.exec("select pg_create_logical_replication_slot('" + slot + "', 'pgoutput')")
	r.exec(fmt.Sprintf(`do $do$ declare half text := $sql$ insert into %%s (aggregatetype, aggregateid, type, payload)
			select 'order', 'o' || mod(10 * $1 + n, 5000), 't', jsonb_build_object('n', 10 * $1 + n, 'pad', repeat(md5((10 * $1 + n)::text), 8))
			from generate_series($2, $2 + 4) n $sql$;
		begin for i in 1..%d loop
			execute format(half, '%s') using i, 1;
			execute format(half, '%s') using i, 6;
			commit; end loop; end $do$`, events/10, first, second))
	require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select pg_current_wal_flush_lsn()::text").Scan(&l.until))
	return l
}

// decode is how long the server takes to decode a backlog.
func (r *benchRig) decode(l backlog) time.Duration {
	r.b.Helper()
	began := time.Now()
	r.exec("select count(*) from pg_logical_slot_peek_binary_changes('" + l.slot + "', '" + l.until +
		"', null, 'proto_version', '1', 'publication_names', 'streamer')")
	return time.Since(began)
}

// drain publishes a backlog to its end, from a copy of the slot. It returns how
// long that took, with the start, and the largest resident set in kB.
func (r *benchRig) drain(l backlog, round int, settings ...string) (took time.Duration, peak int) {
	r.b.Helper()
	slot := fmt.Sprintf("%s_%d", l.slot, round)
	r.exec("select pg_copy_logical_replication_slot('" + l.slot + "', '" + slot + "')")
	flags := slices.Concat([]string{"run", "--until", l.until}, r.flags)
	for _, s := range append(settings, "postgres.slot="+slot, "kafka.topic="+slot+".{aggregate_type}",
		"checkpoint.file.path="+filepath.Join(r.b.TempDir(), "checkpoint-"+slot)) {
		flags = append(flags, "--set", s)
	}
	p := &process{log: &syncBuffer{}, cmd: exec.CommandContext(r.b.Context(), binary, flags...)}
	p.cmd.Stderr = p.log
	began := time.Now()
	require.NoError(r.b, p.cmd.Start())
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			require.NoError(r.b, err, p.log)
			took = time.Since(began)
			r.exec("select pg_drop_replication_slot('" + slot + "')")
			return took, peak
		case <-ticker.C:
			peak = max(peak, p.peak())
		}
	}
}
