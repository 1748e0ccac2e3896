package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// Brokers close connections that are idle. What comes next goes through a new
// connection: the renewal of the fence first, then an event. Neither is an error
// or warned about, and nothing is repeated.
func TestConnectionsThatTheBrokerClosesAreNoError(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const (
		closed = 35 * time.Second             // by the broker; more than router.idleFrom
		expiry = 3 * (closed + closed/2)      // of which the fence is renewed after a third
		soon   = closed + expiry/3 + patience // by when either has happened
	)
	settings := kafkatest.ForgetfulSettings(expiry)
	settings["connections.max.idle.ms"] = strconv.FormatInt(closed.Milliseconds(), 10)
	cluster, proxy := behindProxy(t, kafkatest.Options{Settings: settings})
	// Checkpoints in Kafka would keep the connection in use.
	r := newRig(t, outboxTable, withKafka(cluster), withStore("file"), withConfig("kafka.brokers="+proxy.Address()))
	p := r.startReady()
	idle := func() {
		t.Helper()
		require.Eventually(t, func() bool { return !proxy.Connected() }, soon, 50*time.Millisecond, "the broker closes what is idle")
	}
	r.numbered("o1", 1)
	r.published(p, "o1", 1)

	idle()
	before := proxy.Accepted()
	require.Eventually(t, func() bool { return proxy.Accepted() > before }, soon, 50*time.Millisecond, "the fence is renewed")
	idle()
	r.numbered("o1", 2)
	r.published(p, "o1", 1, 2)
	r.confirmed(p)

	errors, counted := metric(t, r.address, fmt.Sprintf("streamer_produce_errors_total{topic=%q}", r.topic("order")))
	assert.True(t, counted)
	assert.Zero(t, errors)
	assert.Equal(t, 0, p.stop())
	assert.NotContains(t, p.log.String(), "level=WARN")
	assert.NotContains(t, p.log.String(), "level=ERROR")
	messages := r.records("order")
	require.Len(t, messages, 2, "nothing is repeated")
	assert.Greater(t, messages[1].Offset-messages[0].Offset, int64(1), "the renewed fence is between them")
}
