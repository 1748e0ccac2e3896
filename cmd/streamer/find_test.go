package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/find"
)

func (r *rig) find(arguments ...string) (found find.Result) {
	r.t.Helper()
	got := r.execute(append([]string{"find", "--json"}, arguments...)...)
	require.Zero(r.t, got.code, "%s %s", got.stdout, got.stderr)
	require.NoError(r.t, json.Unmarshal([]byte(got.stdout), &found))
	return found
}

// without makes one of the servers unreachable.
func (r *rig) without(variable, value string) {
	r.environ = slices.DeleteFunc(r.environ, func(v string) bool { return strings.HasPrefix(v, variable+"=") })
	r.environ = append(r.environ, variable+"="+value)
}

// While one of the servers is away, the other one is asked, and what is not known
// is said.
func TestFindWhileAServerIsAway(t *testing.T) {
	t.Parallel()
	r := newSlot(t, true, "STREAMER_KAFKA_TOPICS_CREATE=true")
	stop := r.stream()
	r.insert("order", "o1", "t", `{"n": 1}`)
	record := r.awaitRecords(r.topic+".order", 1)[0]
	stop()
	id := headerOf(record, "ce_id")
	brokers := r.environ[slices.IndexFunc(r.environ, func(v string) bool { return strings.HasPrefix(v, "STREAMER_KAFKA_BROKERS=") })]

	r.without("STREAMER_KAFKA_BROKERS", "127.0.0.1:1")
	found := r.find(id)
	require.Len(t, found.Events, 1)
	assert.Equal(t, find.Unknown, found.Events[0].State)
	assert.NotNil(t, found.Events[0].Row)
	require.NotEmpty(t, found.NotLookedAt)
	assert.Contains(t, found.NotLookedAt[0], "Kafka could not be asked")

	r.without("STREAMER_POSTGRES_DSN", "postgres://nobody@127.0.0.1:1/none")
	got := r.execute("find", id)
	assert.Equal(t, exitFailed, got.code)
	assert.Contains(t, got.stderr, "connect to Kafka")
	assert.Contains(t, got.stderr, "connect to PostgreSQL")
	assert.Empty(t, got.stdout)

	r.without("STREAMER_KAFKA_BROKERS", strings.TrimPrefix(brokers, "STREAMER_KAFKA_BROKERS="))
	found = r.find(id)
	require.Len(t, found.Events, 1)
	assert.Equal(t, find.Published, found.Events[0].State)
	require.Len(t, found.Events[0].Records, 1)
	assert.Equal(t, record.Offset, found.Events[0].Records[0].Offset)
	assert.Equal(t, find.InTurn, found.Events[0].Records[0].Kind)
	assert.Contains(t, found.NotLookedAt[0], "PostgreSQL could not be asked")
	assert.Len(t, r.find("--lsn", found.Events[0].Position).Events, 1)
	assert.Len(t, r.find("--key", "o1").Events, 1)
}

// A topic that was deleted is named.
func TestFindWithoutTopic(t *testing.T) {
	t.Parallel()
	r := newSlot(t, true)
	r.insert("order", "o1", "t", "{}")
	found := r.find("--key", "o1")
	require.Len(t, found.Events, 1)
	assert.Equal(t, find.Waiting, found.Events[0].State)
	assert.Equal(t, []string{r.topic + ".order"}, found.Missing)
	got := r.execute("find", "--key", "o1")
	assert.Contains(t, got.stdout, r.topic+".order does not exist")
	got = r.execute("find", "--key", "o1", "--topic", "none")
	assert.Contains(t, got.stdout, "none does not exist")
	assert.Equal(t, exitUsage, r.execute("find").code)
	assert.Equal(t, exitUsage, r.execute("find", "a", "b").code)
	assert.Contains(t, r.execute("find", "o 1").stderr, "belongs after --key")
}
