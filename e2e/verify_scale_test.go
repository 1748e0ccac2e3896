package e2e

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

var verifyEvents = flag.Int("verify.events", 100_000, "events that BenchmarkVerify compares")

// BenchmarkVerify makes rows and matching records without a streamer, and
// measures time and memory of the comparison:
//
//	go test ./e2e -run '^$' -bench Verify -benchtime 1x -verify.events 10000000 -timeout 1h
func BenchmarkVerify(b *testing.B) {
	g := newScale(b, *verifyEvents)
	for b.Loop() {
		began := time.Now()
		cmd := exec.CommandContext(b.Context(), binary, g.arguments()...)
		output, err := cmd.CombinedOutput()
		require.NoError(b, err, string(output))
		require.Contains(b, string(output), "findings")
		took := time.Since(began)
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(g.events)/took.Seconds(), "events/s")
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			b.ReportMetric(float64(usage.Maxrss)/1024, "peak-MiB") // kilobytes on Linux
			b.ReportMetric(float64(usage.Utime.Sec+usage.Stime.Sec), "cpu-s")
		}
		b.Logf("%d events:\n%s", g.events, output)
	}
}

// scale is an outbox and a topic with many events.
type scale struct {
	b      *testing.B
	events int
	dsn    string
	slot   string
	topic  string
	kafka  *kafkatest.Cluster
	stream string
}

const (
	scalePad        = 200 // bytes of each payload
	scaleAggregates = 100_000
	scaleBatch      = 10 // events in each transaction
	scalePartitions = 12
)

func newScale(b *testing.B, events int) *scale {
	b.Helper()
	g := &scale{b: b, events: events, slot: fmt.Sprintf("scale_%d", time.Now().UnixNano()), kafka: kafkatest.Shared(b)}
	server := pgtest.Shared(b)
	g.dsn = server.CreateDatabase(b)
	g.topic = g.kafka.NewTopic(b, scalePartitions, nil)
	began := time.Now()
	g.fillTable()
	b.Logf("%d rows in %s", events, time.Since(began).Round(time.Second))
	began = time.Now()
	g.fillTopic()
	b.Logf("%d records in %s", events, time.Since(began).Round(time.Second))
	return g
}

func (g *scale) fillTable() {
	conn, err := pgx.Connect(g.b.Context(), g.dsn)
	require.NoError(g.b, err)
	defer conn.Close(g.b.Context())
	exec := func(sql string, arguments ...any) {
		_, err := conn.Exec(g.b.Context(), sql, arguments...)
		require.NoError(g.b, err, sql)
	}
	exec("create table outbox (id uuid not null, aggregatetype text, aggregateid text, type text, payload jsonb)")
	const chunk = 500_000
	for first := 0; first < g.events; first += chunk {
		exec(`insert into outbox select md5(n::text)::uuid, 'order', `+
			`'order-' || n % $3, 'com.example.order.placed', jsonb_build_object('n', n, 'pad', repeat('x', $4))
			from generate_series($1::int, $2::int) n`, first, min(first+chunk, g.events)-1, scaleAggregates, scalePad)
	}
	exec("analyze outbox")
	exec("create publication streamer for table outbox with (publish = 'insert')")
	exec("select pg_create_logical_replication_slot($1, 'pgoutput')", g.slot)
	var system, database string
	require.NoError(g.b, conn.QueryRow(g.b.Context(),
		"select system_identifier::text, current_database()::text from pg_control_system()").Scan(&system, &database))
	sum := sha256.Sum256([]byte(system + "\x00" + database + "\x00" + g.slot + "\x000\x000"))
	g.stream = hex.EncodeToString(sum[:8])
}

func (g *scale) fillTopic() {
	config := g.kafka.Config(kafkatest.Admin)
	config.Producer.Partitioner = sarama.NewMurmur2Partitioner
	config.Producer.Compression = sarama.CompressionLZ4
	config.Producer.Idempotent, config.Producer.RequiredAcks, config.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	config.Producer.Flush.MaxMessages = 2000
	producer, err := sarama.NewAsyncProducer(g.kafka.Brokers(), config)
	require.NoError(g.b, err)
	failed := make(chan error, 1)
	go func() {
		var first error
		for err := range producer.Errors() {
			first = err
		}
		failed <- first
	}()
	pad, at := strings.Repeat("x", scalePad), time.Now()
	for n := range g.events {
		producer.Input() <- g.record(n, pad, at)
	}
	producer.AsyncClose()
	require.NoError(g.b, <-failed)
}

func (g *scale) record(n int, pad string, at time.Time) *sarama.ProducerMessage {
	key := "order-" + strconv.Itoa(n%scaleAggregates)
	m := &sarama.ProducerMessage{
		Topic: g.topic, Key: sarama.StringEncoder(key),
		Value: sarama.StringEncoder(`{"n": ` + strconv.Itoa(n) + `, "pad": "` + pad + `"}`), Timestamp: at,
	}
	header := func(name, value string) {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	header("ce_specversion", "1.0")
	header("ce_id", uuid.UUID(md5.Sum([]byte(strconv.Itoa(n)))).String())
	header("ce_source", "/outbox/shop")
	header("ce_type", "com.example.order.placed")
	header("ce_time", "2026-11-21T11:33:26.155535Z")
	header("ce_subject", key)
	header("ce_sequence", fmt.Sprintf("%016x-%08x", 0x1000+n/scaleBatch*0x800, n%scaleBatch+1))
	header("ce_partitionkey", key)
	header("content-type", "application/json")
	header("streamer-stream", g.stream)
	return m
}

func (g *scale) arguments() []string {
	return []string{
		"verify", "--wait", "1s",
		"--set", "postgres.dsn=" + g.dsn, "--set", "postgres.slot=" + g.slot, "--set", "kafka.brokers=" + strings.Join(g.kafka.Brokers(), ","),
		"--set", "kafka.topic=" + g.topic, "--set", "cloudevents.source=/outbox/shop", "--set", "checkpoint.kafka.topic=checkpoints-" + g.topic,
	}
}
