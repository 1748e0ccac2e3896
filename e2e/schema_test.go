package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyArrivesInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	var rows [][]any
	for n := range 5000 {
		rows = append(rows, []any{"order", []string{"a", "b", "c"}[n%3], "t", map[string]any{"n": n}})
	}
	_, err := r.db.CopyFrom(t.Context(), pgx.Identifier{"outbox"},
		[]string{"aggregatetype", "aggregateid", "type", "payload"}, pgx.CopyFromRows(rows))
	require.NoError(t, err)
	messages := r.await(p, "order", len(rows))
	for key, numbers := range byKey(t, messages) {
		assert.IsIncreasing(t, numbers, key)
	}
	unique := map[string]bool{}
	for _, m := range messages {
		unique[header(m, "ce_sequence")] = true
	}
	assert.Len(t, unique, len(rows), "rows of one COPY share an LSN but not a sequence")
}

func TestPartitionedOutbox(t *testing.T) {
	t.Parallel()
	r := newRig(t, `create table outbox (id uuid default gen_random_uuid(), day date not null default '2026-01-01',
		aggregatetype text, aggregateid text, type text, payload jsonb) partition by range (day);
		create table outbox_1 partition of outbox for values from ('2026-01-01') to ('2026-02-01');
		create table outbox_2 (payload jsonb, type text, aggregateid text, `+
		`day date not null, aggregatetype text, id uuid default gen_random_uuid());
		alter table outbox attach partition outbox_2 for values from ('2026-02-01') to ('2026-03-01')`)
	p := r.startReady()
	r.exec(`insert into outbox (day, aggregatetype, aggregateid, type, payload)
		select case when n % 2 = 0 then date '2026-01-05' else date '2026-02-05' end, ` +
		`'order', 'o1', 't', jsonb_build_object('n', n) from generate_series(1, 100) n`)
	r.await(p, "order", 100)
	r.exec("create table outbox_3 partition of outbox for values from ('2026-03-01') to ('2026-04-01')")
	r.exec("insert into outbox (day, aggregatetype, aggregateid, type, payload) values ('2026-03-05', 'order', 'o1', 't', '{\"n\": 101}')")
	messages := r.await(p, "order", 101)
	assert.IsIncreasing(t, byKey(t, messages)["o1"])
}

func TestColumnsChangeWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.insert("order", "o1", "t", `{"n": 1}`)
	for _, change := range []string{
		"alter table outbox add column extra text default 'x'",
		"alter table outbox drop column extra",
		"alter table outbox add column note text",
		"alter table outbox rename column note to remark",
		"alter table outbox alter column aggregateid type varchar(80)",
		"alter table outbox alter column payload type json using payload::json",
		"alter table outbox alter column payload type jsonb using payload::jsonb",
		"truncate outbox",
		"vacuum full outbox",
		"cluster outbox using outbox_pkey",
	} {
		r.exec(change)
		r.insert("order", "o1", "t", `{"n": 2}`)
	}
	messages := r.await(p, "order", 11)
	assert.Len(t, ids(messages), 11)
	r.confirmed(p)
	assert.Zero(t, p.stop())
	r.exec("alter table outbox alter column aggregateid type text, alter column payload type json using payload::json")
	r.insert("order", "o1", "t", `{"n": 3}`)
	p = r.startReady()
	r.await(p, "order", 12)
	assert.Zero(t, p.stop())
}

