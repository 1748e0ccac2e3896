package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// The streamer moves to another Kafka cluster and back while rows are written.
// Each event is in one of the two.
func TestMoveToAnotherKafka(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	for _, store := range []string{"kafka", "postgres", "file"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			moveKafka(t, store)
		})
	}
}

func moveKafka(t *testing.T, store string) {
	t.Helper()
	const third = 2500
	before, after := kafkatest.Shared(t), kafkatest.New(t, kafkatest.Options{})
	r := newRig(t, datedTable, withKafka(before), withStore(store))
	page := r.follow("move-kafka.md", "new.example.com:9092", after.Brokers()[0], "outbox.event.order", r.topic("order"))
	p := r.startReady()
	some := func() { p.eventually("some have arrived", func() bool { return len(r.records("order")) > third/10 }) }
	wait := r.load(third)
	some()

	page.section("## Move").does("streamer setup")
	require.Zero(t, p.stop())
	assert.Contains(t, page.does("streamer verify"), "findings   none")
	page.take("yaml", "brokers")
	left := r.confirmedAt()
	r.kafka = after
	p = r.startReady()
	started := time.Now()
	if store == "kafka" {
		p.logged("first start of this slot")
	} else {
		p.logged("Kafka has lost what was published")
	}
	wait()
	wait = r.loadBetween(third, 2*third)
	some()
	page.requireMoved(left, started)

	require.Zero(t, p.stop())
	moved := r.records("order")
	r.kafka = before
	page.section("## Go back")
	if store == "kafka" {
		r.start().refused(exitRefused, "after the checkpoint", "streamer checkpoint set")
	}
	page.does("streamer checkpoint set")
	p = r.startReady()
	wait()
	r.loadBetween(2*third, 3*third)()
	all := r.await(p, "order", 3*third-len(moved))
	requireOnceIn(t, 3*third, all, moved)
	assert.Zero(t, p.stop())
}

// requireMoved follows the page's checks of the new cluster, which can be limited by
// the time of the move, but not by the position where the old cluster's events end.
func (p *procedure) requireMoved(left string, started time.Time) {
	p.t.Helper()
	p.section("## Check").does("streamer tail")
	since := started.UTC().Format(time.RFC3339Nano)
	output, code := p.shell(strings.ReplaceAll(p.take("sh", "streamer verify"), "2026-11-30T14:30:00Z", since))
	require.Zero(p.t, code, output)
	assert.Contains(p.t, output, "findings   none")
	assert.Contains(p.t, strings.Join(p.verify("--from", left, "--time-column", "created_at").summary.Notes, "\n"), "cannot be dated")
}

// confirmedAt is the slot's confirmed position.
func (r *rig) confirmedAt() (lsn string) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "select confirmed_flush_lsn::text "+
		"from pg_replication_slots where slot_name = $1", r.slot).Scan(&lsn))
	return lsn
}

// position matches an LSN as commands print it.
var position = regexp.MustCompile(`[0-9A-F]+/[0-9A-F]+`)

// requireOnceIn requires every number exactly once in one of several places, in
// order for each key of a place.
func requireOnceIn(t *testing.T, total int, places ...[]*sarama.ConsumerMessage) {
	t.Helper()
	once := map[int]bool{}
	for _, messages := range places {
		assert.NotEmpty(t, messages)
		for key, numbers := range byKey(t, messages) {
			assert.IsIncreasing(t, numbers, key)
			for _, n := range numbers {
				assert.False(t, once[n], "number %d again", n)
				once[n] = true
			}
		}
	}
	assert.Len(t, once, total)
}
