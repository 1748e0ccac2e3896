package kafka

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

func TestLacks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version *kversion.Versions
		lacking []string
	}{
		"new":    {kversion.Stable(), nil},
		"oldest": {kversion.V2_4_0(), nil},
		"without transactions": {kversion.V0_10_2(), []string{
			"AddPartitionsToTxn 0", "EndTxn 0", "Fetch 4", "InitProducerId 0", "Metadata 4", "Produce 3",
		}},
		"without message formats": {kversion.V0_11_0(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.NumBrokers(2), kfake.MaxVersions(c.version))
			lacking, err := connect(t, clientConfig(cluster.Brokers())).Lacks()
			require.NoError(t, err)
			assert.Equal(t, c.lacking, lacking)
		})
	}
}