// A mapped column that is renamed stops the streamer without losing anything.
// Mapping its new name continues the stream. Rows written before the change are
// read with the schema that they were written with.
func TestMappedColumnRenamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.insert("order", "o1", "t", `{"n": 1}`)
	r.await(p, "order", 1)
	r.exec("alter table outbox rename column payload to body")
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, body) values ('order', 'o1', 't', '{"n": 2}')`)
	assert.Equal(t, 3, p.code())
	assert.Contains(t, p.log.String(), `payload`)
	assert.Contains(t, p.log.String(), `outbox.columns`)

	p = r.startReady("outbox.columns.payload=body")
	messages := r.await(p, "order", 2)
	assert.Equal(t, map[string][]int{"o1": {1, 2}}, byKey(t, messages))
}

// Rows that were written while the table had another name still belong to it.
func TestRowsFromWhenTheTableHadAnotherName(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.insert("order", "o1", "t", `{"n": 1}`)
	r.exec("alter table outbox rename to elsewhere")
	r.exec(`insert into elsewhere (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 't', '{"n": 2}')`)
	r.exec("alter table elsewhere rename to outbox")
	r.insert("order", "o1", "t", `{"n": 3}`)
	p := r.startReady()
	messages := r.await(p, "order", 3)
	assert.Equal(t, map[string][]int{"o1": {1, 2, 3}}, byKey(t, messages))
}

func TestRowsOfOtherTablesAreIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	r.exec("create table other (id int primary key, aggregatetype text)")
	r.exec("alter publication streamer add table other")
	p := r.startReady()
	r.exec("insert into other select n, 'order' from generate_series(1, 1000) n")
	tx, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into other select n, 'order' from generate_series(2001, 2010) n")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 't', '{"n": 1}')`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	r.insert("order", "o1", "t", `{"n": 2}`)
	messages := r.await(p, "order", 2)
	assert.Equal(t, map[string][]int{"o1": {1, 2}}, byKey(t, messages))
	r.confirmed(p)
}

func TestOddColumnsAndNames(t *testing.T) {
	t.Parallel()
	for _, binary := range []string{"false", "true"} {
		t.Run("binary="+binary, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "", withConfig(
				"postgres.binary="+binary, `outbox.table="Odd.Schema"."Out ""Box"""`, "outbox.columns.id=Id", "outbox.columns.aggregate_type=Kind",
				"outbox.columns.aggregate_id=Key", "outbox.columns.type=Event", "outbox.columns.payload=Data", "outbox.columns.time=At",
				"outbox.extensions.tenantid=Tenant", "outbox.extensions.urgent=Urgent", "outbox.extensions.level=Level", "outbox.extensions.big=Big"))
			r.exec(`create schema "Odd.Schema"`)
			r.exec(`create table "Odd.Schema"."Out ""Box""" ("Id" bigint generated always as identity, "Kind" varchar(20), "Key" bigint,
				"Event" text, "Data" bytea, "At" timestamptz, "Tenant" uuid, "Urgent" bool, "Level" int, "Big" bigint)`)
			r.exec(`create publication streamer for table "Odd.Schema"."Out ""Box""" with (publish = 'insert', publish_via_partition_root = true)`)
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
			p := r.startReady()
			r.exec(`insert into "Odd.Schema"."Out ""Box""" ("Kind", "Key", "Event", "Data", "At", "Tenant", "Urgent", "Level", "Big") values
				('order', 9007199254740993, 'Zahlung/eingegangen ✓', '\x00ff10', ` +
				`'2026-01-02 03:04:05.678+02', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', true, -7, 9007199254740993)`)
			m := r.await(p, "order", 1)[0]
			assert.Equal(t, "9007199254740993", string(m.Key))
			assert.Equal(t, []byte{0x00, 0xff, 0x10}, m.Value)
			assert.Equal(t, "application/octet-stream", header(m, "content-type"))
			assert.Equal(t, "1", header(m, "ce_id"))
			assert.Equal(t, "Zahlung/eingegangen ✓", header(m, "ce_type"))
			assert.Equal(t, "2026-01-02T01:04:05.678Z", header(m, "ce_time"))
			assert.Equal(t, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", header(m, "ce_tenantid"))
			assert.Equal(t, "true", header(m, "ce_urgent"))
			assert.Equal(t, "-7", header(m, "ce_level"))
			assert.Equal(t, "9007199254740993", header(m, "ce_big"))
			assert.False(t, strings.ContainsAny(header(m, "ce_source"), " \""), "source is a URI-reference: %s", header(m, "ce_source"))
		})
	}
}

