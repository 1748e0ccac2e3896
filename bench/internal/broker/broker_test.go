package broker

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		payload string
		want    int64
		wantErr bool
	}{
		{payload: `{"n": 123, "note": "x"}`, want: 123},
		{payload: payload(9_876_543, "x"), want: 9_876_543},
		{payload: `{"note": "x"}`, wantErr: true},
		{payload: `{"n": 123}`, wantErr: true},
		{payload: `{"n": "x", "note": "x"}`, wantErr: true},
		{wantErr: true},
	} {
		got, err := number([]byte(test.payload))
		assert.Equal(t, test.wantErr, err != nil, test.payload)
		assert.Equal(t, test.want, got, test.payload)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	records := NewRecords("run.", 4, 300)
	topics := map[string]bool{}
	for n := range int64(1000) {
		record := records.Record(n)
		topics[record.Topic] = true
		assert.InDelta(t, 300, record.Value.Length(), 20, "as the workloads write it")
		key, err := record.Key.Encode()
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(key), "aggregate-"))
	}
	assert.Len(t, topics, 4)
	assert.NotEqual(t, filler(1, 100), filler(2, 100))
	assert.Len(t, filler(1, 100), 100)
	assert.Empty(t, NewRecords("", 1, 10).fillers[0], "no room for a filler")
}

func TestCountMarkers(t *testing.T) {
	t.Parallel()
	marker := func(offset int64) *sarama.Records {
		return &sarama.Records{RecordBatch: &sarama.RecordBatch{FirstOffset: offset, Control: true}}
	}
	events := &sarama.Records{RecordBatch: &sarama.RecordBatch{FirstOffset: 2, LastOffsetDelta: 9}}
	cut := &sarama.Records{RecordBatch: &sarama.RecordBatch{FirstOffset: 2, Control: true, PartialTrailingRecord: true}}
	assert.EqualValues(t, 0, countMarkers(nil))
	assert.EqualValues(t, 2, countMarkers([]*sarama.Records{marker(0), marker(1)}))
	assert.EqualValues(t, 2, countMarkers([]*sarama.Records{marker(0), marker(1), events, marker(12)}))
	assert.EqualValues(t, 1, countMarkers([]*sarama.Records{marker(0), cut}))
}
