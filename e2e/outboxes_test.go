package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// twoTables are outbox tables whose events go to the same topic: one has ids of
// its own, the other has other columns and numbers its rows, so that its ids
// are those of a third.
const twoTables = `create schema sales; create schema stock;
	create table sales.outbox (
		id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid text, type text, payload jsonb);
	create table stock."Events" (
		no bigint generated always as identity primary key, entity text, entity_id text, kind text, body jsonb, tenant text);
	create table stock.returns (
		no bigint generated always as identity primary key, entity text, entity_id text, kind text, body jsonb, tenant text)`

// withTables configures them.
func withTables() option {
	const columns = `columns: {id: "no", aggregate_type: entity, aggregate_id: entity_id, type: kind, payload: body}`
	return withConfig(`outboxes=[{table: sales.outbox, source: /sales}, ` +
		`{table: stock.Events, source: /stock, poison: dead-letter, extensions: {tenantid: tenant}, ` + columns + `}, ` +
		`{table: stock.returns, source: /returns, ` + columns + `}]`)
}

func newTablesRig(t *testing.T, options ...option) *rig {
	t.Helper()
	r := newRig(t, "", append([]option{withTables(), withConfig("postgres.publication=streamer", "kafka.topics.partitions=1")}, options...)...)
	r.exec(twoTables)
	output, err := exec.CommandContext(t.Context(), binary, append([]string{"setup"}, r.arguments()...)...).CombinedOutput()
	require.NoError(t, err, string(output))
	for _, table := range []string{"sales.outbox", "stock.Events", "stock.returns"} {
		assert.Contains(t, string(output), table)
	}
	return r
}

// both inserts a row into each table in one transaction. All are of the same
// aggregate.
func (r *rig) both(n int) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`begin;
		insert into stock."Events" (entity, entity_id, kind, body, tenant) values ('order', 'o1', 'reserved', '{"n": %[1]d}', 'acme');
		insert into sales.outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 'placed', '{"n": %[1]d}');
		insert into stock.returns (entity, entity_id, kind, body) values ('order', 'o1', 'expected', '{"n": %[1]d}');
		commit`, n))
}

func sources(messages []*sarama.ConsumerMessage) (list []string) {
	for _, m := range messages {
		list = append(list, header(m, "ce_source"))
	}
	return list
}

// Events of all tables are in one order, that of the commits, whatever happens
// to the streamer, and each table has its own rules.
func TestSeveralTables(t *testing.T) {
	t.Parallel()
	r := newTablesRig(t)
	p := r.startReady()
	const rounds = 30
	for n := range rounds {
		r.both(n)
		if n%10 == 9 {
			p.kill()
			p = r.startReady()
		}
	}
	messages := r.await(p, "order", 3*rounds)
	assert.Equal(t, slices.Repeat([]string{"/stock", "/sales", "/returns"}, rounds), sources(messages))
	var sequences []string
	for _, m := range messages {
		sequences = append(sequences, header(m, "ce_sequence"))
	}
	assert.IsIncreasing(t, sequences)
	assert.Equal(t, "acme", header(messages[0], "ce_tenantid"))
	assert.Empty(t, header(messages[1], "ce_tenantid"))
	assert.Equal(t, "1", header(messages[0], "ce_id"))
	assert.Equal(t, "1", header(messages[2], "ce_id"), "ids are unique within their source only")
	r.verify("--strict").clean(t)
	p.metric(r.address, `streamer_rows_read_total{table="stock.Events"}`)
	assert.Equal(t, 0, p.stop())

	preview := func() string {
		output, err := exec.CommandContext(t.Context(), binary, slices.Concat([]string{"preview"}, r.arguments())...).Output()
		require.NoError(t, err)
		return string(output)
	}
	r.both(rounds)
	waiting := preview()
	assert.Equal(t, 3, strings.Count(waiting, "\n"), waiting)
	for _, source := range []string{"/sales", "/stock", "/returns"} {
		assert.Contains(t, waiting, `"`+source+`"`)
	}
}

// A row that can never be published is what its own table's policy makes of it.
func TestPoisonOfOneOfSeveralTables(t *testing.T) {
	t.Parallel()
	r := newTablesRig(t, withConfig("poison.topic=letters-of-several-tables"))
	output, err := exec.CommandContext(t.Context(), binary, append([]string{"setup"}, r.arguments()...)...).CombinedOutput()
	require.NoError(t, err, string(output))
	p := r.startReady()
	r.exec(`insert into stock."Events" (entity, entity_id, kind, body) values ('order', null, 'reserved', '{}')`)
	r.both(1)
	r.await(p, "order", 3)
	r.verify("--strict").clean(t)
	letters, err := r.kafka.Consume(t.Context(), "letters-of-several-tables")
	require.NoError(t, err)
	require.Len(t, letters, 1)
	assert.Equal(t, "stock.Events", header(letters[0], "streamer-table"))
	assert.Equal(t, "/stock", header(letters[0], "streamer-source"))
	r.exec(`insert into sales.outbox (aggregatetype, aggregateid, type, payload) values ('order', null, 'placed', '{}')`)
	assert.Equal(t, 3, p.code(), "the other table stops")
}

// A gap in one table's membership names that table.
func TestOneOfSeveralTablesLeavesThePublication(t *testing.T) {
	t.Parallel()
	r := newTablesRig(t)
	p := r.startReady()
	r.both(1)
	r.await(p, "order", 3)
	r.exec(`alter publication streamer drop table stock.returns`)
	assert.Equal(t, 3, p.code())
	p.logged(`does not contain table stock.returns`)
	r.exec(`alter publication streamer add table stock.returns`)
	p = r.start()
	assert.Equal(t, 3, p.code())
	p.logged("table stock.returns may have been out of publication")
	assert.NotContains(t, p.log.String(), "table sales.outbox may have been out")
}

// A table is published again by itself, or all of them.
func TestReplayOfSeveralTables(t *testing.T) {
	t.Parallel()
	r := newTablesRig(t)
	p := r.startReady()
	r.both(1)
	r.both(2)
	r.await(p, "order", 6)
	r.confirmed(p)
	replay := func(arguments ...string) string {
		output, err := exec.CommandContext(t.Context(), binary,
			slices.Concat([]string{"replay", "--from-table"}, r.arguments(), arguments)...).CombinedOutput()
		require.NoError(t, err, string(output))
		return string(output)
	}
	replay("--table", "stock.Events", "--order-by", "no")
	messages := r.await(p, "order", 8)
	assert.Equal(t, []string{"/stock", "/stock"}, sources(messages[6:]))
	assert.Equal(t, []string{"1", "2"}, ids(messages[6:]))
	output, err := exec.CommandContext(t.Context(), binary,
		slices.Concat([]string{"replay", "--from-table", "--order-by", "no", "--table", "sales.letters"}, r.arguments())...).CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(output), "name one of sales.outbox, stock.Events, stock.returns")
}
