package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// newShardRig has a table and nothing else: setup creates publications and
// slots.
func newShardRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "")
	r.slot = "s" + r.slot[max(0, len(r.slot)-40):]
	r.exec(outboxTable)
	return r
}

// setUp creates what so many shards need, and returns where their slots begin.
func (r *rig) setUp(count int) (lsn string) {
	r.t.Helper()
	output, code := r.command("setup", "--set", fmt.Sprintf("shard.count=%d", count))
	require.Zero(r.t, code, output)
	found := regexp.MustCompile(`slot \S+ at ([0-9A-F]+/[0-9A-F]+)`).FindAllStringSubmatch(output, -1)
	require.Len(r.t, found, count, output)
	for _, slot := range found {
		assert.Equal(r.t, found[0][1], slot[1], "all begin at the same position")
	}
	return found[0][1]
}

// startShards starts all shards.
func (r *rig) startShards(command []string, count int) (all []*process) {
	r.t.Helper()
	for i := range count {
		ports, err := testserver.FreePorts(1)
		require.NoError(r.t, err)
		all = append(all, r.startWith(command, fmt.Sprintf("shard.count=%d", count),
			fmt.Sprintf("shard.index=%d", i), fmt.Sprintf("http.listen=127.0.0.1:%d", ports[0]),
			fmt.Sprintf("checkpoint.file.path=%s/checkpoint-%d-%d", r.folder, i, count)))
	}
	return all
}

// stream waits until all shards stream.
func stream(shards []*process) []*process {
	for _, p := range shards {
		p.logged("streaming")
	}
	return shards
}

// The number of shards is changed while rows are written: three, two, and the
// whole table. Nothing is lost, repeated, or out of order.
func TestNumberOfShardsIsChanged(t *testing.T) {
	t.Parallel()
	r := newShardRig(t)
	r.setUp(3)
	shards := stream(r.startShards([]string{"run"}, 3))
	const total = 6000
	wait := r.load(total)
	for _, count := range []int{2, 1} {
		shards[0].eventually("some have arrived", func() bool { return len(r.records("order")) > total/(count+3) })
		before := len(shards)
		for _, p := range shards {
			require.Zero(t, p.stop())
		}
		from := r.setUp(count)
		for _, p := range r.startShards([]string{"run"}, count) {
			p.refused(exitRefused, "of another number of shards, has only come to", "run that streamer with `--until "+from)
		}
		for _, p := range r.startShards([]string{"run", "--until", from}, before) {
			assert.Zero(t, p.code(), "it ends by itself")
			assert.NotContains(t, p.log.String(), "level=ERROR")
		}
		shards = stream(r.startShards([]string{"run"}, count))
		r.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name ~ $1",
			fmt.Sprintf("^%s_[0-9]+_of_%d$", r.slot, before))
	}
	wait()
	r.requireOnce(shards[0], total)
	var former []string
	for _, slot := range []string{"_0_of_3", "_1_of_3", "_2_of_3", "_0_of_2", "_1_of_2"} {
		former = append(former, "--former-slot", r.slot+slot)
	}
	r.verify(former...).clean(t)
	for _, p := range shards {
		assert.Zero(t, p.stop())
	}
}

