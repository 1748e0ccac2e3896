package deadletter

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/goldentest"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// oddLetters hold characters that would upset a terminal, and a decision.
func oddLetters() []router.Letter {
	return []router.Letter{
		{
			Topic: topic, Partition: 0, Offset: 17, StreamID: "4d2f6c1e00aa55ff", EventID: "1\x1b[2J", AggregateType: "order\tor not",
			Position: replication.Position{Commit: 0x16b3748, Ordinal: 3}, Class: router.PoisonSize, Reason: "is too\nlarge", Copies: 1,
			CommitTime: time.Now().Add(-90 * time.Minute),
		},
		{
			Topic: topic, Partition: 12, Offset: 4, StreamID: "4d2f6c1e00aa55ff", EventID: "2", AggregateType: "user",
			Position: replication.Position{Commit: 0x16b3800, Ordinal: 1}, Class: router.PoisonRow, Reason: "column is NULL", Copies: 2,
			CommitTime: time.Now().Add(-50 * time.Hour),
			Resolution: &router.Resolution{Verb: "retried\x07", By: "a\nb", At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)},
		},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]listCommand{"open": {}, "all": {All: true}} {
		var out bytes.Buffer
		require.NoError(t, command.table(oddLetters(), console.Streams{Out: &out}))
		goldentest.Equal(t, "table-"+name, out.String())
	}
}

func TestDescribeLetter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, l := range oddLetters() {
		l.CommitTime = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
		require.NoError(t, console.Streams{Out: &out}.JSON(Describe(l)))
	}
	goldentest.Equal(t, "json", out.String())
}

func TestLetterState(t *testing.T) {
	t.Parallel()
	letters := oddLetters()
	assert.Equal(t, "open", letterState(letters[0]))
	assert.Equal(t, "retried· by a·b at 2026-11-21T10:00:00Z", letterState(letters[1]))
}

func TestList(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	empty := r.run(listCommand{})
	require.NoError(t, empty.err)
	assert.Empty(t, empty.out)
	assert.Contains(t, empty.told, "no dead letters")
	assert.Contains(t, empty.told, topic)
	emptyJSON := r.run(listCommand{JSON: true})
	require.NoError(t, emptyJSON.err)
	assert.Empty(t, emptyJSON.out+emptyJSON.told, "a script gets no lines")

	secret := order("a", 2, "key-canary")
	secret.payload = []byte(`"payload-canary"`)
	r.bury(order("b", 1, "k"), secret, order("a", 1, "k"), secret)
	require.NoError(t, r.run(dropCommand{resolving: resolving{ID: []string{"0:2"}, Yes: true, By: "me"}, Timeout: time.Minute}).err)

	open := r.list(false)
	require.Len(t, open, 2)
	assert.Equal(t, []string{"0:1", "0:0"}, []string{open[0].ID, open[1].ID}, "in the order of the stream")
	assert.Equal(t, 2, open[0].Copies)
	all := r.list(true)
	require.Len(t, all, 3)
	assert.Equal(t, []string{"dropped", "open", "open"}, []string{string(all[0].State), string(all[1].State), string(all[2].State)})
	assert.Equal(t, "me", all[0].ResolvedBy)
	assert.WithinDuration(t, time.Now(), all[0].ResolvedAt, time.Minute)

	for _, command := range []listCommand{{}, {JSON: true}, {All: true}} {
		got := r.run(command)
		require.NoError(t, got.err)
		assert.Contains(t, got.out, "event-2")
		assert.NotContains(t, got.out+got.told, "canary", "keys and payloads are not shown")
	}
	assert.NotContains(t, r.run(listCommand{}).out, "dropped by")
	assert.Contains(t, r.run(listCommand{All: true}).out, "dropped by me at ")
}

// Nobody has to create the topic before there are dead letters.
func TestListWithoutTheTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t, "STREAMER_POISON_TOPIC=none")
	got := r.run(listCommand{})
	require.NoError(t, got.err)
	assert.Contains(t, got.told, `"none"`)
}

func TestWithoutKafka(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.environ = append(r.environ, "STREAMER_KAFKA_BROKERS=127.0.0.1:1")
	chosen := resolving{ID: []string{"0:1"}, Yes: true}
	for name, command := range map[string]runner{
		"list": listCommand{}, "show": showCommand{ID: "0:1"}, "retry": retryCommand{resolving: chosen}, "drop": dropCommand{resolving: chosen},
	} {
		got := r.run(command)
		require.Error(t, got.err, name)
		assert.Equal(t, failure.Transient, failure.ClassOf(got.err), name)
		assert.Contains(t, got.err.Error(), "127.0.0.1:1", name)
	}
	r.environ = append(r.environ, "STREAMER_KAFKA_MAX_RECORD_BYTES=much")
	assert.ErrorContains(t, r.run(listCommand{}).err, "kafka.max_record_bytes")
}
