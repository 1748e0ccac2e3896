package languages

import (
	"fmt"
	"os"
	"testing"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

func TestMain(m *testing.M) {
	os.Exit(testserver.Main(m, pgtest.CloseShared, func() { broker.Close(closeBroker) }))
}

var broker testserver.Shared[*kafkatest.Cluster]

// sharedKafka returns the one broker of all tests here. It lets a group notice
// soon that an instance was killed.
func sharedKafka(t *testing.T) *kafkatest.Cluster {
	t.Helper()
	cluster, err := broker.Get(func() (*kafkatest.Cluster, error) {
		return kafkatest.Start(t.Context(), kafkatest.Options{
			Settings: map[string]string{"group.min.session.timeout.ms": "1000"},
			Progress: func(line string) { fmt.Println("kafkatest:", line) },
		})
	})
	testserver.Require(t, err)
	return cluster
}

func closeBroker(c *kafkatest.Cluster) {
	if err := c.Close(); err != nil {
		fmt.Println(err)
	}
}