// From one shard to two and back, while slot and checkpoint of the one still
// exist. What the two have published in between would be published again.
// docs/how-to/shards.md describes the way back.
func TestReturnToAFormerNumberOfShards(t *testing.T) {
	t.Parallel()
	r := newShardRig(t)
	r.setUp(1)
	whole := stream(r.startShards([]string{"run"}, 1))[0]
	const total = 6000
	wait := r.load(total / 2)
	whole.eventually("some have arrived", func() bool { return len(r.records("order")) > total/6 })
	require.Zero(t, whole.stop())

	from := r.setUp(2)
	r.startShards([]string{"run"}, 1)[0].refused(exitRefused, "of another number of shards, is at "+from, "--until "+from)
	require.Zero(t, r.startShards([]string{"run", "--until", from}, 1)[0].code())
	shards := stream(r.startShards([]string{"run"}, 2))
	wait()
	wait = r.loadBetween(total/2, total)
	shards[0].eventually("some are of the two", func() bool { return len(r.records("order")) > total*2/3 })
	for _, p := range shards {
		require.Zero(t, p.stop())
	}

	r.startShards([]string{"run"}, 1)[0].refused(exitRefused,
		"of another number of shards, is at ", "would be published again", "docs/how-to/shards.md")
	output, code := r.command("doctor")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "of another number of shards, is at ")
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	from = r.setUp(1)
	accept := []string{"checkpoint", "set", "slot", "--yes", "--set", "checkpoint.file.path=" + r.folder + "/checkpoint-0-1"}
	output, code = r.command(accept...)
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "run that streamer with `--until "+from, "the shards have not come there")
	for _, p := range r.startShards([]string{"run", "--until", from}, 2) {
		require.Zero(t, p.code())
	}
	output, code = r.command(accept...)
	require.Zero(t, code, output)
	whole = stream(r.startShards([]string{"run"}, 1))[0]
	wait()
	r.requireOnce(whole, total)
	assert.Zero(t, whole.stop())
}

func TestShardsShareTheWork(t *testing.T) {
	t.Parallel()
	r := newShardRig(t)
	r.setUp(4)
	shards := stream(r.startShards([]string{"run"}, 4))
	r.load(700)()
	r.requireOnce(shards[0], 700)
	streams := map[string]map[string]bool{} // by aggregate
	for _, m := range r.records("order") {
		if streams[string(m.Key)] == nil {
			streams[string(m.Key)] = map[string]bool{}
		}
		streams[string(m.Key)][header(m, "streamer-stream")] = true
	}
	different := map[string]bool{}
	for key, of := range streams {
		assert.Len(t, of, 1, "all events of %s come from one shard", key)
		for stream := range of {
			different[stream] = true
		}
	}
	assert.Greater(t, len(different), 1)
	r.verify("--set", "shard.count=4").clean(t)
	output, code := r.command("doctor", "--set", "shard.count=4", "--set", "shard.index=2")
	assert.Contains(t, output, "this is shard 2 of 4, and all have their slots")
	assert.NotContains(t, output, "filters rows", code)
	output, _ = r.command("status", "--set", "shard.count=4", "--set", "shard.index=2")
	assert.Contains(t, output, "2 of 4")
	for _, p := range shards {
		assert.Zero(t, p.stop())
	}
	r.exec("select pg_drop_replication_slot($1)", r.slot+"_3_of_4")
	output, code = r.command("doctor", "--set", "shard.count=4")
	assert.Equal(t, 3, code)
	assert.Contains(t, output, "shard 3 of 4 has no slot")
}

func TestShardRefusals(t *testing.T) {
	t.Parallel()
	r := newShardRig(t)
	output, code := r.command("run", "--set", "shard.count=2", "--set", "shard.index=2")
	assert.Equal(t, 2, code)
	oneSentence(t, code, output, "shard.index", "must be less than shard.count")
	r.setUp(2)
	// The publication of one shard is not that of another, nor of the whole
	// table.
	for _, wrong := range []string{"_1_of_2", ""} {
		r.exec(fmt.Sprintf("drop publication %q", "streamer_0_of_2"))
		filter := ""
		if wrong != "" {
			filter = " where (coalesce((hashtext(aggregateid) & 2147483647) % 2, 0) = 1)"
		}
		r.exec(fmt.Sprintf("create publication %q for table outbox%s with (publish = 'insert', "+
			"publish_via_partition_root = true)", "streamer_0_of_2", filter))
		output, code = r.command("run", "--set", "shard.count=2")
		assert.Equal(t, 3, code)
		assert.Contains(t, output, "shard 0 of 2")
		assert.Contains(t, strings.ToLower(output), "setup")
	}
}
