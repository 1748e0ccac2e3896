package site

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKnownTopics(t *testing.T) {
	t.Parallel()
	const routed = `routes=[{"aggregate_type": "order", "topic": "orders"}, {"aggregate_type": "b*", "topic": "bills.{aggregate_type}"}]`
	for name, c := range map[string]struct {
		settings        []string
		database        string
		known, prefixes []string
	}{
		"one topic":                {[]string{"kafka.topic=events"}, "shop", []string{"events"}, nil},
		"by aggregate type":        {[]string{"kafka.topic=events.{aggregate_type}"}, "shop", nil, []string{"events."}},
		"routes":                   {[]string{"kafka.topic=events", routed}, "shop", []string{"events", "orders"}, []string{"bills."}},
		"of the database":          {[]string{"kafka.topic={database}.events"}, "shop", []string{"shop.events"}, nil},
		"database and type":        {[]string{"kafka.topic={database}.{aggregate_type}"}, "shop", nil, []string{"shop."}},
		"of an unknown database":   {[]string{"kafka.topic=a.{database}.events"}, "", nil, []string{"a."}},
		"unknown, then the type":   {[]string{"kafka.topic=a.{database}.{aggregate_type}"}, "", nil, []string{"a."}},
		"the type, then unknown":   {[]string{"kafka.topic=a.{aggregate_type}.{database}"}, "", nil, []string{"a."}},
		"unknown where not needed": {[]string{"kafka.topic=events"}, "", []string{"events"}, nil},
	} {
		known, prefixes, err := KnownTopics(configured(t, c.settings...), c.database)
		require.NoError(t, err, name)
		assert.Equal(t, c.known, known, name)
		assert.Equal(t, c.prefixes, prefixes, name)
	}
}

func TestTopicsOfRoutesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	cfg := configured(t)
	cfg.Kafka.Topic = "{" // the validation of a configuration refuses it
	_, _, err := KnownTopics(cfg, "shop")
	require.Error(t, err)
}

// A dead letter topic keeps every record, and takes what other topics do not.
func TestDeadLetterSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		want     map[string]string
	}{
		"of themselves": {nil, map[string]string{"max.message.bytes": "17825792"}}, // 16 MiB for the row, 1 MiB beside it
		"like output topics": {
			[]string{"kafka.topics.configs.segment.ms=60000"},
			map[string]string{"max.message.bytes": "17825792", "segment.ms": "60000"},
		},
		"without what loses letters": {
			[]string{
				"kafka.topics.configs.cleanup.policy=compact", "kafka.topics.configs.retention.ms=1000",
				"kafka.topics.configs.retention.bytes=1000",
			},
			map[string]string{"max.message.bytes": "17825792"},
		},
		"smaller than a row":   {[]string{"kafka.topics.configs.max.message.bytes=17825791"}, map[string]string{"max.message.bytes": "17825792"}},
		"larger than a row":    {[]string{"kafka.topics.configs.max.message.bytes=17825793"}, map[string]string{"max.message.bytes": "17825793"}},
		"no number":            {[]string{"kafka.topics.configs.max.message.bytes=much"}, map[string]string{"max.message.bytes": "17825792"}},
		"small rows":           {[]string{"outbox.max_row_bytes=1KiB"}, map[string]string{"max.message.bytes": "1049600"}},
		"no more than brokers": {[]string{"outbox.max_row_bytes=1GiB"}, map[string]string{"max.message.bytes": "104857600"}},
	} {
		c.want["cleanup.policy"], c.want["retention.ms"], c.want["retention.bytes"] = "delete", "-1", "-1"
		cfg := configured(t, c.settings...)
		before := len(cfg.Kafka.Topics.Configs)
		assert.Equal(t, c.want, DeadLetterSettings(cfg), name)
		assert.Len(t, cfg.Kafka.Topics.Configs, before, "%s: those of output topics stay", name)
	}
}
