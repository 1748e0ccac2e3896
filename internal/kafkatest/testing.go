package kafkatest

import (
	"fmt"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outboxstream/streamer/internal/testserver"
)

var (
	shared testserver.Shared[*Cluster]
	topics atomic.Int64 // number of topic names handed out
)

// Main runs the tests of a package that uses [Shared], stops the shared cluster
// and returns the exit code. A package that uses other servers as well calls
// [testserver.Main] with the CloseShared of each.
func Main(m *testing.M) int {
	return testserver.Main(m, CloseShared)
}

// CloseShared ends the cluster of [Shared] if it was started.
func CloseShared() {
	shared.Close(func(c *Cluster) {
		if err := c.Close(); err != nil {
			fmt.Println(err)
		}
	})
}

// Shared returns the single cluster that all tests of this process share: one
// broker without authentication, or the one of STREAMER_TEST_KAFKA_BROKERS.
// Without Kafka the test is skipped, or fails where CI is true.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	cluster, err := shared.Get(func() (*Cluster, error) {
		return Start(t.Context(), Options{Progress: printProgress})
	})
	testserver.Require(t, err)
	return cluster
}

// New starts a cluster for this test, never a configured one, and closes it at
// the end of the test. The logs of the brokers are shown if the test fails.
func New(t testing.TB, options Options) *Cluster {
	t.Helper()
	if options.Progress == nil {
		options.Progress = printProgress
	}
	cluster, err := startOwn(t.Context(), options)
	testserver.Require(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for i, b := range cluster.brokers {
				t.Logf("log of broker %d ends with:\n%s", i, b.logTail())
			}
		}
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// printProgress shows a download at once; the log of a test would show it only
// at the end.
func printProgress(line string) { fmt.Println("kafkatest:", line) }

// NewTopic creates a topic for this test and returns its name. The topic is
// deleted at the end of the test.
func (c *Cluster) NewTopic(t testing.TB, partitions int, config map[string]string) string {
	t.Helper()
	name := TopicName(t)
	if err := c.CreateTopic(t.Context(), name, partitions, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.configured == nil {
			return // deleted with the cluster, which may be stopped by now
		}
		admin, err := c.Admin()
		if err != nil {
			t.Errorf("delete topic %q: %v", name, err)
			return
		}
		defer admin.Close()
		if err := admin.DeleteTopic(name); err != nil {
			t.Errorf("delete topic %q: %v", name, err)
		}
	})
	return name
}

var notInTopicNames = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// TopicName returns a topic name that contains the test's name. No other test
// gets it, not even in another run against the same cluster.
func TopicName(t testing.TB) string {
	t.Helper()
	name := notInTopicNames.ReplaceAllString(t.Name(), "-")
	return fmt.Sprintf("%.150s-%d-%d", name, time.Now().UnixNano(), topics.Add(1))
}
