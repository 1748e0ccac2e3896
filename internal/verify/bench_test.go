package verify

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/router/kafka"
)

func BenchmarkRow(b *testing.B) {
	rules := sampleRules()
	e, err := NewExpectation(rules)
	require.NoError(b, err)
	values := sampleValues(1, strings.Repeat("x", 300))
	c := New(Options{TempDir: b.TempDir(), Expect: int64(b.N)}, nil)
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		row, err := e.Row(values)
		require.NoError(b, err)
		require.NoError(b, c.AddRow(row, 0))
	}
}

func BenchmarkRecord(b *testing.B) {
	c := New(Options{TempDir: b.TempDir(), Expect: int64(b.N), Streams: []string{"s"}}, nil)
	defer c.Close()
	log := c.OpenLog(kafka.Log{Topic: "t"}, false)
	r := sampleRecord(1, strings.Repeat("x", 300))
	b.ReportAllocs()
	for b.Loop() {
		r.Offset++
		require.NoError(b, log.Add(r))
	}
}

// sampleRules are those of a plain outbox.
func sampleRules() Rules {
	return Rules{
		Columns: []string{"aggregateid", "aggregatetype", "id", "payload", "type"}, Types: []uint32{25, 25, 2950, typeJSONB, 25},
		Attributes: map[string]string{
			"id":             "id",
			"aggregate_type": "aggregatetype",
			"aggregate_id":   "aggregateid",
			"type":           "type",
			"payload":        "payload",
		},
		Constants: map[string]string{"table": "public.outbox", "schema": "public", "database": "shop"},
		Topic:     "outbox.event.{aggregate_type}", Key: "{aggregate_id}", Type: "{type}", Source: "/outbox/{database}/{table}",
		NullPayload: "json_null",
	}
}

func sampleID(n int) string { return fmt.Sprintf("1f8c0c95-814c-46ff-a761-%012d", n) }

func sampleValues(n int, pad string) [][]byte {
	return [][]byte{
		[]byte("order-42"), []byte("order"), []byte(sampleID(n)), []byte(`{"n": "` + pad + `"}`),
		[]byte("com.example.order.placed"),
	}
}

// sampleRecord is the record of sampleValues.
func sampleRecord(n int, pad string) *kafka.LogRecord {
	return &kafka.LogRecord{
		Offset: int64(n), Time: time.UnixMilli(1_700_000_000_000 + int64(n)).UTC(), Key: []byte("order-42"),
		Value: []byte(`{"n": "` + pad + `"}`),
		Headers: headers(
			"ce_specversion", "1.0", "ce_id", sampleID(n), "ce_source", "/outbox/shop/public.outbox",
			"ce_type", "com.example.order.placed", "ce_time", "2026-11-21T11:33:26.155535Z", "ce_subject", "order-42",
			"ce_sequence", fmt.Sprintf("%016x-%08x", 0x1000+n, 1), "ce_partitionkey", "order-42",
			"content-type", "application/json", "streamer-stream", "s",
		),
	}
}

func headers(namesAndValues ...string) []kafka.LogHeader {
	var all []kafka.LogHeader
	for i := 0; i < len(namesAndValues); i += 2 {
		all = append(all, kafka.LogHeader{Key: []byte(namesAndValues[i]), Value: []byte(namesAndValues[i+1])})
	}
	return all
}

// BenchmarkComparison compares b.N events, one row and one record each:
// -benchtime 10000000x is the size that must fit into little memory.
func BenchmarkComparison(b *testing.B) {
	e, err := NewExpectation(sampleRules())
	require.NoError(b, err)
	c := New(
		Options{TempDir: b.TempDir(), Expect: 2 * int64(b.N), Streams: []string{"s"}, Limit: 10},
		func(f Finding) error { return fmt.Errorf("found %s", f) },
	)
	defer c.Close()
	values, record := sampleValues(0, "x"), sampleRecord(0, "x")
	id, sequence := values[2], record.Headers[6].Value
	record.Headers[1].Value = id
	for n := range b.N {
		copy(id[24:], fmt.Appendf(nil, "%012d", n))
		row, err := e.Row(values)
		if err == nil {
			err = c.AddRow(row, 0)
		}
		require.NoError(b, err)
	}
	log := c.OpenLog(kafka.Log{Topic: sampleTopic}, false)
	for n := range b.N {
		copy(id[24:], fmt.Appendf(nil, "%012d", n))
		copy(sequence, fmt.Appendf(nil, "%016x", n+1))
		record.Offset = int64(n)
		require.NoError(b, log.Add(record))
	}
	counts, err := c.Compare(b.Context(), nil)
	require.NoError(b, err)
	require.EqualValues(b, b.N, counts.Published)
	b.ReportMetric(float64(c.SpilledBytes())/float64(b.N), "file-B/event")
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		var kilobytes float64
		_, _ = fmt.Sscan(peak, &kilobytes) // 0 where it is not available
		b.ReportMetric(kilobytes/1024, "peak-MiB")
	}
}
