package router

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseTraceParent(t *testing.T) {
	t.Parallel()
	const sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	got, ok := parseTraceParent([]byte(sampled))
	assert.True(t, ok)
	assert.Equal(t, Trace{
		TraceID: [16]byte{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c},
		SpanID:  [8]byte{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31},
	}, got)
	for _, also := range []string{
		strings.Replace(sampled, "-01", "-03", 1), // and random
		"01" + sampled[2:] + "-what comes later",  // a later version
	} {
		_, ok := parseTraceParent([]byte(also))
		assert.True(t, ok, also)
	}
	for _, no := range []string{
		"", sampled[:54], sampled + "-more", "ff" + sampled[2:], strings.Replace(sampled, "-01", "-00", 1),
		strings.Replace(sampled, "0af7651916cd43dd8448eb211c80319c", strings.Repeat("0", 32), 1),
		strings.Replace(sampled, "b7ad6b7169203331", strings.Repeat("0", 16), 1),
		strings.Replace(sampled, "b7ad", "b7xd", 1), strings.ReplaceAll(sampled, "-", "_"),
	} {
		_, ok := parseTraceParent([]byte(no))
		assert.False(t, ok, no)
	}
}

func TestBatchRemembersSomeTraces(t *testing.T) {
	t.Parallel()
	b := newBatch()
	for range 2 * mostTraces {
		b.trace([]byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
		b.trace([]byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
	}
	assert.Len(t, b.traces, mostTraces)
	b.reset()
	assert.Empty(t, b.traces)
}
