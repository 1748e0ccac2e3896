package replication

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Membership identifies the basis on which the table is published. While it
// stays the same, no row can have been left out (P-25).
func (t Table) Membership() string { return t.footing.String() }

// After returns the table for a stream that continues from a point where the
// table had another membership. If it was another table then, this one has not
// always had its name.
func (t Table) After(before string) Table {
	var then footing
	switch {
	case json.Unmarshal([]byte(before), &then) != nil || then.Table == 0:
		t.footing.Since = 0 // unknown
	case then.Table == t.OID:
		t.footing.Since = then.Since
	default:
		t.footing.Since = t.end
	}
	return t
}

// Since is the position in the WAL from which rows of this table are outbox
// rows, whatever the table was called when they were committed. Before it, a
// table that was prepared to take the outbox table's place had another name,
// and so had the rows that were copied into it.
func (t Table) Since() LSN { return t.footing.Since }

// CheckMembership reports whether rows may have been left out of the stream
// since the table had another membership, as far as the catalog shows.
func CheckMembership(before string, now Table, c Config) []Finding {
	var then footing
	switch {
	case before == "" || now.footing.Publication.OID == 0 || !now.Exists:
		return nil // unknown, or for CheckTable to report
	case json.Unmarshal([]byte(before), &then) != nil:
		return checkFormerMembership(before, now, c)
	}
	return left(then.gap(now.footing), c)
}

// checkFormerMembership handles what earlier versions stored: the OIDs of the
// publication and of the table's entry in it, separated by a slash.
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
		true,
		fmt.Sprintf("table %s may have been out of publication %q for a while (%s): rows committed meanwhile are in no stream",
			c.Table, c.Publication, why),
		"compare the outbox table with Kafka (`streamer verify`), accept the gap with `streamer checkpoint set`, " +
			"start `streamer run`, and publish what is missing with `streamer replay --missing`",
	}}
}
