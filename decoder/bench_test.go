package decoder

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// benchmarkRows are outbox rows of 300 bytes in both formats, with a column
// for every conversion.
func benchmarkRows() (m Mapping, relation []byte, rows map[string][]byte) {
	m = outboxMapping()
	m.Extensions = map[string]string{"tenantid": "tenant", "express": "express", "digest": "digest", "since": "since", "total": "total"}
	columns := slices.Concat(
		outboxColumns,
		[]testColumn{{"express", oidBool}, {"digest", oidBytea}, {"since", oidTimestamp}, {"total", oidInt8}},
	)
	payload := `{"note": "` + strings.Repeat("x", 120) + `"}`
	since := time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
	rows = map[string][]byte{
		"text": insertMessage(outboxID, rowUUID, "1.50", "order", "42", "OrderPlaced", payload, "2024-01-02 03:04:05.678901+00", "7",
			"t", `\xdeadbeef`, "2024-01-02 03:04:05.678901", "1234567890123"),
		"binary": insertMessage(
			outboxID, make([]byte, 16), []byte("\x00\x02\x00\x00\x00\x00\x00\x02\x00\x01\x13\x88"),
			[]byte("order"), []byte("42"), []byte("OrderPlaced"), []byte("\x01"+payload), binaryTime(since),
			[]byte{0, 0, 0, 7}, []byte{1}, []byte("\xde\xad\xbe\xef"), binaryTime(since), bigInt(1234567890123),
		),
	}
	return m, relationMessage(outboxID, "public", "outbox", columns...), rows
}

func TestDecodeAllocatesNothing(t *testing.T) {
	m, relation, rows := benchmarkRows()
	for format, row := range rows {
		d, err := inTransaction(m, relation, row)
		require.NoError(t, err)
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(row); err != nil {
				t.Fatal(err)
			}
		})
		assert.Zero(t, allocations, format)
	}
	t.Run("a transaction around it", func(t *testing.T) {
		d, err := inTransaction(m, relation)
		require.NoError(t, err)
		commit, begin := commitMessage(100, 130), beginMessage(100, commitTime)
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			for _, message := range [][]byte{commit, begin} {
				if _, err := d.Decode(message); err != nil {
					t.Fatal(err)
				}
			}
		}))
	})
}

func BenchmarkDecode(b *testing.B) {
	m, relation, rows := benchmarkRows()
	for _, format := range []string{"text", "binary"} {
		b.Run("row=300B/"+format, func(b *testing.B) {
			d, err := inTransaction(m, relation)
			require.NoError(b, err)
			row := rows[format]
			b.SetBytes(int64(len(row)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(row); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
