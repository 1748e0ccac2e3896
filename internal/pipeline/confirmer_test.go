package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/wire"
)

// A slot that begins before the checkpoint is read by two readers in turn.
// Until the last published row has reappeared, the second reader confirms no
// more than the first could.
func TestNothingIsConfirmedByTheNextReaderBeforeItIsProven(t *testing.T) {
	t.Parallel()
	last := replication.Position{Commit: 480, Ordinal: 1}
	saved := resumeAt(checkpoint.Record{LSN: 500, Exact: true, Last: &checkpoint.Event{Sequence: wire.FormatSequence(last), ID: "a"}})
	f := &flow{
		passage: router.NewPassage(saved.point, router.Found{}, nil), saver: &saver{saved: saved}, trail: newTrail(saved),
		tracker: checkpoint.NewTracker(saved.LSN),
	}
	require.EqualValues(t, 300, f.resume(replication.Slot{Confirmed: 300, Flushed: 1000}))
	first := newConfirmer(ground{}, f, nil, 300)
	first.read = 400
	assert.EqualValues(t, 300, first.confirmable())
	second := newConfirmer(ground{}, f, nil, first.read)
	assert.EqualValues(t, 300, second.confirmable())
	published, err := f.passage.Pass(last, []byte("a"), 0)
	require.NoError(t, err)
	assert.True(t, published)
	second.read = 490
	assert.EqualValues(t, 490, second.confirmable(), "the history is proven")
	second.read = 600
	assert.EqualValues(t, 500, second.confirmable(), "but no more than is stored")
}
