package setup

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/goldentest"
	"github.com/outboxstream/streamer/replication"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"default": nil,
		"odd": {
			`STREAMER_OUTBOX_TABLE=Odd 'schema.out-box`, "STREAMER_POSTGRES_PUBLICATION=It's \"the\" publication", "STREAMER_POSTGRES_SLOT=odd_1",
			"STREAMER_CHECKPOINT_STORE=postgres", "STREAMER_CHECKPOINT_POSTGRES_TABLE=ops.check'points",
			"STREAMER_OUTBOX_COLUMNS_TIME=Created At", "STREAMER_OUTBOX_EXTENSIONS_TENANTID=tenant id",
			"STREAMER_OUTBOX_COLUMNS_SUBJECT=aggregateid",
			"STREAMER_ROUTES=[{aggregate_type: order, topic: orders}]", "STREAMER_KAFKA_TOPICS_CREATE=true", "STREAMER_KAFKA_TOPICS_PARTITIONS=6",
			"STREAMER_KAFKA_TOPICS_REPLICATION_FACTOR=3", "STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact,delete",
			"STREAMER_KAFKA_BROKERS=a:1,b:2",
		},
		"dead-letters": {
			"STREAMER_POISON_POLICY=dead-letter", "STREAMER_KAFKA_TOPICS_CONFIGS_CLEANUP_POLICY=compact",
			"STREAMER_KAFKA_TOPICS_REPLICATION_FACTOR=3",
			"STREAMER_KAFKA_TOPIC=events", "STREAMER_KAFKA_RESUME=at_least_once",
		},
		"shards": {
			"STREAMER_SHARD_COUNT=3", "STREAMER_SHARD_INDEX=1", "STREAMER_CHECKPOINT_STORE=file", "STREAMER_KAFKA_TOPIC=events",
			"STREAMER_OUTBOX_COLUMNS_ID=aggregateid",
		},
		"aws": {
			"STREAMER_POSTGRES_AUTH=aws-rds-iam", "STREAMER_KAFKA_SASL_MECHANISM=AWS_MSK_IAM", "STREAMER_KAFKA_TLS_ENABLED=true",
		},
		"any-topic": {
			"STREAMER_KAFKA_TOPIC={aggregate_type}", "STREAMER_CHECKPOINT_STORE=file",
			"STREAMER_ROUTES=[{aggregate_type: order, topic: 'of-{database}'}, {aggregate_type: user, topic: more}]",
			"STREAMER_OUTBOX_CLEANUP_MODE=delete", "STREAMER_OUTBOX_COLUMNS_TIME=created_at",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Without any server, and without a name of the database.
			got := execute(t.Context(), Command{Print: true, Failover: true, Topic: []string{"more"}}, environ...)
			require.NoError(t, got.err)
			goldentest.Equal(t, name, got.out)
		})
	}
}

func TestOutboxColumns(t *testing.T) {
	t.Parallel()
	names := config.Columns{ID: "id", AggregateType: "kind", AggregateID: "key", Type: "type", Payload: "payload"}
	usual := []replication.Column{
		{Name: "id", Type: "uuid PRIMARY KEY DEFAULT gen_random_uuid()"},
		{Name: "kind", Type: "text NOT NULL"},
		{Name: "key", Type: "text NOT NULL"},
		{Name: "type", Type: "text NOT NULL"},
		{Name: "payload", Type: "jsonb"},
	}
	for name, c := range map[string]struct {
		change func(*config.Outbox)
		more   []replication.Column
	}{
		"the usual ones": {func(*config.Outbox) {}, nil},
		"a time has a default, others may be null": {
			func(o *config.Outbox) { o.Columns.Time, o.Columns.Source = "at", "from" },
			[]replication.Column{{Name: "at", Type: "timestamptz NOT NULL DEFAULT now()"}, {Name: "from", Type: "text"}},
		},
		"a column with two purposes is there once, with the first": {
			func(o *config.Outbox) { o.Columns.Subject, o.Columns.PartitionKey = "key", "key" }, nil,
		},
		"extensions are sorted by their names, not those of their columns": {
			func(o *config.Outbox) {
				o.Extensions = map[string]string{"tenant": "a", "region": "b", "again": "kind"}
			},
			[]replication.Column{{Name: "b", Type: "text"}, {Name: "a", Type: "text"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := config.Outbox{Table: "outbox", Columns: names}
			c.change(&o)
			assert.Equal(t, slices.Concat(usual, c.more), outboxColumns(o))
		})
	}
}

func TestSchemaSQL(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]string{
		"outbox":        "",
		"public.outbox": "",
		"shop.outbox":   "CREATE SCHEMA IF NOT EXISTS \"shop\";\n",
		`"a""b".outbox`: "CREATE SCHEMA IF NOT EXISTS \"a\"\"b\";\n",
	} {
		assert.Equal(t, want, schemaSQL(table), table)
	}
}

func TestQuoteShell(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"orders.v1_a-b":         "orders.v1_a-b",
		"a:1,b:2":               "a:1,b:2",
		"cleanup.policy=delete": "cleanup.policy=delete",
		"":                      "''",
		"two words":             "'two words'",
		"$HOME":                 "'$HOME'",
		"a;b":                   "'a;b'",
		"*":                     "'*'",
		"~":                     "'~'",
		"it's":                  `'it'\''s'`,
		"ä":                     "'ä'",
	} {
		assert.Equal(t, want, quoteShell(word), word)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Command{Timeout: time.Second}.Validate())
	assert.ErrorContains(t, Command{Timeout: time.Second - 1}.Validate(), "--timeout")
}
