package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSnapshot publishes a million events, ten in each transaction, that
// wait when the streamer starts. It then publishes the same rows again as rows
// from before a second slot:
//
//	go test ./e2e -run '^$' -bench Snapshot$ -benchtime 1x -timeout 20m
func BenchmarkSnapshot(b *testing.B) {
	const events = 1_000_000
	r := newBenchRig(b, oldTable)
	r.fill(events)
	r.exec("analyze outbox")
	for b.Loop() {
		caughtUp, streamed := r.until("transferred", r.flags, func(string) bool { return r.isConfirmed("streamer") })
		took, peak := r.snapshot("second", nil)
		b.ReportMetric(events/caughtUp.Seconds(), "catch-up-events/s")
		b.ReportMetric(events/took.Seconds(), "snapshot-events/s")
		b.ReportMetric(caughtUp.Seconds()/took.Seconds(), "ratio")
		b.ReportMetric(float64(streamed)/1024, "catch-up-peak-MiB")
		b.ReportMetric(float64(peak)/1024, "snapshot-peak-MiB")
	}
}

// BenchmarkWritesDuringSnapshot measures how long a commit takes for an
// application that writes 1,000 rows a second, alone and during a snapshot:
//
//	go test ./e2e -run '^$' -bench WritesDuringSnapshot -benchtime 1x -timeout 20m
func BenchmarkWritesDuringSnapshot(b *testing.B) {
	const events = 1_000_000
	for b.Loop() {
		for name, settings := range map[string][]string{"unlimited": nil, "at-10000": {"snapshot.rate=10000"}} {
			r := newBenchRig(b, oldTable)
			r.fill(events)
			r.exec("analyze outbox")
			r.exec("checkpoint")
			alone := r.write(3 * time.Second)
			quit, during := make(chan struct{}), make(chan []time.Duration)
			go func() {
				var all []time.Duration
				for {
					select {
					case <-quit:
						during <- all
						return
					default:
						all = append(all, r.write(100*time.Millisecond)...)
					}
				}
			}()
			if settings == nil {
				r.snapshot("second", settings)
			} else {
				r.snapshotFor(5*time.Second, settings)
			}
			close(quit)
			report := func(when string, all []time.Duration) {
				slices.Sort(all)
				for _, p := range []int{50, 99} {
					b.ReportMetric(float64(all[len(all)*p/100].Microseconds())/1000, fmt.Sprintf("%s-%s-p%d-ms", name, when, p))
				}
			}
			report("alone", alone)
			report("during", <-during)
		}
	}
}

// write writes 1,000 rows a second, and returns how long each took.
func (r *benchRig) write(total time.Duration) (took []time.Duration) {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(total); time.Now().Before(end); <-pace.C {
		began := time.Now()
		_, err := r.db.Exec(r.b.Context(), "insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'live', 't', '{}')")
		if err != nil {
			return took
		}
		took = append(took, time.Since(began))
	}
	return took
}

// snapshotFlags are those of a streamer whose slot is new.
func (r *benchRig) snapshotFlags(slot string, settings []string) []string {
	r.b.Helper()
	db := r.connect()
	_, err := db.Exec(r.b.Context(), "select pg_create_logical_replication_slot($1, 'pgoutput')", slot)
	require.NoError(r.b, err)
	flags := slices.Clone(r.flags)
	for _, s := range append(slices.Concat(initialSnapshot, settings), "postgres.slot="+slot, "kafka.topic="+slot+".{aggregate_type}",
		"checkpoint.file.path="+filepath.Join(r.b.TempDir(), "checkpoint-"+slot)) {
		flags = append(flags, "--set", s)
	}
	return flags
}

// snapshot publishes the table, and returns how long that took, with the start,
// and the largest resident set in kB.
func (r *benchRig) snapshot(slot string, settings []string) (took time.Duration, peak int) {
	r.b.Helper()
	return r.until("finished the snapshot", r.snapshotFlags(slot, settings), func(log string) bool {
		return strings.Contains(log, "snapshot finished")
	})
}

// isConfirmed reports whether everything in the WAL is published through a slot.
func (r *benchRig) isConfirmed(slot string) (reached bool) {
	r.b.Helper()
	require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select confirmed_flush_lsn >= pg_current_wal_flush_lsn() "+
		"from pg_replication_slots where slot_name = $1", slot).Scan(&reached))
	return reached
}

// until runs a streamer until a condition on its log holds. It returns how long
// that took, and the largest resident set in kB.
func (r *benchRig) until(what string, flags []string, condition func(log string) bool) (took time.Duration, peak int) {
	r.b.Helper()
	p := &process{log: &syncBuffer{}}
	p.cmd = exec.CommandContext(r.b.Context(), binary, append([]string{"run"}, flags...)...)
	p.cmd.Stderr = p.log
	began := time.Now()
	require.NoError(r.b, p.cmd.Start())
	require.Eventually(r.b, func() bool { return condition(p.log.String()) }, 5*time.Minute, 10*time.Millisecond, "%s: %s", what, p.log)
	took, peak = time.Since(began), p.peak()
	require.NoError(r.b, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(r.b, p.cmd.Wait())
	return took, peak
}

// snapshotFor lets a snapshot run for some time.
func (r *benchRig) snapshotFor(total time.Duration, settings []string) {
	r.b.Helper()
	cmd := exec.CommandContext(r.b.Context(), binary, append([]string{"run"}, r.snapshotFlags("limited", settings)...)...)
	require.NoError(r.b, cmd.Start())
	time.Sleep(total)
	require.NoError(r.b, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(r.b, cmd.Wait())
}
