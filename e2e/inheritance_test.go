package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rows of a table that inherits from the outbox are in no stream. Every command
// that would ignore them says so. Two faults show the same of a running
// streamer.
func TestInheritanceIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.exec(outboxTable)
	r.exec("create table outbox_2026 () inherits (outbox)")
	const problem, remedy = "table public.outbox_2026 inherits from outbox table public.outbox",
		`ALTER TABLE public.outbox_2026 NO INHERIT "public"."outbox"`
	refused := func(arguments ...string) {
		t.Helper()
		output, code := r.command(arguments...)
		assert.Equal(t, exitRefused, code, "%s: %s", arguments, output)
		oneSentence(t, code, output, problem, remedy)
	}
	refused("setup")
	assert.Zero(t, r.countOf("pg_publication"), "nothing is made of a table that is refused")

	r.exec("alter table outbox_2026 no inherit outbox")
	output, code := r.command("setup")
	assert.Zero(t, code, output)
	p := r.startReady() // stores a checkpoint
	assert.Zero(t, p.stop())
	r.exec("alter table outbox_2026 inherit outbox")
	for _, arguments := range [][]string{
		{"run"},
		{"setup"},
		{"preview"},
		{"verify"},
		{"replay", "--missing", "--yes"},
		{"replay", "--from-table", "--order-by", "type"},
	} {
		refused(arguments...)
	}
	r.notices("FAIL", "outbox table", problem, remedy)
}

func (r *rig) countOf(table string) (n int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select count(*) from "+table).Scan(&n))
	return n
}
