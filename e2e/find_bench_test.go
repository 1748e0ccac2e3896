package e2e

import (
	"context"
	order "encoding/binary"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
	"github.com/outboxstream/streamer/router/wire"
)

const (
	findEvents     = 10_000_000
	findPartitions = 6
	findKeys       = 1_000_000
	findTopic      = "outbox.event.order"
)

// findLog makes the records that a streamer would have published at 1,000
// events a second, the last of them now.
type findLog struct {
	stream string
	last   time.Time
}

// The events are numbered from 0. Each has an ID without a time in it, and is
// the only one of its transaction.
func (findLog) id(n int) string {
	var id uuid.UUID
	order.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
	order.BigEndian.PutUint64(id[8:], uint64(n))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

func (findLog) key(n int) string { return "order-" + strconv.Itoa(n*7919%findKeys) }

func (l findLog) at(n int) time.Time {
	return l.last.Add(time.Duration(n-findEvents) * time.Millisecond)
}

func (findLog) position(n int) replication.Position {
	return replication.Position{Commit: replication.LSN(0x1_0000_0000 + 512*n), Ordinal: 1}
}

// record is one of some 300 bytes of payload, in binary mode.
func (l findLog) record(n int, first time.Time) *sarama.Record {
	key, at := l.key(n), l.at(n)
	headers := []string{
		"ce_specversion", "1.0", "ce_id", l.id(n), "ce_source", "/outbox/shop/public.outbox", "ce_type", "com.example.order.placed",
		"ce_time", at.Format("2006-01-02T15:04:05.000000Z"), "ce_subject", key, "ce_sequence", wire.FormatSequence(l.position(n)),
		"ce_partitionkey", key, "content-type", "application/json", wire.StreamHeader, l.stream,
	}
	r := &sarama.Record{
		TimestampDelta: at.Sub(first), Key: []byte(key),
		Value: fmt.Appendf(nil, `{"n": %d, "pad": "%s%s%s"}`, n, l.id(n), l.id(n+1), strings.Repeat(l.id(n+2), 6)),
	}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(headers[i]), Value: []byte(headers[i+1])})
	}
	return r
}

// fill writes all records, in batches of a thousand.
func (l findLog) fill(b *testing.B, brokers []string) {
	b.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_4_0_0
	client, err := sarama.NewClient(brokers, config)
	require.NoError(b, err)
	defer client.Close()
	partitioner := kafka.NewPartitioner("murmur2", findTopic)
	var of [findPartitions][]int32
	for n := range findEvents {
		p := partitioner.Of([]byte(l.key(n)), findPartitions)
		of[p] = append(of[p], int32(n))
	}
	var writers sync.WaitGroup
	failed := make(chan error, findPartitions)
	for p := range findPartitions {
		writers.Go(func() { failed <- l.fillPartition(client, int32(p), of[p]) })
	}
	writers.Wait()
	for range findPartitions {
		require.NoError(b, <-failed)
	}
}

func (l findLog) fillPartition(client sarama.Client, partition int32, numbers []int32) error {
	const size = 1000
	broker, err := client.Leader(findTopic, partition)
	for len(numbers) > 0 && err == nil {
		first := l.at(int(numbers[0]))
		batch := &sarama.RecordBatch{
			Version: 2, Codec: sarama.CompressionLZ4, CompressionLevel: sarama.CompressionLevelDefault,
			ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, FirstTimestamp: first,
		}
		for i, n := range numbers[:min(size, len(numbers))] {
			r := l.record(int(n), first)
			r.OffsetDelta = int64(i)
			batch.Records, batch.MaxTimestamp, batch.LastOffsetDelta = append(batch.Records, r), l.at(int(n)), int32(i)
		}
		numbers = numbers[len(batch.Records):]
		request := &sarama.ProduceRequest{Version: 7, RequiredAcks: sarama.WaitForLocal, Timeout: 30_000}
		request.AddBatch(findTopic, partition, batch)
		var response *sarama.ProduceResponse
		if response, err = broker.Produce(request); err == nil && response.Blocks[findTopic][partition].Err != sarama.ErrNoError {
			err = response.Blocks[findTopic][partition].Err
		}
	}
	return err
}

