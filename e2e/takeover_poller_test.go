package e2e

import (
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const polledTable = `create table outbox (
	no bigint generated always as identity,
	id uuid primary key default gen_random_uuid(),
	aggregatetype text, aggregateid text, type text, payload jsonb, processed_at timestamptz)`

// newPolled is an outbox from which a poller has published the first rows, and
// marked all but the last of them.
func newPolled(t *testing.T, published int, options ...option) *taken {
	t.Helper()
	r := &taken{rig: newRig(t, polledTable, append(options, withConfig("kafka.topics.partitions=3",
		"snapshot.mode=initial", "snapshot.order_by=no", "snapshot.where=processed_at is null"))...)}
	require.NoError(t, r.kafka.CreateTopic(t.Context(), r.topic("order"), 3, nil))
	for n := range 2 * published {
		r.ids = append(r.ids, r.insert("order", fmt.Sprintf("o%d", n%keysTaken), "placed", fmt.Sprintf(`{"n": %d}`, n)))
		if n >= published {
			continue
		}
		r.put(r.byPoller(n))
		if n < published-1 { // the last one was published, and then it crashed
			r.exec("update outbox set processed_at = now() where id = $1", r.ids[n])
		}
	}
	return r
}

func (r *taken) byPoller(n int) *sarama.ProducerMessage {
	m := r.byDebezium(n)
	m.Headers = []sarama.RecordHeader{{Key: []byte("event-id"), Value: []byte(r.ids[n])}}
	return m
}

func (r *taken) slotAgain() {
	r.exec("select pg_drop_replication_slot($1)", r.slot)
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
}

// What a poller has published, marked or not, is not published again. What it has
// not is, in order, with what was written meanwhile.
func TestTakeOverFromPoller(t *testing.T) {
	t.Parallel()
	for name, waiting := range map[string]int{"with rows in the slot": 20, "with an idle slot": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPolled(t, 20)
			r.slotAgain()
			for range waiting {
				n := len(r.ids)
				r.ids = append(r.ids, r.insert("order", fmt.Sprintf("o%d", n%keysTaken), "placed", fmt.Sprintf(`{"n": %d}`, n)))
			}
			command := []string{"take-over", "poller", "--id-header=event-id", "--wait=0s"}
			output, code := r.command(append(command, "--dry-run")...)
			require.Zero(t, code, output)
			assert.Len(t, r.records("order"), 20)
			for range 2 {
				output, code = r.command(command...)
				require.Zero(t, code, output)
				r.eachOnce()
			}
			p := r.startReady()
			r.ids = append(r.ids, r.insert("order", "o0", "placed", `{}`))
			r.await(p, "order", len(r.ids))
			r.eachOnce()
		})
	}
}

// A take-over from a poller is refused while it is unclear which rows are
// published.
func TestTakeOverFromPollerRefuses(t *testing.T) {
	t.Parallel()
	r := newPolled(t, 10) // the slot is older than what the poller did
	output, code := r.command("take-over", "poller", "--id-header=other", "--wait=0s")
	assert.Equal(t, 3, code, output)
	assert.Contains(t, output, "create the slot again")
	assert.Len(t, r.records("order"), 10)

	r.lines = append(r.lines, "snapshot.where=")
	output, code = r.command("take-over", "poller", "--wait=0s")
	assert.Equal(t, 2, code, output)
	assert.Contains(t, output, "processed_at IS NULL")
}

// A first start that would publish what a poller has published refuses.
func TestSnapshotAfterPoller(t *testing.T) {
	t.Parallel()
	r := newPolled(t, 10, withConfig("cloudevents.source=/shop"))
	r.slotAgain()
	r.put(cloudEventOf(r.rig, r.ids[12])) // as one that writes CloudEvents, and has not marked it
	p := r.start()
	p.refused(exitRefused, r.ids[12], "from before slot", "take-over poller")
	output, code := r.command("take-over", "poller", "--wait=0s", "--id-header=event-id")
	require.Zero(t, code, output)
}
