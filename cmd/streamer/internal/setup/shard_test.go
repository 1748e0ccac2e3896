package setup

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

const inThree = "STREAMER_SHARD_COUNT=3"

// newShards has the table of three shards, on a server that can filter rows.
func newShards(t *testing.T) *rig {
	t.Helper()
	if version := pgtest.Shared(t).Version(); version < 150000 {
		t.Skipf("PostgreSQL %d knows no row filters", version/10000)
	}
	r := newRig(t, inThree)
	r.makeTable()
	return r
}

func TestSetupOfShards(t *testing.T) {
	t.Parallel()
	r := newShards(t)
	got := r.setup(Command{}, "STREAMER_SHARD_INDEX=2") // whichever shard asks
	require.NoError(t, got.err)
	slots := regexp.MustCompile(`created  slot (\S+) at (\S+)\n`).FindAllStringSubmatch(got.out, -1)
	require.Len(t, slots, 3, got.out)
	for i, suffix := range []string{"_0_of_3", "_1_of_3", "_2_of_3"} {
		assert.Equal(t, r.slot+suffix, slots[i][1])
		assert.Equal(t, slots[0][2], slots[i][2], "all begin at the same position")
		assert.Contains(t, got.out, "created  publication "+r.slot+suffix+"\n")
	}
	assert.Greater(t, strings.Index(got.out, "slot "), strings.LastIndex(got.out, "publication"),
		"a slot decodes nothing from before its publication")

	again := r.setup(Command{})
	require.NoError(t, again.err)
	assert.Equal(t, strings.ReplaceAll(got.out, "created", "exists "), again.out)
}

// The first slot has passed what a slot that is made later would need.
func TestSetupRefusesALateShard(t *testing.T) {
	t.Parallel()
	r := newShards(t)
	require.NoError(t, r.setup(Command{}).err)
	r.exec("select pg_drop_replication_slot('$slot_1_of_3')")
	requireRefused(t, r.setup(Command{}), r.slot+"_1_of_3", r.slot+"_0_of_3", "drop the slots of all shards")
}

func TestSetupRefusesShardsOfAnOldServer(t *testing.T) {
	t.Parallel()
	if pgtest.Shared(t).Version() >= 150000 {
		t.Skip("this server can filter rows")
	}
	requireRefused(t, newRig(t, inThree).setup(Command{CreateTable: true}), "row filters", "shard.count")
}

// PostgreSQL copies a slot without its failover option.
func TestSetupSaysThatCopiesAreNoFailoverSlots(t *testing.T) {
	t.Parallel()
	r := newShards(t)
	if pgtest.Shared(t).Version() < 170000 {
		t.Skip("this server has no failover slots")
	}
	got := r.setup(Command{Failover: true})
	requireRefused(t, got, r.slot+`_1_of_3" is not a failover slot`, r.slot+`_2_of_3" is not a failover slot`, "ALTER_REPLICATION_SLOT")
	assert.NotContains(t, got.err.Error(), r.slot+"_0_of_3")
	assert.Equal(t, 3, strings.Count(got.out, "created  slot"), "they are all there, to be altered: %s", got.out)
}
