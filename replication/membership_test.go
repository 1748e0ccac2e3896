package replication

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

// A table that was taken out of the publication and added again is noticed; one
// whose publication was made anew, or was never told apart, is not.
func TestMembership(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	describe := func() Table {
		table, err := f.control().DescribeTable(t.Context())
		require.NoError(t, err)
		return table
	}
	before := describe().Membership()
	assert.Empty(t, CheckMembership(before, describe(), f.config), "nothing has changed")
	assert.Empty(t, CheckMembership("", describe(), f.config), "nothing is known")
	f.exec("ALTER PUBLICATION p SET TABLE outbox")
	assert.Empty(t, CheckMembership(before, describe(), f.config), "it stayed in")
	f.exec("ALTER PUBLICATION p DROP TABLE outbox")
	assert.Empty(t, CheckMembership(before, describe(), f.config), "that is for CheckTable to say")
	f.exec("ALTER PUBLICATION p ADD TABLE outbox")
	found := CheckMembership(before, describe(), f.config)
	require.Len(t, found, 1)
	assert.True(t, found[0].Fatal)
	assert.Contains(t, found[0].Error(), "public.outbox")
	f.exec("DROP PUBLICATION p", "CREATE PUBLICATION p FOR TABLE outbox")
	assert.Empty(t, CheckMembership(before, describe(), f.config), "the server reports that")
}
