package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// An UPDATE is not published. An UPDATE that moves a row to another partition
// of the table is a DELETE and an INSERT in the WAL.
func TestMovedRowIsPublishedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, `create table outbox (id uuid not null default gen_random_uuid(), `+
		`aggregatetype text, aggregateid text, type text, payload jsonb, created_at timestamptz not null default now())
		partition by range (created_at);
		create table outbox_old partition of outbox for values from (minvalue) to ('2020-01-01');
		create table outbox_now partition of outbox for values from ('2020-01-01') to (maxvalue)`)
	r.asRole("replication")
	r.exec("grant select, update on outbox to " + r.role)
	const meaning = "outbox table public.outbox is partitioned by RANGE (created_at)"
	r.notices("warn", "partition key", meaning, `REVOKE UPDATE ON "public"."outbox" FROM "`+r.role+`"`)

	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	r.exec("update outbox set created_at = created_at - interval '1 minute'") // stays in its partition
	r.verify().clean(t)
	r.exec("update outbox set created_at = '2019-01-01'")
	r.published(p, "o1", 1, 1)
	records := r.records("order")
	assert.Equal(t, header(records[0], "ce_id"), header(records[1], "ce_id"))
	assert.Less(t, header(records[0], "ce_sequence"), header(records[1], "ce_sequence"))
	r.verify().only(t, "repeated")
	assert.Zero(t, p.stop())

	r.exec("revoke update on outbox from " + r.role)
	found, _ := r.doctor()
	for _, f := range found {
		assert.NotEqual(t, "partition key", f.What)
	}
}
