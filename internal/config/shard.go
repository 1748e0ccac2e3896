package config

import (
	"fmt"
	"strconv"
	"strings"
)

// suffix distinguishes the slot and the publication of a shard from those of
// other shards, also of another count.
func (s Shard) suffix() string {
	if s.Count <= 1 {
		return ""
	}
	return fmt.Sprintf("_%d_of_%d", s.Index, s.Count)
}

// ForShard returns the configuration of another shard of the same table. The
// configuration must have been loaded.
func (c Config) ForShard(index int) Config {
	slot, publication := strings.TrimSuffix(c.Postgres.Slot, c.Shard.suffix()), strings.TrimSuffix(c.Postgres.Publication, c.Shard.suffix())
	c.Shard.Index = index
	c.Postgres.Slot, c.Postgres.Publication = slot+c.Shard.suffix(), publication+c.Shard.suffix()
	return c
}

func (k *checker) shard() {
	s := k.Shard
	if s.Index >= s.Count && s.Count >= 1 {
		k.add("shard.index", strconv.Itoa(s.Index), fmt.Sprintf("must be less than shard.count, which is %d", s.Count))
	}
	for i, o := range k.Tables() {
		if s.Count > 1 && o.Messages != "" {
			k.add(k.below(i, "messages"), o.Messages, "PostgreSQL cannot share messages out among shards: use one shard, or a table")
		}
		if s.Count > 1 && o.Cleanup.Mode == CleanupDropPartitions {
			k.add(
				k.below(i, "cleanup.mode"), CleanupDropPartitions,
				"a shard knows only which of its own rows are published: use delete, or use none and drop partitions yourself",
			)
		}
	}
}
