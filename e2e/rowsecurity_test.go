package e2e

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

// hideRows lets the streamer's role see only some rows of the outbox.
func (r *rig) hideRows() {
	r.t.Helper()
	r.asRole("replication")
	r.exec("grant select, delete on outbox to " + r.role)
	r.exec("alter table outbox enable row level security")
	r.exec("create policy others on outbox using (type <> 'hidden')")
}

// seesAll is how a role gets the right to see all rows.
const seesAll = "ALTER ROLE … BYPASSRLS"

// Every command that reads the table refuses where row level security could
// hide rows, instead of calling the rest complete. The stream needs no right to
// read.
func TestRowSecurityHidesNothing(t *testing.T) {
	t.Parallel()
	// A row from before the slot is in no stream.
	r := newRig(t, datedTable+"; insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 'hidden', '{}')")
	r.hideRows()
	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	for _, arguments := range [][]string{
		{"verify"},
		{"verify", "--record", filepath.Join(r.folder, "truth")},
		{"replay", "--missing", "--dry-run"},
		{"replay", "--from-table", "--order-by", "created_at"},
	} {
		output, code := r.command(arguments...)
		assert.Equal(t, exitRefused, code, "%s: %s", arguments, output)
		oneSentence(t, code, output, "row level security", seesAll)
	}
	r.notices("warn", "outbox table", "row level security", seesAll)
	r.published(p, "o1", 1)

	r.exec("alter role " + r.role + " bypassrls")
	r.verify().only(t, "missing")
	assert.Zero(t, p.stop())
}

// Cleaning up is refused as well: the rows that it would see do not represent
// the rows that exist.
func TestCleanupUnderRowSecurity(t *testing.T) {
	t.Parallel()
	r := newRig(t, datedTable, cleaning)
	r.hideRows()
	p := r.startReady()
	r.numbered("o1", 1)
	p.logged(seesAll)
	r.published(p, "o1", 1)
	assert.Equal(t, 1, r.count())
	r.exec("alter role " + r.role + " bypassrls")
	p.eventually("the table is empty", func() bool { return r.count() == 0 })
	assert.Zero(t, p.stop())
}
