package deadletter

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/router"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in  io.Reader
		yes bool
	}{
		"yes":                {strings.NewReader("yes\n"), true},
		"yes with blanks":    {strings.NewReader("  yes\r\n"), true},
		"yes at the end":     {strings.NewReader("yes"), true},
		"y":                  {strings.NewReader("y\n"), false},
		"capitals":           {strings.NewReader("YES\n"), false},
		"no":                 {strings.NewReader("no\n"), false},
		"yes in the end":     {strings.NewReader("\nyes\n"), false},
		"nothing":            {strings.NewReader(""), false},
		"no input":           {nil, false},
		"input that fails":   {iotest.ErrReader(io.ErrClosedPipe), false},
		"input that ends so": {iotest.DataErrReader(strings.NewReader("ye")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := resolving{}.confirm(console.Streams{In: c.in, Out: &out}, "Really?")
			assert.True(t, strings.HasPrefix(out.String(), "Really? "), out.String())
			if c.yes {
				require.NoError(t, err)
				return
			}
			requireRefused(t, result{err: err}, "nothing was changed", "--yes")
			assert.True(t, strings.HasSuffix(out.String(), "\n"), "what follows has a line of its own")
		})
	}
	require.NoError(t, resolving{Yes: true}.confirm(console.Streams{}, "Really?"), "it does not even ask")
}

func TestResolution(t *testing.T) {
	t.Parallel()
	named := resolving{By: "me"}.resolution(router.Dropped)
	assert.Equal(t, router.Dropped, named.Verb)
	assert.Equal(t, "me", named.By)
	assert.WithinDuration(t, time.Now(), named.At, time.Minute)
	assert.Equal(t, whoami(), resolving{}.resolution(router.Retried).By)
	assert.Regexp(t, `.+@.+`, whoami())
}

// drop is the command for certain letters, confirmed.
func drop(ids ...string) dropCommand {
	return dropCommand{resolving: resolving{ID: ids, Yes: true, By: "me"}, Timeout: time.Minute}
}

// The slot may be gone for good: a letter that is named needs no PostgreSQL.
func TestDrop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bury(order("a", 1, "1"), order("a", 2, "2").with("id", "2\x1b[2J"), order("gone", 1, "3"))
	unsure := r.answered(strings.NewReader("no\n"), dropCommand{resolving: resolving{ID: []string{"0:1", "0:0"}}})
	requireRefused(t, unsure, "nothing was changed")
	assert.Contains(t, unsure.out, "0:0  event \"event-1\" at 0/1+1: too_large\n0:1  ", "it says first what it is about")
	assert.Contains(t, unsure.out, "2 dead letters will be marked as never to be published")
	assert.NotContains(t, unsure.out, "\x1b")
	assert.Len(t, r.list(false), 3)

	asking := drop("0:2", "0:0")
	asking.Yes = false
	got := r.answered(strings.NewReader("yes\n"), asking)
	require.NoError(t, got.err)
	assert.Contains(t, got.out, "dropped  0:0\ndropped  0:2\n")
	left := r.list(false)
	require.Len(t, left, 1)
	assert.Equal(t, "0:1", left[0].ID)
	requireRefused(t, r.run(drop("0:1", "0:0")), "0:0", "already dropped by me")
	assert.Len(t, r.list(false), 1, "all or nothing")

	records, err := kafkatest.Consume(t.Context(), r.cluster.Brokers(), topic)
	require.NoError(t, err)
	require.Len(t, records, 5, "the letters stay")
	assert.Equal(t, "1", string(records[3].Key), "the decision goes with its letter")
	assert.Empty(t, header(records[3], "streamer-stream"), "it is not part of the stream")
}

// Only the streamer's own letters are dropped without being named.
func TestDropAll(t *testing.T) {
	t.Parallel()
	r, stream := newStream(t)
	r.bury(order(stream, 1, "1"), order("another", 1, "1"), order(stream, 2, "2"))
	all := dropCommand{resolving: resolving{All: true, Yes: true}, Timeout: time.Minute}
	ofClass := all
	ofClass.Class = "invalid_row"
	none := r.run(ofClass)
	require.NoError(t, none.err)
	assert.Contains(t, none.told, "no open dead letters")
	require.NoError(t, r.run(all).err)
	left := r.list(false)
	require.Len(t, left, 1)
	assert.Equal(t, "another", left[0].Stream)
	r.environ = append(r.environ, "STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none")
	require.Error(t, r.run(all).err, "which stream is the streamer's is not known")
}

// A decision that is not written down was not taken.
func TestDropIsRejected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bury(order("a", 1, "1"), order("a", 2, "2"))
	r.answerProduce(topic, kerr.PolicyViolation.Code, 1)
	got := r.run(drop("0:0", "0:1"))
	require.ErrorIs(t, got.err, sarama.ErrPolicyViolation)
	assert.Contains(t, got.err.Error(), "dead letter 0:0 was dropped")
	assert.NotContains(t, got.out, "dropped  ")
	assert.Len(t, r.list(false), 2)
}

func TestDropTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bury(order("a", 1, "1"))
	r.answerProduce(topic, kerr.NotEnoughReplicas.Code, -1)
	command := drop("0:0")
	command.Timeout = 100 * time.Millisecond
	got := r.run(command)
	require.ErrorContains(t, got.err, "0:0")
	assert.Equal(t, failure.Transient, failure.ClassOf(got.err))
	assert.Len(t, r.list(false), 1)
}

// Between the list and the decision, retention may have been faster.
func TestDropOfALetterThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bury(order("a", 1, "1"), order("a", 2, "2"))
	deleted := answerReader{answer: strings.NewReader("yes\n"), before: func() {
		config := sarama.NewConfig()
		config.Version = sarama.V2_4_0_0
		admin, err := sarama.NewClusterAdmin(r.cluster.Brokers(), config)
		require.NoError(t, err)
		defer admin.Close()
		require.NoError(t, admin.DeleteRecords(topic, map[int32]int64{0: 1}))
	}}
	got := r.answered(&deleted, dropCommand{resolving: resolving{ID: []string{"0:0"}}, Timeout: time.Minute})
	requireRefused(t, got, topic, "offset 0", "no longer in the topic")
}

// answerReader does something before it gives its answer.
type answerReader struct {
	answer io.Reader
	before func()
}

func (r *answerReader) Read(p []byte) (int, error) {
	if r.before != nil {
		r.before()
		r.before = nil
	}
	return r.answer.Read(p)
}

// A topic may be readable and not writable.
func TestDropWithoutAProducer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bury(order("a", 1, "1"))
	r.cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return response, nil, true
	})
	requireRefused(t, r.run(drop("0:0")), "Write")
	assert.Len(t, r.list(false), 1)
}
