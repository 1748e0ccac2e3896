package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/consume/franzgroup"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// A group can assign partitions before the database has said which number the
// consumer has. With no number yet, events would be claimed for nobody, and handled
// again by whoever has it.
func TestPartitionsWaitForTheRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.exec("alter function inbox.register(text, text) rename to register_at_once")
	w.exec(`create function inbox.register(p_name text, p_group text) returns integer language plpgsql as $$
		begin
			perform pg_sleep(2);
			return inbox.register_at_once(p_name, p_group);
		end $$`)
	cluster := kafkatest.Shared(t)
	config := w.config()
	config.Topics = []string{cluster.NewTopic(t, 1, nil)}
	config.Group = config.Topics[0]
	consumer, err := consume.New(config, w.pgx())
	require.NoError(t, err)

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- franzgroup.Run(ctx, consumer, kgo.SeedBrokers(cluster.Brokers()...)) }()
	w.eventually("the partition is assigned", func() bool { return w.count("select count(*) from inbox.position") > 0 })
	w.eventually("the consumer is registered", func() bool { return w.count("select count(*) from inbox.consumer") > 0 })
	stop()
	require.NoError(t, <-ended)
	assert.Zero(t, w.count("select count(*) from inbox.position where consumer not in (select number from inbox.consumer)"),
		"positions of nobody")
}