// An xml column says of itself what it is. The declaration, if there is one,
// does not name another encoding than the record has.
func TestXMLPayload(t *testing.T) {
	t.Parallel()
	for mode, contentType := range map[string]string{
		"binary": "application/xml", "structured": "application/cloudevents+json; charset=UTF-8",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, strings.Replace(outboxTable, "payload jsonb", "payload xml", 1), withConfig("cloudevents.mode="+mode))
			p := r.startReady()
			r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload)
				values ('order', 'o1', 't', '<?xml version="1.0" encoding="ISO-8859-1"?><a b="c">größe</a>')`)
			m := r.await(p, "order", 1)[0]
			assert.Equal(t, contentType, header(m, "content-type"))
			if mode == "binary" {
				assert.Equal(t, `<a b="c">größe</a>`, strings.TrimPrefix(string(m.Value), `<?xml version="1.0"?>`))
			} else {
				assert.Contains(t, string(m.Value), `"datacontenttype":"application/xml"`)
			}
			r.confirmed(p)
			output, code := r.command("verify")
			assert.Zero(t, code, output)
		})
	}
}

func TestNullPayloadIsNoTombstoneUnlessAsked(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string][]byte{"json_null": []byte("null"), "empty_object": []byte("{}"), "tombstone": nil} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withConfig("outbox.null_payload="+policy))
			p := r.startReady()
			r.exec("insert into outbox (aggregatetype, aggregateid, type) values ('order', 'o1', 't')")
			m := r.await(p, "order", 1)[0]
			assert.Equal(t, want, m.Value)
		})
	}
}

// Rows that are copied into a table which then takes the outbox's name were not
// written to the outbox. They are published once, whether the streamer runs in
// the meantime, starts afterwards, or is killed and started again.
func TestCopyAndSwap(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down=%t", down), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable)
			r.exec("drop publication streamer")
			r.exec("create publication streamer for all tables with (publish = 'insert')")
			r.exec("select pg_drop_replication_slot($1)", r.slot)
			r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
			p := r.startReady()
			r.numbered("o1", 1, 2)
			r.published(p, "o1", 1, 2)
			if down {
				assert.Zero(t, p.stop())
			}
			r.exec("create table outbox_new (like outbox including all)")
			r.exec("insert into outbox_new select * from outbox")
			r.exec("do $$ begin alter table outbox rename to outbox_old; alter table outbox_new rename to outbox; end $$")
			r.numbered("o1", 3)
			if down {
				output, code := r.command("preview", "--limit", "0")
				assert.Zero(t, code, output)
				assert.Equal(t, 1, strings.Count(output, `"event"`), output)
				for range 2 { // the second knows the new table from the checkpoint of the first
					p = r.start()
					p.logged("streaming")
					p.kill()
				}
				p = r.startReady()
			}
			r.published(p, "o1", 1, 2, 3)
			r.numbered("o1", 4)
			r.published(p, "o1", 1, 2, 3, 4)
			assert.Zero(t, p.stop())
			r.verify().clean(t)
		})
	}
}

// A generated column is not in the stream. The refusal says so; after the cure,
// rows from before it are passed over and published from the table.
func TestGeneratedColumn(t *testing.T) {
	t.Parallel()
	r := newRig(t, `create table outbox (id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid text,
		type text generated always as ('t-' || aggregateid) stored, payload jsonb)`)
	r.exec(`insert into outbox (aggregatetype, aggregateid, payload) values ('order', 'o1', '{"n": 1}')`)
	for range 2 {
		r.start().refused(
			exitRefused, `column "type" of public.outbox is generated`, "DROP EXPRESSION", "incidents.md#a-column-is-not-in-the-stream",
		)
	}
	r.exec("alter table outbox alter column type drop expression")
	for range 2 {
		r.start().refused(
			exitRefused, "the stream has no column type of outbox table public.outbox", "streamer checkpoint set", "streamer replay --missing",
		)
	}
	var position string
	require.NoError(t, r.db.QueryRow(t.Context(), "select pg_current_wal_lsn()::text").Scan(&position))
	output, code := r.command("checkpoint", "set", position, "--yes")
	require.Equal(t, 0, code, output)
	p := r.startReady()
	r.insert("order", "o1", "t", `{"n": 2}`)
	r.await(p, "order", 1)
	output, code = r.command("replay", "--missing", "--yes")
	require.Equal(t, 0, code, output)
	assert.Equal(t, map[string][]int{"o1": {2, 1}}, byKey(t, r.await(p, "order", 2)))
}
