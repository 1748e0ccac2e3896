package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/replication"
)

func TestTransactionsBetweenWhatTheServerSays(t *testing.T) {
	t.Parallel()
	var known transactions
	assert.Zero(t, known.at(100), "nothing is known")
	known.note(1000, 50)
	assert.EqualValues(t, 50, known.at(1500), "all that is known")
	known.note(2000, 150)
	known.note(2000, 170) // the WAL has not advanced
	known.note(4000, 0)   // unknown
	assert.Zero(t, known.at(999), "before the first point")
	assert.EqualValues(t, 50, known.at(1000))
	assert.EqualValues(t, 75, known.at(1250))
	assert.EqualValues(t, 150, known.at(2000))
	assert.EqualValues(t, 250, known.at(3000), "the line continues with the same slope")
	known.note(6000, 550)
	assert.EqualValues(t, 350, known.at(4000))
}

// However long a streamer lags behind, the line stays short and accurate.
func TestTransactionsOfALongLag(t *testing.T) {
	t.Parallel()
	var known transactions
	for i := range 10_000 {
		known.note(replication.LSN(1000*i+1000), int64(10*i+1))
	}
	assert.LessOrEqual(t, len(known.line), longestLine)
	for _, i := range []int{0, 1, 77, 5000, 9900} {
		assert.InDelta(t, 10*i+1, known.at(replication.LSN(1000*i+1000)), 1)
	}
	assert.Less(t, len(known.line), longestLine)
}
