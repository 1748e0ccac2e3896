package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// keptOut is the warning of a streamer that cannot keep others out.
const keptOut = "other instances cannot be kept out"

// A start on brokers that lack requests ends or publishes: it never tries the
// same again and again.
func TestRunOnBrokersThatLackRequests(t *testing.T) {
	t.Parallel()
	transactions := fake.Without(kmsg.AddPartitionsToTxn, kmsg.EndTxn)
	ids := fake.Without(kmsg.InitProducerID)
	creation := fake.Without(kmsg.CreateTopics)
	all := kfake.NumBrokers(1)
	const (
		forbidden = "ransactional ID authorization failed"
		lacking   = "AddPartitionsToTxn, EndTxn"
		hungUp    = "closes the connection"
		once      = "exactly_once"
	)
	for name, test := range map[string]struct {
		brokers       kfake.Opt
		hangsUp       kmsg.Key // on this request, although brokers claim to know it
		resume, store string
		code          int
		words         []string
	}{
		"no transactions, auto":              {transactions, 0, "auto", "kafka", 0, []string{keptOut, lacking}},
		"no transactions, auto, file":        {transactions, 0, "auto", "file", 0, []string{keptOut, lacking}},
		"no transactions, exactly once":      {transactions, 0, once, "kafka", exitRefused, []string{lacking, "kafka.resume"}},
		"no transactions, at least once":     {transactions, 0, "at_least_once", "kafka", 0, nil},
		"no producer ids, auto":              {ids, 0, "auto", "kafka", exitRefused, []string{"InitProducerId", "idempotent producers"}},
		"no producer ids, exactly once":      {ids, 0, once, "file", exitRefused, []string{"InitProducerId", "idempotent producers"}},
		"no producer ids, at least once":     {ids, 0, "at_least_once", "file", exitRefused, []string{"InitProducerId", "idempotent producers"}},
		"no topics":                          {creation, 0, "auto", "kafka", exitRefused, []string{"CreateTopics", "cleanup.policy=compact"}},
		"no topics, but no need":             {creation, 0, "auto", "file", 0, nil},
		"hangs up, auto":                     {all, kmsg.AddPartitionsToTxn, "auto", "kafka", 0, []string{keptOut, hungUp}},
		"hangs up on the first topic, auto":  {all, kmsg.AddPartitionsToTxn, "auto", "file", 0, []string{keptOut, hungUp}},
		"hangs up at the end, auto":          {all, kmsg.EndTxn, "auto", "kafka", 0, []string{keptOut, hungUp}},
		"hangs up, exactly once":             {all, kmsg.AddPartitionsToTxn, once, "kafka", exitRefused, []string{hungUp}},
		"hangs up on a topic, exactly once":  {all, kmsg.AddPartitionsToTxn, once, "file", exitRefused, []string{hungUp}},
		"hangs up on producer ids, anything": {all, kmsg.InitProducerID, "at_least_once", "file", exitRefused, []string{hungUp}},
		"forbidden later, auto":              {all, 0, "auto", "file", 0, []string{keptOut, forbidden}},
		"forbidden later, exactly once":      {all, 0, once, "kafka", exitRefused, []string{forbidden, "Describe and Write"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.NumBrokers(1), test.brokers)
			if test.hangsUp != 0 {
				cluster.ControlKey(int16(test.hangsUp), func(kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					return nil, errors.New("hung up"), true
				})
			}
			if slices.Contains(test.words, forbidden) {
				cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
			}
			r := newSlot(t, false, "STREAMER_CHECKPOINT_STORE="+test.store, "STREAMER_CHECKPOINT_FILE_PATH="+t.TempDir()+"/checkpoint")
			r.environ = append(r.environ, "STREAMER_KAFKA_BROKERS="+strings.Join(cluster.Brokers(), ","),
				"STREAMER_KAFKA_RESUME="+test.resume, "STREAMER_HTTP_LISTEN=")
			require.NoError(t, cluster.CreateTopic(r.topic+".order", 1, nil))
			r.insert("order", "key", "placed", "{}")
			var until string
			require.NoError(t, r.conn.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()::text").Scan(&until))

			began := time.Now()
			got := r.execute("run", "--until", until)
			assert.Less(t, time.Since(began), 20*time.Second)
			require.Equal(t, test.code, got.code, got.stderr)
			for _, word := range test.words {
				assert.Contains(t, got.stderr, word)
			}
			assert.Equal(t, slices.Contains(test.words, keptOut), strings.Contains(got.stderr, keptOut), got.stderr)
			assert.LessOrEqual(t, strings.Count(got.stderr, keptOut), 1, "it is said once")
			messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), r.topic+".order")
			require.NoError(t, err)
			assert.Len(t, messages, map[int]int{0: 1}[test.code])
		})
	}
}
