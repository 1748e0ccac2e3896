package replication

import (
	"fmt"
	"strings"
)

// Membership identifies the entry of the outbox table in the publication. It
// changes when the table is taken out and added again; rows committed in
// between are in no stream (P-25).
func (t Table) Membership() string { return fmt.Sprintf("%d/%d", t.PublicationOID, t.EntryOID) }

// CheckMembership compares two of them. A publication that was dropped and made
// anew is none of its business: the server reports that itself.
func CheckMembership(before string, now Table, c Config) []Finding {
	publication, entry, _ := strings.Cut(before, "/")
	if before == "" || entry == "0" || now.EntryOID == 0 || !strings.HasPrefix(now.Membership(), publication+"/") || before == now.Membership() {
		return nil
	}
	return []Finding{{
		true, fmt.Sprintf("table %s was taken out of publication %q and added again: rows committed in between are in no stream", c.Table, c.Publication),
		"compare the outbox table with Kafka (`streamer verify`), accept the gap with `streamer checkpoint set`, start `streamer run`, and publish what is missing with `streamer replay --missing`",
	}}
}
