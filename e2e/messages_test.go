package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newMessagesRig has no outbox table: events are messages with the prefix
// orders.
func newMessagesRig(t *testing.T, options ...option) *rig {
	t.Helper()
	r := newRig(t, "", append([]option{
		withConfig("outbox.messages=orders", "postgres.publication=streamer", "kafka.topics.partitions=1", "poison.topic="+t.Name()),
	}, options...)...)
	output, code := r.command("setup", "--create-function")
	require.Zero(t, code, output)
	assert.Contains(t, output, "created  function public.emit_orders")
	assert.Contains(t, output, "nothing can be verified against them")
	return r
}

// emit writes messages in one transaction each.
func (r *rig) emit(first, end int) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`do $$ begin for n in %d..%d loop
		perform emit_orders('order', 'o' || n %% 3, 'placed', jsonb_build_object('n', n), '{"tenantid": "acme"}');
		commit; end loop; end $$`, first, end-1))
}

func (p *process) metric(address, line string) {
	p.t.Helper()
	p.eventually("the metrics have "+line, func() bool {
		response, err := get(p.t, "http://"+address+"/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && strings.Contains(string(text), line)
	})
}

// Events that are only in the WAL are published like rows, whatever happens to
// the streamer.
func TestMessages(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t)
	p := r.startReady()
	const rounds, each = 5, 20
	for n := range rounds {
		r.emit(n*each, (n+1)*each)
		if n%2 == 1 {
			p.kill()
			p = r.startReady()
		}
	}
	messages := r.await(p, "order", rounds*each)
	var sequences, values []string
	for n, m := range messages {
		sequences, values = append(sequences, header(m, "ce_sequence")), append(values, string(m.Value))
		assert.JSONEq(t, fmt.Sprintf(`{"n": %d}`, n), string(m.Value))
	}
	assert.IsIncreasing(t, sequences)
	first := messages[1]
	assert.Equal(t, "o1", string(first.Key))
	assert.Equal(t, "o1", header(first, "ce_subject"))
	assert.Equal(t, "placed", header(first, "ce_type"))
	assert.Equal(t, "acme", header(first, "ce_tenantid"))
	assert.Regexp(t, "^/outbox/.*/orders$", header(first, "ce_source"))
	assert.Equal(t, "application/json", header(first, "content-type"))
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(values))), rounds*each)
	r.emit(1000, 1001)
	r.await(p, "order", rounds*each+1)
	p.metric(r.address, `streamer_rows_read_total{table="messages:orders"}`)
	found, code := r.doctor()
	assert.Zero(t, code, found)
	output, _ := r.command("doctor")
	assert.Contains(t, output, `with prefix "orders"`)
	assert.Equal(t, 0, p.stop())

	r.emit(1001, 1003)
	output, code = r.command("preview")
	require.Zero(t, code, output)
	assert.Equal(t, 2, strings.Count(output, "\n"), output)
	assert.Contains(t, output, `"tenantid":"acme"`)
	for _, command := range [][]string{{"verify"}, {"replay", "--missing"}, {"replay", "--from-table", "--order-by", "x"}} {
		output, code = r.command(command...)
		assert.Equal(t, 2, code, output)
		assert.Contains(t, output, "all events are messages")
	}
}

// The function refuses, in the writer's own transaction, what could never be
// published.
func TestFunctionRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t)
	for name, c := range map[string]struct{ arguments, says string }{
		"no aggregate type": {`null, 'a', 't'`, "aggregatetype"},
		"blank id":          {`'o', 'a', 't', id => ' '`, "its id"},
		"no subject":        {`'o', null, 't'`, "subject"},
		"own attribute":     {`'o', 'a', 't', attributes => '{"sequence": "1"}'`, "sequence"},
		"name":              {`'o', 'a', 't', attributes => '{"tenant_id": "1"}'`, "tenant_id"},
		"object":            {`'o', 'a', 't', attributes => '{"tenant": {}}'`, "tenant"},
		"fraction":          {`'o', 'a', 't', attributes => '{"tenant": 1.5}'`, "tenant"},
	} {
		_, err := r.db.Exec(t.Context(), "select emit_orders("+c.arguments+")")
		require.Error(t, err, name)
		assert.Contains(t, err.Error(), c.says, name)
	}
	r.exec(`select emit_orders('order', 'a', 't', '[{"x": null}]', '{"source": "/own", "n": -5, "yes": true, "partitionkey": "k"}', 'own-id')`)
	p := r.startReady()
	m := r.await(p, "order", 1)[0]
	assert.Equal(t, "own-id", header(m, "ce_id"))
	assert.Equal(t, "/own", header(m, "ce_source"))
	assert.Equal(t, "-5", header(m, "ce_n"))
	assert.Equal(t, "true", header(m, "ce_yes"))
	assert.Equal(t, "k", string(m.Key))
	assert.JSONEq(t, `[{"x": null}]`, string(m.Value))
}

