package checkpoint_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
)

// A streamer that knows no predecessors would publish again what they have
// published. It must refuse the record as long as that is above the checkpoint.
func TestPredecessorIsANewFormat(t *testing.T) {
	t.Parallel()
	r := record(100)
	assert.False(t, r.Predecessor.Above(0))
	r.Predecessor = &checkpoint.Predecessor{Until: "0/C8", Topics: map[string][]int64{"orders": {7, 0}}, Holes: []string{"a"}}
	stored := encoded(t, r)
	assert.Contains(t, stored, `"version":3`)
	again, err := checkpoint.Decode([]byte(stored), r.Identity, "here")
	require.NoError(t, err)
	assert.Equal(t, r.Predecessor, again.Predecessor)
	assert.True(t, r.Predecessor.Above(0xc7))
	assert.False(t, r.Predecessor.Above(0xc8))

	r.LSN = 0xc8
	assert.Contains(t, encoded(t, r), `"version":1`, "nothing of it is left to be told apart")

	r.Predecessor.Until = "soon"
	_, err = checkpoint.Decode([]byte(encoded(t, r)), r.Identity, "here")
	require.ErrorIs(t, err, checkpoint.ErrTorn)
}
