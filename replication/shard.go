package replication

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// Shard is a part of the outbox tables: the rows whose aggregate ID hashes to
// Index out of Count. A Count of 0 or 1 is all rows.
type Shard struct{ Index, Count int }

func (s Shard) whole() bool { return s.Count <= 1 }

// hashes are the server's own hash functions, keyed by format_type's names of
// their argument types. Row filters allow built-in, immutable functions only.
// These functions are the same in every version, or hash partitioning would
// break.
var hashes = map[string]string{
	"text": "hashtext", "character varying": "hashtext", "character": "hashbpchar",
	"uuid": "uuid_hash", "bigint": "hashint8", "integer": "hashint4", "smallint": "hashint2",
}

// filter is the condition for the rows of the shard. NULL, which no event may
// have as aggregate ID, is in the first shard, so that it is noticed.
func (s Shard) filter(t Table) (string, error) {
	typ, _, _ := strings.Cut(columnType(t, t.Outbox.AggregateID), "(")
	hash := hashes[typ]
	if hash == "" {
		return "", failure.Refuse(fmt.Errorf(
			"column %q is %s, which cannot be used for sharding: it must be text, varchar, char, uuid or an integer",
			t.Outbox.AggregateID, columnType(t, t.Outbox.AggregateID),
		))
	}
	return fmt.Sprintf("coalesce((%s(%s) & 2147483647) %% %d, 0) = %d", hash, quoteIdentifier(t.Outbox.AggregateID), s.Count, s.Index), nil
}

// where is the condition as a clause, empty for the whole table.
func (s Shard) where(t Table) (string, error) {
	if s.whole() {
		return "", nil
	}
	filter, err := s.filter(t)
	return " WHERE (" + filter + ")", err
}

// matches reports whether the filter of a publication, as the catalog prints
// it, is the shard's.
func (s Shard) matches(rowFilter string, t Table) bool {
	if s.whole() {
		return rowFilter == ""
	}
	filter, err := s.filter(t)
	return err == nil && essence(rowFilter) == essence(filter)
}

// essence is a condition without the catalog's peculiarities of printing.
func essence(condition string) string {
	condition = strings.NewReplacer("::text", "", "::bpchar", "", "(", "", ")", "", " ", "", `"`, "").Replace(condition)
	return strings.ToLower(condition)
}

// checkShard reports what keeps a server from filtering rows.
func checkShard(s Server, c Config) []Finding {
	if c.Shard.whole() || s.Version >= 150000 {
		return nil
	}
	return []Finding{{
		true, fmt.Sprintf("PostgreSQL %s has no row filters, so shard.count = %d is not possible", versionText(s.Version), c.Shard.Count),
		"update to PostgreSQL 15 or later, or remove shard.count",
	}}
}

// shardSuffix is the suffix of the slot's name where there are several shards.
var shardSuffix = regexp.MustCompile(`_[0-9]+_of_([0-9]+)$`)

// Succession is where a streamer goes on alongside slots of another number of
// shards.
type Succession struct {
	From  LSN
	First bool // nothing was published from this slot before
	Until LSN  // where it ends; 0 if it does not
}

// CheckFormerSlots looks for slots of another number of shards that do not fit.
// There are two kinds. One has not reached the position at which this slot
// begins: what it still has to publish would come after later events of the
// same aggregate ID. The other is ahead of this slot, which would publish again
// what the other has published. A slot that was left over when the number
// changed fits.
func (c *Control) CheckFormerSlots(ctx context.Context, s Succession) ([]Finding, error) {
	base, own := c.config.Slot, ""
	if suffix := shardSuffix.FindStringSubmatch(base); suffix != nil && !c.config.Shard.whole() {
		base, own = strings.TrimSuffix(base, suffix[0]), suffix[1]
	}
	rows, err := c.conn.Query(
		ctx,
		`select slot_name, confirmed_flush_lsn::text, confirmed_flush_lsn < $2::pg_lsn from pg_catalog.pg_replication_slots
		where database = current_database() and slot_name ~ $1
			and (confirmed_flush_lsn < $2::pg_lsn and $3 or confirmed_flush_lsn > greatest($2::pg_lsn, $4::pg_lsn))
		order by confirmed_flush_lsn, slot_name`,
		"^"+base+"(_[0-9]+_of_[0-9]+)?$",
		s.From.String(), s.First, s.Until.String(),
	)
	if err != nil {
		return nil, fmt.Errorf("slots of another number of shards: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, confirmed string
		var before bool
		if err := rows.Scan(&name, &confirmed, &before); err != nil {
			return nil, fmt.Errorf("slots of another number of shards: %w", err)
		}
		if suffix := shardSuffix.FindStringSubmatch(name); name == c.config.Slot || suffix != nil && suffix[1] == own {
			continue
		}
		if before {
			return []Finding{s.tooEarly(name, confirmed)}, nil // the one that is furthest behind
		}
		return []Finding{s.tooLate(name, confirmed)}, nil
	}
	return nil, rows.Err()
}

func (s Succession) tooEarly(name, confirmed string) Finding {
	return Finding{
		true, fmt.Sprintf("slot %q, of another number of shards, has only come to %s, and this one begins at %s: "+
			"later events would overtake those in between", name, confirmed, s.From),
		fmt.Sprintf(
			"run that streamer with `--until %s` first, or, if its slot is not needed, SELECT pg_drop_replication_slot(%s) (docs/how-to/shards.md)",
			s.From, quoteLiteral(name),
		),
	}
}

func (s Succession) tooLate(name, confirmed string) Finding {
	return Finding{
		true, fmt.Sprintf("slot %q, of another number of shards, is at %s, and this one continues from %s: "+
			"what was published from that slot in between would be published again", name, confirmed, s.From),
		fmt.Sprintf(
			"if that slot was only set up and nothing was published from it, start with `--until %s`, or SELECT pg_drop_replication_slot(%s); "+
				"if this number of shards was used before, follow \"Back to a former number\" in docs/how-to/shards.md",
			confirmed, quoteLiteral(name),
		),
	}
}
