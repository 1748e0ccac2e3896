package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// placedColumns are what a connector has placed as headers, besides the type.
const placedColumns = `alter table outbox add column tenant text, add column attempt int, add column at timestamptz,
	add column changed timestamp, add column no bigserial`

// ownHeaders are the headers that are neither of CloudEvents nor the streamer's.
func ownHeaders(m *sarama.ConsumerMessage) (own []string) {
	for _, h := range m.Headers {
		name := string(h.Key)
		if strings.HasPrefix(name, "ce_") || strings.HasPrefix(name, "streamer-") || name == "content-type" {
			continue
		}
		if h.Value == nil {
			own = append(own, name)
		} else {
			own = append(own, fmt.Sprintf("%s=%s", name, h.Value))
		}
	}
	return own
}

// Consumers of Debezium read what its outbox event router would have written,
// also of a dead letter that is retried and of a row that is published again.
func TestRecordsForConsumersOfDebezium(t *testing.T) {
	t.Parallel()
	for flavour, want := range map[string][2][]string{
		"debezium-connect": {
			{"at=2024-01-02T03:04:05.600000Z", "attempt=7", "changed=1704164645600000", "eventType=placed", `tenant=a "b" ü 😀`},
			{"at", "attempt", "changed", "eventType=removed", "tenant"},
		},
		"debezium-server": {
			{
				`at="2024-01-02T03:04:05.600000Z"`, "attempt=7", "changed=1704164645600000", `eventType="placed"`,
				`tenant="a \"b\" ü \uD83D\uDE00"`,
			},
			{"at=null", "attempt=null", "changed=null", `eventType="removed"`, "tenant=null"},
		},
	} {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			r := newLetterRig(t, "cloudevents.compatibility="+flavour, "outbox.null_payload=tombstone", "outbox.headers.eventType=type",
				"outbox.headers.tenant=tenant", "outbox.headers.attempt=attempt", "outbox.headers.at=at", "outbox.headers.changed=changed")
			r.exec(placedColumns)
			quoted := func(id string) string {
				if flavour == "debezium-server" {
					return `id="` + id + `"`
				}
				return "id=" + id
			}
			var ids [3]string
			for i, payload := range []string{`{"n": 1, "m": 2.50}`, "", `{"n": 3, "s": "` + strings.Repeat("x", 8000) + `"}`} {
				statement := `insert into outbox (aggregatetype, aggregateid, type, payload, tenant, attempt, at, changed) values ` +
					`('order', 'o1', 'placed', $1, 'a "b" ü 😀', 7, '2024-01-02 03:04:05.6+00', '2024-01-02 03:04:05.6') returning id`
				arguments := []any{payload}
				if payload == "" {
					statement, arguments = `insert into outbox (aggregatetype, aggregateid, type) values ('order', 'o1', 'removed') returning id`, nil
				}
				require.NoError(t, r.db.QueryRow(t.Context(), statement, arguments...).Scan(&ids[i]))
			}

			output, code := r.command("preview")
			require.Zero(t, code, output)
			assert.Contains(t, output, `"headers":[{"name":"id","value":`)
			assert.Contains(t, output, `{"name":"eventType","value":`)

			p := r.startReady()
			letters := r.awaitLetters(p, 1)
			messages := r.await(p, "order", 2)
			assert.Equal(t, "o1", string(messages[0].Key))
			assert.Equal(t, `{"m": 2.50, "n": 1}`, string(messages[0].Value))
			assert.Equal(t, append([]string{quoted(ids[0])}, want[0]...), ownHeaders(messages[0]))
			assert.Nil(t, messages[1].Value)
			assert.Equal(t, append([]string{quoted(ids[1])}, want[1]...), ownHeaders(messages[1]))
			assert.Equal(t, ids[0], header(messages[0], "ce_id"), "a CloudEvent all the same")

			r.setTopic("order", "max.message.bytes", "1000000")
			output, code = r.command("dead-letters", "retry", letters[0].ID, "--yes")
			require.Zero(t, code, output)
			late := r.await(p, "order", 3)[2]
			assert.Equal(t, append([]string{quoted(ids[2])}, want[0]...), ownHeaders(late))

			r.confirmed(p)
			output, code = r.command("replay", "--from-table", "--order-by", "no")
			require.Zero(t, code, output)
			for i, again := range r.await(p, "order", 6)[3:] {
				first := []*sarama.ConsumerMessage{messages[0], messages[1], late}[i]
				assert.Equal(t, first.Value, again.Value)
				assert.Equal(t, ownHeaders(first), ownHeaders(again))
			}
			output, code = r.command("verify")
			assert.Zero(t, code, output)
		})
	}
}

// A column whose values Debezium writes in another way is refused, and not
// approximated.
func TestHeadersThatDebeziumWritesOtherwise(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("cloudevents.compatibility=debezium-connect", "outbox.null_payload=tombstone",
		"outbox.headers.price=price"))
	r.exec("alter table outbox add column price numeric")
	r.start().refused(exitRefused, `column "price"`, "numeric", "leave it out of outbox.headers")
	p := r.startReady("cloudevents.compatibility=")
	r.exec("insert into outbox (aggregatetype, aggregateid, type, price) values ('order', 'o1', 't', 2.50)")
	assert.Equal(t, []string{"price=2.50"}, ownHeaders(r.await(p, "order", 1)[0]))
}

// Rows from before the stream are written as those of the stream, the ordering
// column among them.
func TestSnapshotForConsumersOfDebezium(t *testing.T) {
	t.Parallel()
	r := newSnapshotRig(t, 3, withConfig("cloudevents.compatibility=debezium-server", "outbox.null_payload=tombstone",
		"outbox.headers.eventType=type", "outbox.headers.at=created_at"))
	p := r.startReady()
	r.insert("order", "o1", "t", `{"n": 3}`)
	for _, m := range r.await(p, "order", 4) {
		own := ownHeaders(m)
		require.Len(t, own, 3)
		assert.Equal(t, `id="`+header(m, "ce_id")+`"`, own[0])
		assert.Regexp(t, `^at="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"$`, own[1])
		assert.Equal(t, `eventType="t"`, own[2])
	}
	r.confirmed(p)
	output, code := r.command("verify")
	assert.Zero(t, code, output)
}
