package pipeline

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
)

// oneRecord is a store that holds the record of one identity, and knows it under
// a former name of the database.
type oneRecord struct {
	checkpoint.Reader

	former checkpoint.Record
}

func (s oneRecord) Former(context.Context, checkpoint.Identity) (checkpoint.Record, error) {
	if s.former.Slot == "" {
		return checkpoint.Record{}, checkpoint.ErrNone
	}
	return s.former, nil
}

// What was published before the cluster or the database's name changed stays
// known, whatever is decided later.
func TestFormerStreams(t *testing.T) {
	t.Parallel()
	now := checkpoint.Identity{SystemID: "2", Database: "shop", Slot: "s"}
	old := checkpoint.Identity{SystemID: "1", Database: "shop", Slot: "s"}
	stored := func(id checkpoint.Identity, history int, former ...string) checkpoint.Record {
		return checkpoint.Record{Identity: id, History: history, Former: former}
	}
	elsewhere := checkpoint.Identity{SystemID: "2", Database: "store", Slot: "s"}
	for name, c := range map[string]struct {
		before, renamed checkpoint.Record
		err             error
		want            []string
	}{
		"none":              {err: checkpoint.ErrNone},
		"same cluster":      {before: stored(now, 3)},
		"known before":      {before: stored(now, 0, "a"), want: []string{"a"}},
		"damaged":           {err: checkpoint.ErrTorn},
		"another cluster":   {err: foreignRecord(t, stored(old, 1, "a"), now), want: []string{StreamID(old, 0), StreamID(old, 1), "a"}},
		"another streamer":  {err: foreignRecord(t, stored(checkpoint.Identity{SystemID: "2", Database: "shop", Slot: "x"}, 0), now)},
		"another name":      {err: checkpoint.ErrNone, renamed: stored(elsewhere, 0), want: []string{StreamID(elsewhere, 0)}},
		"created elsewhere": {before: stored(now, 0), renamed: stored(elsewhere, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, formerStreams(t.Context(), oneRecord{former: c.renamed}, now, c.before, c.err))
		})
	}
}

// foreignRecord is the refusal of a record by another identity.
func foreignRecord(t *testing.T, r checkpoint.Record, id checkpoint.Identity) error {
	t.Helper()
	stored, err := checkpoint.Encode(r)
	require.NoError(t, err)
	_, err = checkpoint.Decode(stored, id, "a store")
	require.ErrorIs(t, err, checkpoint.ErrForeign)
	return err
}

func TestStreamIDs(t *testing.T) {
	t.Parallel()
	id := checkpoint.Identity{SystemID: "7300000000000000001", Database: "shop", Slot: "slot"}
	other := id
	other.Slot = "other"
	assert.Equal(t, []string{StreamID(id, 0)}, StreamIDs(id, checkpoint.Record{}))
	assert.Equal(t, []string{StreamID(id, 0), StreamID(id, 1), "former"},
		StreamIDs(id, checkpoint.Record{History: 1, Former: []string{"former"}}))
	assert.NotEqual(t, StreamIDs(id, checkpoint.Record{}), StreamIDs(other, checkpoint.Record{}))
}
