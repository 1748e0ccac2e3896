package e2e

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/projection"
)

func TestProjection(t *testing.T) {
	t.Parallel()
	const live, past = "projection.customer", "projection-rebuild.customer"
	s := newStage(t, "projection")
	shop, reports := s.database(outbox.Schema, projection.Schema), s.database()
	n := load(900)

	shop.streamer("shop", live)
	s.eventually("the WAL is kept from now on", func() bool {
		return shop.number("select count(*) from pg_replication_slots where slot_name = 'projection_shop_rewind'") == 1
	})
	reports.service("projection-projector")
	clients := shop.clients("projection-shop", n, 90)
	s.rage(func() bool { return shop.number("select count(*) from movement") > int64(n)/3 })

	deleted := reports.forget("statements", live)
	t.Logf("%d records deleted from Kafka", deleted)
	require.Positive(t, deleted)
	// A replay ends at the stream's checkpoint, and what follows has to be in Kafka.
	here := shop.texts("select pg_current_wal_lsn()::text")[0]
	s.eventually("the checkpoint is above what was deleted", func() bool {
		return shop.number(`select count(*) from pg_replication_slots
			where slot_name = 'projection_shop' and confirmed_flush_lsn >= $1::pg_lsn`, here) == 1
	})
	rebuild := reports.service("projection-projector", "-name", "statements-2", "-schema", "rebuilt", "-topic", past, "-instance", "2")
	replay := s.run("replay", func() *exec.Cmd {
		return s.command("streamer", append(shop.environment("projection_shop"), "STREAMER_KAFKA_TOPIC=projection-rebuild.{aggregate_type}"),
			"replay", "--from", "beginning", "--rate", "500")
	})
	replay.mayComplete = true
	s.rage(func() bool { return replay.complete() && reports.handled("statements-2", past) })
	again := len(s.records(past))
	t.Logf("%d of %d events replayed", again, n)
	require.Greater(t, again, n/4)

	// From here on the new read model lives on what the old one lives on.
	rebuild.retire()
	reports.service("projection-projector", "-name", "statements-2", "-schema", "rebuilt", "-instance", "2")
	s.rage(clients.complete)

	s.eventually("all events are handled", func() bool {
		return reports.number("select sum(events) from live.statement") == int64(n) &&
			reports.handled("statements", live) && reports.handled("statements-2", live)
	})
	reports.nothingParked()
	one := reports.texts("select s::text from live.statement s order by customer")
	assert.Len(t, one, 13)
	assert.Equal(t, one, reports.texts("select s::text from rebuilt.statement s order by customer"),
		"the rebuilt read model is the same as the live one")
	assert.Equal(t,
		shop.texts(`select customer || ' ' || count(*) || ' ' || coalesce(sum(amount) filter (where item is not null), 0)
			|| ' ' || coalesce(sum(amount) filter (where item is null), 0) from movement group by customer order by customer`),
		reports.texts("select customer || ' ' || events || ' ' || spent || ' ' || paid from live.statement order by customer"),
		"and both are true")
	t.Logf("%d kills", s.kills())
}
