package kafka

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// A checkpoint topic that can never be created is refused, with what it has to
// be. One that exists is enough, whatever one broker says.
func TestCheckpointTopicThatCannotBeCreated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		option kfake.Opt
		code   *kerr.Error
		words  string
	}{
		"no such request":      {option: fake.Without(kmsg.CreateTopics), words: "brokers do not support CreateTopics"},
		"a policy":             {code: kerr.PolicyViolation, words: "policy"},
		"a setting":            {code: kerr.InvalidConfig, words: "onfiguration"},
		"a request of its own": {code: kerr.InvalidRequest, words: "equest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := []kfake.Opt{kfake.NumBrokers(1)}
			if test.option != nil {
				options = append(options, test.option)
			}
			cluster := fake.Start(t, options...)
			if test.code != nil {
				cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: test.code, Count: -1})
			}
			client := connect(t, clientConfig(cluster.Brokers()))
			_, err := NewCompactedTopic(client, "checkpoints").Ensure(t.Context(), 1)
			require.ErrorContains(t, err, test.words)
			require.ErrorContains(t, err, `checkpoint topic "checkpoints"`)
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
			assert.Contains(t, failure.Fix(err), "one partition and cleanup.policy=compact")

			require.NoError(t, cluster.CreateTopic("existing", 1, map[string]string{"cleanup.policy": "compact"}))
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "existing", Err: kerr.UnknownTopicOrPartition, Count: 1})
			created, err := NewCompactedTopic(client, "existing").Ensure(t.Context(), 1)
			require.NoError(t, err)
			assert.False(t, created)
		})
	}
}
