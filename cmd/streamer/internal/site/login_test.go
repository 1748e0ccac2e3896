package site

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/awstest"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// A connection to MSK is authenticated again, with a new token, before its
// session ends.
func TestMSK(t *testing.T) { //nolint:paralleltest // it sets environment variables
	cloud := awstest.New(t)
	cloud.PodIdentity(t)
	cluster := fake.Start(t, kfake.NumBrokers(1))
	const session = time.Second
	msk := cloud.MSK(cluster, session)
	c := configured(t, "kafka.brokers="+strings.Join(cluster.Brokers(), ","), "kafka.sasl.mechanism=AWS_MSK_IAM",
		"kafka.sasl.allow_plaintext=true", "aws.region="+awstest.Region)
	client, err := ConnectKafka(t.Context(), c)
	require.NoError(t, err)
	defer client.Close()
	connected := len(msk.Logins())
	require.NotZero(t, connected)
	require.Eventually(t, func() bool {
		_, err := client.Topics("")
		return assert.NoError(t, err) && len(msk.Logins()) >= connected+3
	}, time.Minute, 20*time.Millisecond)
	assert.Equal(t, 1, cloud.Asked("container"), "the credentials are valid for longer")

	cloud.Shift(16 * time.Minute)
	_, err = ConnectKafka(t.Context(), c)
	require.ErrorContains(t, err, "Access denied")
	assert.Contains(t, failure.Fix(err), "kafka-cluster:Connect")
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	for _, secret := range cloud.Secrets() {
		assert.NotContains(t, failure.Describe(err), secret)
	}
}
