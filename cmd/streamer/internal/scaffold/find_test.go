package scaffold

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

func table(name, columns string) replication.UserTable {
	t := replication.UserTable{Name: name}
	for column := range strings.FieldsSeq(columns) {
		base := "text"
		if column, ok := strings.CutSuffix(column, "!"); ok {
			t.Columns = append(t.Columns, replication.Column{Name: column, Base: "timestamp with time zone"})
			continue
		}
		t.Columns = append(t.Columns, replication.Column{Name: column, Base: base})
	}
	return t
}

// A table with the columns of one preset is not taken for that of another.
func TestEachPresetIsTold(t *testing.T) {
	t.Parallel()
	for _, p := range config.Presets() {
		found := candidates([]replication.UserTable{
			table("public.users", "id name email created_at!"), table(p.Outbox.Table, strings.Join(presetColumns(p), " ")),
		}, "")
		require.Len(t, found, 1, p.Name)
		require.True(t, found[0].certain(), p.Name)
		assert.Equal(t, p.Name, found[0].preset.Name)
	}
}

func TestInboxIsNoOutbox(t *testing.T) {
	t.Parallel()
	p, ok := config.FindPreset("pg-transactional-outbox")
	require.True(t, ok)
	columns := strings.Join(presetColumns(p), " ")
	inbox, outbox := table("public.inbox", columns), table("public.outbox", columns)
	found := candidates([]replication.UserTable{inbox, outbox}, "")
	require.Len(t, found, 1)
	assert.Equal(t, "public.outbox", found[0].table.Name)
	assert.Len(t, candidates([]replication.UserTable{inbox, table("other.outbox", columns)}, ""), 2, "neither has the name")
}

func TestGuess(t *testing.T) {
	t.Parallel()
	for columns, want := range map[string]string{
		"id aggregate_type aggregate_id event_type payload created_at!": "id in id, aggregate_type in aggregate_type, " +
			"aggregate_id in aggregate_id, type in event_type, payload in payload, time in created_at",
		"Id Type Content OccurredOnUtc! ProcessedOnUtc! Error": "id in Id, type in Type, payload in Content, time in OccurredOnUtc",
		"id event_name data created_at":                        "id in id, type in event_name, payload in data",
		"message_id id topic key name body": "id in message_id, aggregate_type in topic, " +
			"aggregate_id in key, type in name, payload in body",
	} {
		g := guessColumns(table("public.t", columns))
		assert.True(t, g.isLikely(), columns)
		assert.Equal(t, want, g.String())
	}
	for _, columns := range []string{"id name email created_at!", "type payload", "id payload", "id type"} {
		assert.False(t, guessColumns(table("public.t", columns)).isLikely(), columns)
	}
}

func TestOnlyOnePresetIsLookedFor(t *testing.T) {
	t.Parallel()
	outbox := table("public.outbox", "id aggregatetype aggregateid type payload timestamp")
	assert.Equal(t, "quarkus", candidates([]replication.UserTable{outbox}, "")[0].preset.Name)
	assert.Equal(t, "debezium", candidates([]replication.UserTable{outbox}, "debezium")[0].preset.Name)
	assert.Empty(t, candidates([]replication.UserTable{outbox}, "cap"))
}
