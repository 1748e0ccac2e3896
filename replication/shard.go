package replication

import (
	"fmt"
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
