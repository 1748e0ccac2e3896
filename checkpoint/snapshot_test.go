package checkpoint_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
)

// A streamer that knows no snapshots would leave out the rest of the table. It
// must refuse the record only as long as there is a rest.
func TestUnfinishedSnapshotIsANewFormat(t *testing.T) {
	t.Parallel()
	r := record(100)
	assert.Contains(t, encoded(t, r), `"version":1`)
	r.Snapshot = &checkpoint.Snapshot{Table: "public.outbox"}
	assert.True(t, r.Snapshot.Pending())
	assert.Contains(t, encoded(t, r), `"version":2`)
	r.Snapshot.Finished = time.Now()
	assert.False(t, r.Snapshot.Pending())
	assert.Contains(t, encoded(t, r), `"version":1`)
}