// Rows and messages of a transaction are published in the order in which they
// were written.
func TestMessagesBesideATable(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("kafka.topics.partitions=1"))
	p := r.startReady()
	r.insert("order", "o1", "placed", `{"n": -1}`)
	r.await(p, "order", 1)
	require.Equal(t, 0, p.stop())
	r.lines = append(r.lines, "outboxes=[{table: outbox}, {messages: orders}, {messages: other, defaults: {aggregate_type: order}}]")
	output, code := r.command("setup", "--create-function")
	require.Zero(t, code, output)
	p = r.startReady()
	const rounds = 30
	for n := range rounds {
		r.exec(fmt.Sprintf(`begin; select emit_orders('order', 'o1', 'message', '{"n": %[1]d}');
			insert into outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o1', 'row', '{"n": %[1]d}');
			savepoint s; select emit_orders('order', 'o1', 'undone', '{}'); rollback to s;
			select pg_logical_emit_message(true, 'other', '{"specversion":"1.0","id":"%[1]d","source":"/s","type":"other","subject":"o1"}');
			select pg_logical_emit_message(true, 'foreign', 'x');
			commit; begin; select emit_orders('order', 'o1', 'undone', '{}'); rollback`, n))
		if n%10 == 9 {
			p.kill()
			p = r.startReady()
		}
	}
	messages := r.await(p, "order", 1+3*rounds)
	var types, sequences []string
	for _, m := range messages {
		types, sequences = append(types, header(m, "ce_type")), append(sequences, header(m, "ce_sequence"))
	}
	assert.Equal(t, append([]string{"placed"}, slices.Repeat([]string{"message", "row", "other"}, rounds)...), types)
	assert.IsIncreasing(t, sequences)
	audit := r.verify().clean(t)
	assert.EqualValues(t, 2*rounds, audit.summary.Unmatched, "messages have no row")
	assert.Contains(t, strings.Join(audit.summary.Notes, "\n"), `messages with prefix "orders" are not verified`)
}

// What is no CloudEvent is what the policy makes of it, and can be published
// once it is one.
func TestPoisonMessage(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t)
	p := r.startReady()
	r.emit(0, 1)
	r.exec(`select pg_logical_emit_message(true, 'orders', '{"specversion":"1.0","id":"7","source":"/s","type":"t","aggregatetype":"order"}')`)
	r.emit(1, 2)
	assert.Equal(t, 3, p.code())
	assert.Contains(t, p.log.String(), `member "subject": member is missing`)
	assert.Contains(t, p.log.String(), "outbox.defaults.aggregate_id")
	r.lines = append(r.lines, "poison.policy=dead-letter", "poison.topic="+r.letterTopic())
	output, code := r.command("setup")
	require.Zero(t, code, output)
	p = r.startReady()
	r.await(p, "order", 2)
	letters := r.awaitLetters(p, 1)
	output, code = r.command("dead-letters", "show", letters[0].ID)
	require.Zero(t, code, output)
	assert.Contains(t, output, "messages:orders")
	r.lines = append(r.lines, "outbox.defaults.aggregate_id=unknown")
	output, code = r.command("dead-letters", "retry", letters[0].ID, "--yes")
	require.Zero(t, code, output)
	late := r.await(p, "order", 3)[2]
	assert.Equal(t, "7", header(late, "ce_id"))
	assert.Equal(t, "unknown", string(late.Key))
}

// Messages outside of transactions, which a rollback does not undo, are not
// published, and are not passed over in silence. Those of others are nothing to
// the streamer, however large.
func TestMessagesOfOthers(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t, withConfig("outbox.max_row_bytes=128KiB"))
	p := r.startReady()
	r.emit(0, 1)
	r.exec(`select pg_logical_emit_message(false, 'orders', '{}')`)
	for _, transactional := range []string{"true", "false"} {
		r.exec("select pg_logical_emit_message(" + transactional + ", 'filler', repeat('x', 1 << 20))")
	}
	r.emit(1, 2)
	r.await(p, "order", 2)
	p.metric(r.address, "streamer_loose_messages_total 1")
	assert.Contains(t, p.log.String(), "messages outside of transactions are not published")
	assert.Equal(t, 1, strings.Count(p.log.String(), "messages outside of transactions"))
	r.exec(`select emit_orders('order', 'a', 't', to_jsonb(repeat('x', 1 << 20)))`)
	assert.Equal(t, 3, p.code())
	assert.Contains(t, p.log.String(), "outbox.max_row_bytes")
}

// The WAL is the only place from which messages can be published again.
func TestReplayOfMessages(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t, withConfig("rewind.keep=1h"))
	p := r.startReady()
	r.emit(0, 10)
	r.await(p, "order", 10)
	r.confirmed(p)
	output, code := r.command("replay", "--from", "beginning")
	require.Zero(t, code, output)
	again := r.await(p, "order", 20)
	for n := range 10 {
		assert.Equal(t, string(again[n].Value), string(again[n+10].Value))
		assert.Equal(t, header(again[n], "ce_sequence"), header(again[n+10], "ce_sequence"))
		assert.NotEmpty(t, header(again[n+10], "ce_replay"))
	}
}

// Without its publication the server can decode no change of any table, so it is
// missed where messages are all that is read, too.
func TestMessagesWithoutPublication(t *testing.T) {
	t.Parallel()
	r := newMessagesRig(t)
	r.exec("drop publication streamer")
	for _, command := range []string{"run", "preview", "doctor"} {
		output, code := r.command(command)
		assert.Equal(t, 3, code, output)
		assert.Contains(t, output, `publication "streamer" does not exist`)
	}
}
