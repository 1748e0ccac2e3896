package replication

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// Shard is a part of the outbox table: the rows whose Column hashes to Index of
// Count. A Count of 0 or 1 is the whole table.
type Shard struct {
	Index, Count int
	Column       string // the aggregate ID's
}

func (s Shard) whole() bool { return s.Count <= 1 }

// hashes are the server's own hash functions, by what format_type calls the
// types that they take. Row filters allow built-in, immutable functions only;
// these are the same in every version, or hash partitioning would break.
var hashes = map[string]string{
	"text": "hashtext", "character varying": "hashtext", "character": "hashbpchar",
	"uuid": "uuid_hash", "bigint": "hashint8", "integer": "hashint4", "smallint": "hashint2",
}

// filter is the condition for the rows of the shard. NULL, which no event may
// have as aggregate ID, is in the first, so that it is noticed.
func (s Shard) filter(t Table) (string, error) {
	typ, _, _ := strings.Cut(columnType(t, s.Column), "(")
	hash := hashes[typ]
	if hash == "" {
		return "", failure.Refuse(fmt.Errorf("column %q is %s, which cannot be sharded by: it must be text, varchar, char, uuid or an integer", s.Column, columnType(t, s.Column)))
	}
	return fmt.Sprintf("coalesce((%s(%s) & 2147483647) %% %d, 0) = %d", hash, quoteIdentifier(s.Column), s.Count, s.Index), nil
}

// where is the condition as a clause, or nothing for the whole table.
func (s Shard) where(t Table) (string, error) {
	if s.whole() {
		return "", nil
	}
	filter, err := s.filter(t)
	return " WHERE (" + filter + ")", err
}

// matches compares the filter of a publication, as the catalog prints it, with
// what it must be.
func (s Shard) matches(rowFilter string, t Table) bool {
	if s.whole() {
		return rowFilter == ""
	}
	filter, err := s.filter(t)
	return err == nil && essence(rowFilter) == essence(filter)
}

// essence is a condition without what the catalog prints in its own way.
func essence(condition string) string {
	condition = strings.NewReplacer("::text", "", "::bpchar", "", "(", "", ")", "", " ", "", `"`, "").Replace(condition)
	return strings.ToLower(condition)
}

// checkShard tells what keeps a server from filtering rows.
func checkShard(s Server, c Config) []Finding {
	if c.Shard.whole() || s.Version >= 150000 {
		return nil
	}
	return []Finding{{
		true, fmt.Sprintf("PostgreSQL %s knows no row filters, so shard.count = %d is not possible", versionText(s.Version), c.Shard.Count),
		"update to PostgreSQL 15 or later, or remove shard.count",
	}}
}

// shardSuffix is what follows the slot's name where there are several.
var shardSuffix = regexp.MustCompile(`_[0-9]+_of_([0-9]+)$`)

// CheckFormerSlots looks for slots of another number of shards that have not come
// to where this one begins: what they still have to publish would come behind
// later events of the same aggregate ID.
func (c *Control) CheckFormerSlots(ctx context.Context, begins LSN) ([]Finding, error) {
	base, own := c.config.Slot, ""
	if suffix := shardSuffix.FindStringSubmatch(base); suffix != nil && !c.config.Shard.whole() {
		base, own = strings.TrimSuffix(base, suffix[0]), suffix[1]
	}
	rows, err := c.conn.Query(ctx, `select slot_name, confirmed_flush_lsn::text from pg_catalog.pg_replication_slots
		where database = current_database() and slot_name ~ $1 and confirmed_flush_lsn < $2::pg_lsn order by confirmed_flush_lsn, slot_name`, "^"+base+"(_[0-9]+_of_[0-9]+)?$", begins.String())
	if err != nil {
		return nil, fmt.Errorf("slots of another number of shards: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, confirmed string
		if err := rows.Scan(&name, &confirmed); err != nil {
			return nil, fmt.Errorf("slots of another number of shards: %w", err)
		}
		if suffix := shardSuffix.FindStringSubmatch(name); name == c.config.Slot || suffix != nil && suffix[1] == own {
			continue
		}
		return []Finding{{ // the one that is furthest behind
			true, fmt.Sprintf("slot %q, of another number of shards, has come to %s only, and this one begins at %s: later events would overtake those in between", name, confirmed, begins),
			fmt.Sprintf("run that streamer with `--until %s` first, or, if nobody needs it, SELECT pg_drop_replication_slot(%s) (docs/how-to/shards.md)", begins, quoteLiteral(name)),
		}}, nil
	}
	return nil, rows.Err()
}
