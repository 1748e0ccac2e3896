package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// BenchmarkTakeOver takes over a slot in which a million events wait, of which
// none, half or all are published. Beside it, the same events are caught up with
// by a streamer that takes over from nobody:
//
//	go test ./e2e -run '^$' -bench TakeOver -benchtime 1x -timeout 20m
func BenchmarkTakeOver(b *testing.B) {
	const events = 1_000_000
	r := newBenchRig(b, outboxTable)
	shares := map[string]int{"few": 1000, "half": events / 2, "all": events}
	for share := range shares {
		r.exec(fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", share))
	}
	r.fill(events)
	for b.Loop() {
		caughtUp, _ := r.until("transferred", r.flags, func(string) bool { return r.isConfirmed("streamer") })
		b.ReportMetric(caughtUp.Seconds(), "catch-up-s")
		for share, published := range shares {
			r.publishAsDebezium(share+".order", published)
			_, planned := r.takeOver(share, "--dry-run")
			b.ReportMetric(float64(planned)/1024, share+"-plan-peak-MiB")
			took, peak := r.takeOver(share)
			b.ReportMetric(took.Seconds(), share+"-s")
			b.ReportMetric(float64(peak)/1024, share+"-peak-MiB")
		}
	}
}

// publishAsDebezium publishes the first rows.
func (r *benchRig) publishAsDebezium(topic string, rows int) {
	r.b.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Producer.Partitioner = sarama.NewMurmur2Partitioner
	config.Producer.RequiredAcks, config.Producer.Flush.MaxMessages, config.Net.MaxOpenRequests = sarama.WaitForAll, 2000, 1
	admin, err := sarama.NewClusterAdmin(r.brokers, config)
	require.NoError(r.b, err)
	defer admin.Close()
	require.NoError(r.b, admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 8, ReplicationFactor: 1}, false))
	producer, err := sarama.NewAsyncProducer(r.brokers, config)
	require.NoError(r.b, err)
	failed := make(chan error, 1)
	go func() {
		var first error
		for err := range producer.Errors() {
			first = err
		}
		failed <- first
	}()
	ids, err := r.connect().Query(r.b.Context(),
		"select id::text, aggregateid, payload::text from outbox order by (payload->>'n')::int limit "+strconv.Itoa(rows))
	require.NoError(r.b, err)
	var id, key, payload string
	_, err = pgx.ForEachRow(ids, []any{&id, &key, &payload}, func() error {
		producer.Input() <- &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(payload),
			Headers: []sarama.RecordHeader{{Key: []byte("id"), Value: []byte(id)}},
		}
		return nil
	})
	producer.AsyncClose()
	require.NoError(r.b, <-failed)
	require.NoError(r.b, err)
}

// takeOver takes over a slot. It returns how long that took, and the largest
// resident set in kB.
func (r *benchRig) takeOver(slot string, extra ...string) (took time.Duration, peak int) {
	r.b.Helper()
	flags := append(slices.Clone(r.flags), "--set", "postgres.slot="+slot, "--set", "kafka.topic="+slot+".{aggregate_type}",
		"--set", "checkpoint.file.path="+filepath.Join(r.b.TempDir(), "checkpoint-"+slot))
	p := &process{log: &syncBuffer{}}
	flags = append(append([]string{"take-over", "debezium", "--wait=0s", "--margin=1h"}, flags...), extra...)
	p.cmd = exec.CommandContext(r.b.Context(), binary, flags...)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	began := time.Now()
	require.NoError(r.b, p.cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			require.NoError(r.b, err, p.log.String())
			return time.Since(began), peak
		case <-tick.C:
			peak = max(peak, p.peak())
		}
	}
}
