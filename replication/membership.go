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

// memberships is what Membership returns for several tables: each table's, by
// its name.
type memberships struct {
	Tables map[string]json.RawMessage `json:"tables"`
}

// Membership identifies the basis on which the tables are published.
func Membership(tables []Table) string {
	if alone(tables) {
		return tables[0].Membership()
	}
	all := memberships{map[string]json.RawMessage{}}
	for _, t := range tables {
		if !t.Published && t.Outbox.Pattern != "" {
			continue // nothing of it is in the stream
		}
		all.Tables[t.Outbox.Table] = json.RawMessage(t.Membership())
	}
	text, _ := json.Marshal(all) // of JSON
	return string(text)
}

// membershipOf finds what an earlier Membership says about a table. It is empty
// where the table was not among the outbox tables. What was stored for a single
// table is about that of the same name or, if there is still one only, about
// it, whatever its name is now.
func membershipOf(before string, t Table, alone bool) string {
	var several memberships
	if json.Unmarshal([]byte(before), &several) == nil && several.Tables != nil {
		return string(several.Tables[t.Outbox.Table])
	}
	var one footing
	if alone || json.Unmarshal([]byte(before), &one) == nil && one.Name == nameHash(t.Outbox.Table) {
		return before
	}
	return ""
}

// alone reports whether there is a single table, which may have had another name
// before.
func alone(tables []Table) bool { return len(tables) == 1 && tables[0].Outbox.Pattern == "" }

// After returns the tables for a stream that continues from a point where their
// membership was another.
func After(before string, tables []Table) []Table {
	after := make([]Table, len(tables))
	for i, t := range tables {
		after[i] = t.After(membershipOf(before, t, alone(tables)))
	}
	return after
}

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

// CheckMemberships reports whether rows may have been left out of the stream
// since the tables had another membership, as far as the catalog shows.
func CheckMemberships(before string, now []Table, c Config) []Finding {
	var found []Finding
	for _, t := range now {
		found = append(found, CheckMembership(membershipOf(before, t, alone(now)), t, c)...)
	}
	return found
}

// CheckMembership is CheckMemberships for one table.
func CheckMembership(before string, now Table, c Config) []Finding {
	var then footing
	switch {
	case before == "" || now.footing.Publication.OID == 0 || !now.Exists:
		return nil // unknown, or for CheckTable to report
	case json.Unmarshal([]byte(before), &then) != nil:
		return checkFormerMembership(before, now, c)
	}
	return left(then.gap(now.footing), now, c)
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
	return left("it was taken out and added again", now, c)
}

// left is the finding that rows may have been left out.
func left(why string, t Table, c Config) []Finding {
	if why == "" {
		return nil
	}
	return []Finding{{
		true,
		fmt.Sprintf("table %s may have been out of publication %q for a while (%s): rows committed meanwhile are in no stream",
			t.Outbox.Table, c.Publication, why),
		"compare the outbox table with Kafka (`streamer verify`), accept the gap with `streamer checkpoint set`, " +
			"start `streamer run`, and publish what is missing with `streamer replay --missing`",
	}}
}
