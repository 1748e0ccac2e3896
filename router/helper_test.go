package router

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
)

func encoderFor(t testing.TB, rules Rules) *encoder {
	t.Helper()
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	return newEncoder(routes)
}

// tryEncode routes the event and writes it into the batch.
func tryEncode(enc *encoder, b *Batch, e *decoder.Event) error {
	d, err := enc.router.Route(e)
	if err != nil {
		return err
	}
	return enc.encode(b, e, &d)
}

func encodeInto(t testing.TB, enc *encoder, b *Batch, e *decoder.Event) {
	t.Helper()
	require.NoError(t, tryEncode(enc, b, e))
}

// withColumn is the core columns and one more.
func withColumn(a decoder.Attribute, column string) map[decoder.Attribute]string {
	columns := maps.Clone(coreColumns)
	columns[a] = column
	return columns
}
