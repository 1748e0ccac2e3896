package router

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/replication"
)

// A dead letter that is read back must be recognised when its row reappears in
// the stream, whatever is wrong with its ID.
func TestDeadLetterIsKnownAgain(t *testing.T) {
	t.Parallel()
	columns := map[decoder.Attribute]string{
		decoder.ID: "id", decoder.AggregateType: "aggregatetype", decoder.AggregateID: "aggregateid",
		decoder.Type: "type", decoder.Payload: "payload",
	}
	for name, id := range map[string]decoder.Column{
		"control character": {Name: "id", TypeOID: 25, Bytes: []byte("order-1\n")},
		"blank":             {Name: "id", TypeOID: 25, Bytes: []byte(" ")},
		"null":              {Name: "id", TypeOID: 25, Null: true},
		"good":              {Name: "id", TypeOID: 25, Bytes: []byte("order-1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decoder.New(decoder.Mapping{Schema: "public", Table: "outbox", Columns: columns})
			at := replication.Position{Commit: 100, Ordinal: 1}
			e, err := d.Restore(0, decoder.NamesOf("public", "outbox"), at, 5, []decoder.Column{
				id,
				{Name: "aggregatetype", TypeOID: 25, Bytes: []byte("order")},
				{Name: "aggregateid", TypeOID: 25, Bytes: []byte("k")},
				{Name: "type", TypeOID: 25, Null: true},
				{Name: "payload", TypeOID: 25, Bytes: []byte("x")},
			})
			require.Error(t, err)
			letter := NewDeadLetter(TableRules{Columns: columns}, d.Columns())
			letter.Name(e)
			letter.Position, letter.Class = at, PoisonRow
			record := &sarama.Record{}
			for _, h := range letter.headers("stream") {
				record.Headers = append(record.Headers, &h)
			}
			// As ReadBack makes a landmark of it, see reading.conclude.
			found, position := identify(record)
			require.Equal(t, at, position)
			w := &reading{ReadBack: ReadBack{StreamID: "stream"}}
			w.last = Landmark{Position: position, EventID: found, Topic: "dead", Partition: -1}
			w.conclude(nil)
			assert.Len(t, w.found.Landmarks, 1, "no landmark proves the skipped position")
			p := NewPassage(Point{}, w.found, nil)
			_, err = p.Pass(at, []byte(letter.EventID), 5) // as a session does
			assert.NoError(t, err)
		})
	}
}
