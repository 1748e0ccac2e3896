package e2e

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// metric returns the value of a metric without labels, and whether it exists.
func metric(t *testing.T, address, name string) (value float64, there bool) {
	t.Helper()
	response, err := get(t, "http://"+address+"/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			value, err := strconv.ParseFloat(text, 64)
			require.NoError(t, err)
			return value, true
		}
	}
	return 0, false
}

// The lag in seconds is true while nothing happens, while Kafka does not answer
// and while the server is away. An instance on standby has no lag.
func TestLagInSeconds(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	cluster, server := kafkatest.New(t, kafkatest.Options{}), pgtest.New(t, pgtest.Options{})
	r := newRig(t, outboxTable, withKafka(cluster), withServer(server)).withPassword()
	p := r.startReady()
	lag := func(what string, holds func(seconds float64) bool) {
		t.Helper()
		p.eventually(what, func() bool {
			seconds, known := metric(t, r.address, "streamer_lag_seconds")
			return known && holds(seconds)
		})
	}
	none := func(seconds float64) bool { return seconds == 0 }
	r.numbered("o1", 1, 2)
	r.published(p, "o1", 1, 2)
	lag("nothing is waiting", none)

	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	second := r.start("http.listen=" + address)
	second.standsBy(address, r.slot)
	_, known := metric(t, address, "streamer_lag_seconds")
	assert.False(t, known, "it stands by")
	assert.Equal(t, 0, second.stop())

	pause(t, cluster)
	r.numbered("o1", 3)
	lag("Kafka does not answer", func(seconds float64) bool { return seconds > 2 })
	require.NoError(t, cluster.ResumeBroker(0))
	lag("it answers again", none)

	require.NoError(t, server.Stop())
	lag("the server is away", func(seconds float64) bool { return seconds > 10 })
	require.NoError(t, server.StartAgain(t.Context()))
	lag("it is back", none)
	r.published(p, "o1", 1, 2, 3)
	assert.Equal(t, 0, p.stop())
}

// A row that waits for its topic is late, although nothing is in flight.
func TestLagOfARowThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable, withConfig("kafka.topics.create=false", "kafka.unknown_topic_grace=30s"))
	p := r.startReady()
	r.confirmed(p)
	r.numbered("o1", 1)
	p.eventually("the lag is that of the row", func() bool {
		seconds, known := metric(t, r.address, "streamer_lag_seconds")
		return known && seconds > 0 && seconds < 6
	})
}
