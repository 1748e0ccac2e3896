package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/patterns/outbox"
	"github.com/outboxstream/streamer/examples/patterns/relay"
	"github.com/outboxstream/streamer/internal/testserver"
)

// slowCommit makes commits of the relay's inbox take long, and gives them up when
// the relay dies, so that kills fall between the other broker's confirmation and the
// commit: there, and only there, an event is published again.
const slowCommit = `
	create function linger() returns trigger language plpgsql as $$ begin perform pg_sleep(0.02); return null; end $$;
	create constraint trigger linger after insert on inbox.claim deferrable initially deferred
		for each row execute function linger();
	do $$ begin execute format('alter database %I set client_connection_check_interval = ''5ms''', current_database()); end $$`

func TestRelay(t *testing.T) {
	t.Parallel()
	const topic = "relay.order"
	s := newStage(t, "relay")
	rabbit, jets := s.startRabbitMQ(), s.startNATS()
	stream := s.createStream(jets)
	n := load(400)
	source, inbox, receiver := s.database(outbox.Schema, relay.SourceSchema), s.database(), s.database(relay.ReceiverSchema)
	inbox.exec(slowCommit)
	source.streamer("source", topic)
	inbox.service("relay-nats", "-server", jets)
	inbox.service("relay-rabbitmq", "-server", rabbit)
	receiver.service("relay-receiver", "-server", rabbit)
	s.rage(source.clients("relay-source", n, 60).complete)
	s.eventually("each event is published, relayed and received", func() bool {
		return source.published("outbox", topic) && inbox.handled("relay-nats", topic) && inbox.handled("relay-rabbitmq", topic) &&
			receiver.number("select count(*) from received") == int64(n)
	})
	inbox.nothingParked()

	names, arrivals := s.inJetStream(stream)
	assert.Len(t, arrivals, n, "each event is in JetStream once")
	assert.Len(t, names, n)
	want := source.texts("select order_id || ' ' || number from step order by order_id collate \"C\", number")
	slices.SortStableFunc(arrivals, func(a, b arrival) int { return strings.Compare(a.order, b.order) })
	var got []string
	for _, a := range arrivals {
		got = append(got, fmt.Sprintf("%s %d", a.order, a.step))
	}
	assert.Equal(t, want, got, "each key is in order in JetStream")
	assert.Equal(t, want, receiver.texts("select order_id || ' ' || step from arrival order by order_id collate \"C\", number"),
		"each event has had its effect once behind RabbitMQ, and each key is in order")
	t.Logf("%d events, %d kills; JetStream recognized %d repeats, the receiver %d", n, s.kills(),
		s.said("relay-nats", "JetStream has had this event"), receiver.number("select sum(repeats) from received"))
}

type arrival struct {
	order string
	step  int64
}

// inJetStream reads everything, in the order of the stream.
func (s *stage) inJetStream(stream jetstream.Stream) (names map[string]bool, all []arrival) {
	s.Helper()
	info, err := stream.Info(s.Context())
	require.NoError(s, err)
	reader, err := stream.OrderedConsumer(s.Context(), jetstream.OrderedConsumerConfig{})
	require.NoError(s, err)
	names = map[string]bool{}
	for range info.State.Msgs {
		message, err := reader.Next(jetstream.FetchMaxWait(10 * time.Second))
		require.NoError(s, err)
		names[message.Headers().Get("Nats-Msg-Id")] = true
		var step struct{ Number int64 }
		require.NoError(s, json.Unmarshal(message.Data(), &step))
		order := message.Headers().Get("ce-subject")
		assert.Equal(s, "orders."+order, message.Subject())
		all = append(all, arrival{order, step.Number})
	}
	return names, all
}

func (s *stage) createStream(url string) jetstream.Stream {
	s.Helper()
	connection, err := nats.Connect(url)
	require.NoError(s, err)
	s.Cleanup(connection.Close)
	client, err := jetstream.New(connection)
	require.NoError(s, err)
	require.NoError(s, relay.CreateStream(s.Context(), client))
	stream, err := client.Stream(s.Context(), relay.Stream)
	require.NoError(s, err)
	return stream
}

// startNATS starts a server in this process.
func (s *stage) startNATS() string {
	s.Helper()
	ports, err := testserver.FreePorts(1)
	require.NoError(s, err)
	nats, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: ports[0], JetStream: true, StoreDir: s.folder, NoLog: true, NoSigs: true,
	})
	require.NoError(s, err)
	go nats.Start()
	s.Cleanup(func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	})
	require.True(s, nats.ReadyForConnections(20*time.Second), "NATS is ready")
	return nats.ClientURL()
}
