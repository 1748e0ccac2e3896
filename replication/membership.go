package replication

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Membership identifies what it rests on that the table is published. While it
// stays the same, no row can have been left out (P-25).
func (t Table) Membership() string { return t.footing.String() }

// CheckMembership says if rows may have been left out of the stream since the
// table had another membership, as far as the catalog tells.
func CheckMembership(before string, now Table, c Config) []Finding {
	var then footing
	switch {
	case before == "" || now.footing.Publication.OID == 0 || !now.Exists:
		return nil // not known, or for CheckTable to say
	case json.Unmarshal([]byte(before), &then) != nil:
		return checkFormerMembership(before, now, c)
	}
	return left(then.gap(now.footing), c)
}

// checkFormerMembership is about what earlier versions have stored: the OIDs of
// the publication and of the table's entry in it, with a slash between them.
func checkFormerMembership(before string, now Table, c Config) []Finding {
	publication, entry, _ := strings.Cut(before, "/")
	f := now.footing
	if entry == "0" || f.Entry.OID == 0 || publication != strconv.FormatUint(uint64(f.Publication.OID), 10) ||
		entry == strconv.FormatUint(uint64(f.Entry.OID), 10) {
		return nil
	}
	return left("it was taken out and added again", c)
}

// left is the finding that rows may have been left out.
func left(why string, c Config) []Finding {
	if why == "" {
		return nil
	}
	return []Finding{{
		true, fmt.Sprintf("table %s may have been out of publication %q for a while (%s): rows committed meanwhile are in no stream", c.Table, c.Publication, why),
		"compare the outbox table with Kafka (`streamer verify`), accept the gap with `streamer checkpoint set`, start `streamer run`, and publish what is missing with `streamer replay --missing`",
	}}
}