// BenchmarkFind says where events are in a topic of ten million records: those
// of which the row is there, those of which it is not, and the events of a key.
// The slowest of five counts, with the start of the process:
//
//	go test ./e2e -run '^$' -bench Find -benchtime 1x -timeout 30m
func BenchmarkFind(b *testing.B) {
	r := newBenchRig(b, strings.Replace(outboxTable, "payload jsonb)", "payload jsonb, created_at timestamptz)", 1),
		"outbox.columns.time=created_at", "cloudevents.source=/outbox/shop/public.outbox")
	l := findLog{stream: r.streamID(), last: time.Now().UTC().Truncate(time.Millisecond)}
	admin, err := sarama.NewClusterAdmin(r.brokers, nil)
	require.NoError(b, err)
	defer admin.Close()
	require.NoError(b, admin.CreateTopic(findTopic, &sarama.TopicDetail{NumPartitions: findPartitions, ReplicationFactor: 1}, false))
	began := time.Now()
	l.fill(b, r.brokers)
	b.Logf("%d records in %s", findEvents, time.Since(began).Round(time.Second))

	chosen := []int{findEvents / 100, findEvents / 7, findEvents / 2, findEvents * 9 / 10, findEvents - 1}
	for _, n := range chosen {
		_, err := r.db.Exec(b.Context(), "insert into outbox values ($1, 'order', $2, 'com.example.order.placed', '{}', $3)",
			l.id(n), l.key(n), l.at(n))
		require.NoError(b, err)
	}
	r.exec("select pg_replication_slot_advance('streamer', pg_current_wal_lsn())") // as if they were published
	every := func(name string, arguments func(n int) []string) {
		var slowest time.Duration
		var read int64
		for _, n := range chosen {
			took, records := r.find(l.id(n), arguments(n)...)
			slowest, read = max(slowest, took), max(read, records)
		}
		b.ReportMetric(slowest.Seconds(), name+"-s")
		b.ReportMetric(float64(read), name+"-records")
	}
	for b.Loop() {
		every("id", func(n int) []string { return []string{l.id(n)} })
		every("key", func(n int) []string { return []string{"--key", l.key(n), "--limit", "100"} })
		r.exec("delete from outbox")
		every("position", func(n int) []string { return []string{"--lsn", l.position(n).String()} })
		every("id+position", func(n int) []string { return []string{l.id(n), "--lsn", l.position(n).String()} })
		every("id+key+hour", func(n int) []string {
			return []string{
				l.id(n), "--key", l.key(n), "--since", l.at(n).Add(-time.Minute).Format(time.RFC3339),
				"--until", l.at(n).Add(time.Minute).Format(time.RFC3339),
			}
		})
		oldest := chosen[0]
		took, records := r.find(l.id(oldest), l.id(oldest), "--key", l.key(oldest), "--scan")
		b.ReportMetric(took.Seconds(), "scan-s")
		b.ReportMetric(float64(records), "scan-records")
		chosen = chosen[4:] // nothing else says where the others are
		every("recent-id+key", func(n int) []string { return []string{l.id(n), "--key", l.key(n)} })
		every("recent-id", func(n int) []string { return []string{l.id(n)} })
		every("recent-key", func(n int) []string { return []string{"--key", l.key(n)} })
		took, records = r.find("", "00000000-0000-4000-8000-000000000000", "--key", "order-1")
		b.ReportMetric(took.Seconds(), "no-trace-s")
		b.ReportMetric(float64(records), "no-trace-records")
	}
}

// streamID is the identity of the streamer's stream in records.
func (r *benchRig) streamID() string {
	r.b.Helper()
	id := checkpoint.Identity{Slot: "streamer"}
	require.NoError(r.b, r.db.QueryRow(r.b.Context(), "select system_identifier::text, current_database() from pg_control_system()").
		Scan(&id.SystemID, &id.Database))
	return pipeline.StreamID(id, 0)
}

// find runs the command, which has to find a record of the event; without an ID,
// it has to find none.
func (r *benchRig) find(id string, arguments ...string) (took time.Duration, read int64) {
	r.b.Helper()
	ctx, cancel := context.WithTimeout(r.b.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, append(append([]string{"find", "--json"}, arguments...), r.flags...)...)
	began := time.Now()
	output, err := command.Output()
	took = time.Since(began)
	var found whereabouts
	require.NoError(r.b, json.Unmarshal(output, &found), "%s %v", output, err)
	for _, e := range found.Events {
		if e.ID == id && len(e.Records) > 0 {
			return took, found.RecordsRead
		}
	}
	require.Empty(r.b, id, "%v: %+v", arguments, found)
	return took, found.RecordsRead
}
