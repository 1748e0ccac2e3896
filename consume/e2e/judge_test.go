package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/consume"
)

func replayed(by string) consume.Header {
	return consume.Header{Name: "streamer-replay", Value: []byte(by)}
}

const ledger = "select count(*) from inbox.claim"

// With one partition every key is at home.
func TestStreamLeavesOneRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "b", 2), record(0, 5, "a", 3))
	assert.ElementsMatch(t, []string{"e1", "e2", "e3"}, w.ids())
	assert.Zero(t, w.count(ledger), "the range covers all")
	assert.Equal(t, 1, w.count("select count(*) from inbox.range"))
	assert.Equal(t, 6, w.count("select next_offset from inbox.position"))

	w.mu.Lock()
	clear(w.committed)
	w.mu.Unlock()
	w.handle(0, record(0, 0, "a", 1), record(0, 1, "b", 2), record(0, 5, "a", 3), record(0, 6, "b", 4))
	assert.Len(t, w.ids(), 4)
	assert.Zero(t, w.count(ledger))
}
