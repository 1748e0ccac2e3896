package kafka

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

func TestLacks(t *testing.T) {
	t.Parallel()
	transactions := []string{"AddPartitionsToTxn", "EndTxn"}
	for name, c := range map[string]struct {
		brokers                       kfake.Opt
		publishing, fencing, creating []string
	}{
		"new":                     {brokers: kfake.MaxVersions(kversion.Stable())},
		"oldest":                  {brokers: kfake.MaxVersions(kversion.V2_4_0())},
		"without message formats": {brokers: kfake.MaxVersions(kversion.V0_11_0())},
		"without idempotence": {
			brokers:    kfake.MaxVersions(kversion.V0_10_2()),
			publishing: []string{"Fetch 4", "InitProducerId", "Metadata 4", "Produce 3"},
			fencing:    []string{"AddPartitionsToTxn", "EndTxn", "FindCoordinator 1", "InitProducerId"},
		},
		"without transactions": {brokers: fake.Without(kmsg.AddPartitionsToTxn, kmsg.EndTxn), fencing: transactions},
		"without creation":     {brokers: fake.Without(kmsg.CreateTopics), creating: []string{"CreateTopics"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, clientConfig(fake.Start(t, kfake.NumBrokers(2), c.brokers).Brokers()))
			for task, want := range map[Task][]string{Publishing: c.publishing, Fencing: c.fencing, Creating: c.creating} {
				lacking, err := client.Lacks(task)
				require.NoError(t, err)
				assert.Equal(t, want, lacking)
			}
			assert.Equal(t, c.publishing == nil, client.CanPublish() == nil)
			assert.Equal(t, c.fencing == nil, client.CanFence() == nil)
		})
	}
}

// What one broker of several lacks is lacking, and what brokers that answer
// lack is known even while another does not answer.
func TestLacksWithBrokersThatDiffer(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(3))
	cluster.ControlKey(int16(kmsg.ApiVersions), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		switch cluster.CurrentNode() {
		case 0:
			return nil, errors.New("hung up"), true
		case 2:
			return &kmsg.ApiVersionsResponse{ErrorCode: kerr.UnknownServerError.Code}, nil, true
		case 1:
			response := request.ResponseKind().(*kmsg.ApiVersionsResponse)
			for _, key := range []int16{0, 1, 2, 3, 10, 18, 22, 24} {
				response.ApiKeys = append(response.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: 4})
			}
			return response, nil, true
		}
		return nil, nil, false
	})
	client := connect(t, clientConfig(cluster.Brokers()[1:2]))
	lacking, err := client.Lacks(Fencing)
	require.ErrorContains(t, err, "requests that broker")
	assert.Equal(t, []string{"EndTxn"}, lacking)
	require.ErrorIs(t, client.CanFence(), ErrUnsupported)
	require.NoError(t, client.CanPublish())
}

// Without transactions there is no taking over, and no waiting for it.
func TestTakeOverWithoutTransactions(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(2), fake.Without(kmsg.AddPartitionsToTxn, kmsg.EndTxn))
	client := connect(t, clientConfig(cluster.Brokers()))
	began := time.Now()
	_, err := client.TakeOver(t.Context(), "slot")
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "AddPartitionsToTxn, EndTxn")
	assert.Contains(t, failure.Fix(err), "kafka.resume")
	require.ErrorIs(t, client.Coordinated(t.Context(), "slot"), ErrUnsupported)
	_, err = client.Anonymous(t.Context())
	require.NoError(t, err)
	assert.Less(t, time.Since(began), 5*time.Second)
}

// Without InitProducerId nothing can be published that is neither repeated nor
// reordered.
func TestAnonymousWithoutProducerIDs(t *testing.T) {
	t.Parallel()
	client := connect(t, clientConfig(fake.Start(t, fake.Without(kmsg.InitProducerID)).Brokers()))
	_, unasked := client.Anonymous(t.Context())
	for _, err := range []error{client.CanPublish(), unasked} {
		require.Error(t, err)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
		assert.Contains(t, failure.Fix(err), "idempotent producers")
	}
	require.ErrorContains(t, client.CanPublish(), "InitProducerId")
	require.ErrorContains(t, unasked, "producer id")
}

// A broker may claim to know a request that it does not answer.
func TestRequestsThatBrokersOnlyClaimToKnow(t *testing.T) {
	t.Parallel()
	for what, key := range map[string]kmsg.Key{"add": kmsg.AddPartitionsToTxn, "end": kmsg.EndTxn, "take over": kmsg.InitProducerID} {
		for how, spoil := range map[string]func(kmsg.Request) (kmsg.Response, error, bool){
			"hangs up":    func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("hung up"), true },
			"unsupported": answering(kerr.UnsupportedVersion),
			"invalid":     answering(kerr.InvalidRequest),
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
				client := connect(t, clientConfig(cluster.Brokers()))
				cluster.ControlKey(int16(key), func(request kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					return spoil(request)
				})
				began := time.Now()
				owner, err := client.TakeOver(t.Context(), "slot")
				if err == nil {
					err = owner.Fence(t.Context(), partitionsOf("orders", 2))
				}
				require.ErrorIs(t, err, ErrUnsupported)
				assert.Equal(t, failure.Transient, failure.ClassOf(err), "the caller decides")
				assert.Less(t, time.Since(began), 15*time.Second)
				if key == kmsg.InitProducerID {
					_, err := client.Anonymous(t.Context())
					require.ErrorContains(t, err, "producer id")
					assert.Equal(t, failure.Refused, failure.ClassOf(err))
				}
			})
		}
	}
}

// answering answers the requests of a transaction with an error.
func answering(code *kerr.Error) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(request kmsg.Request) (kmsg.Response, error, bool) {
		switch r := request.(type) {
		case *kmsg.InitProducerIDRequest:
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ErrorCode = code.Code
			return response, nil, true
		case *kmsg.EndTxnRequest:
			response := r.ResponseKind().(*kmsg.EndTxnResponse)
			response.ErrorCode = code.Code
			return response, nil, true
		case *kmsg.AddPartitionsToTxnRequest:
			response := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
			for _, topic := range r.Topics {
				answer := kmsg.NewAddPartitionsToTxnResponseTopic()
				answer.Topic = topic.Topic
				for _, id := range topic.Partitions {
					part := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
					part.Partition, part.ErrorCode = id, code.Code
					answer.Partitions = append(answer.Partitions, part)
				}
				response.Topics = append(response.Topics, answer)
			}
			return response, nil, true
		}
		return nil, nil, false
	}
}

// A broker that stops closes connections as well, but not for ever.
func TestFenceWhileConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	owner := takeOver(t, cluster.Brokers(), "slot")
	cut := 0
	cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cut++
		return nil, errors.New("hung up"), cut <= 2*fewestHangUps
	})
	require.NoError(t, owner.Fence(t.Context(), partitionsOf("orders", 2)))
}

// A version that is set in the configuration limits no more than it has to.
func TestFenceWithTheOldestVersion(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	c := clientConfig(cluster.Brokers())
	c.Version = "2.4.0"
	client := connect(t, c)
	old, err := client.TakeOver(t.Context(), "slot")
	require.NoError(t, err)
	require.NoError(t, old.appended("orders", 0, 0))
	successor, err := client.TakeOver(t.Context(), "slot")
	require.NoError(t, err)
	require.NoError(t, successor.Fence(t.Context(), partitionsOf("orders", 3)))
	require.Error(t, old.appended("orders", 0, 1))
	_, err = client.Anonymous(t.Context())
	require.NoError(t, err)
}
