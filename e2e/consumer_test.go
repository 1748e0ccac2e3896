package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/consumer"
)

// The example consumer, which decodes with the CloudEvents SDK, reads what the
// streamer writes in either mode.
func TestExampleConsumerReadsOurRecords(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"binary", "structured"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, outboxTable, withConfig("cloudevents.mode="+mode, "cloudevents.source=https://shop.example.com/{aggregate_type}"))
			p := r.startReady()
			id := r.insert("order", "order-42", "com.example.order.placed", `{"total": 12.50, "text": "Grüße <&>"}`)
			event, err := consumer.Decode(r.await(p, "order", 1)[0])
			require.NoError(t, err)
			require.NoError(t, event.Validate())
			assert.Equal(t, id, event.ID())
			assert.Equal(t, "https://shop.example.com/order", event.Source())
			assert.Equal(t, "com.example.order.placed", event.Type())
			assert.Equal(t, "order-42", event.Subject())
			assert.Equal(t, "order-42", fmt.Sprint(event.Extensions()["partitionkey"]))
			assert.Regexp(t, `^[0-9a-f]{16}-00000001$`, event.Extensions()["sequence"])
			assert.False(t, event.Time().IsZero())
			assert.JSONEq(t, `{"total": 12.50, "text": "Grüße <&>"}`, string(event.Data()))
		})
	}
}
