package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// letter is a line of `streamer dead-letters list --json`.
type letter struct {
	ID, Class, State, Reason string
	EventID                  string `json:"event_id"`
	AggregateType            string `json:"aggregate_type"`
}

func (r *rig) letterTopic() string { return r.prefix + "-letters" }

// command runs a command of the binary to its end, with the rig's configuration.
func (r *rig) command(arguments ...string) (output string, code int) {
	r.t.Helper()
	return outcome(r.t, r.folder, []string{"PATH=" + os.Getenv("PATH")}, append(arguments, r.arguments()...)...)
}

// letters lists dead letters.
func (r *rig) letters(arguments ...string) (list []letter) {
	r.t.Helper()
	output, code := r.command(append([]string{"dead-letters", "list", "--json"}, arguments...)...)
	require.Zero(r.t, code, output)
	for line := range strings.Lines(output) {
		var l letter
		require.NoError(r.t, json.Unmarshal([]byte(line), &l), line)
		list = append(list, l)
	}
	return list
}

// awaitLetters waits until n dead letters wait for a decision.
func (r *rig) awaitLetters(p *process, n int) []letter {
	r.t.Helper()
	var list []letter
	p.eventually(fmt.Sprintf("%d dead letters are there", n), func() bool {
		list = r.letters()
		return len(list) >= n
	})
	require.Len(r.t, list, n)
	return list
}

// newLetterRig has an output topic that accepts 4000 bytes, and a dead letter
// topic.
func newLetterRig(t *testing.T, lines ...string) *rig {
	t.Helper()
	r := newTightTopic(t, "kafka")
	r.lines = append(r.lines, "poison.policy=dead-letter", "poison.topic="+r.letterTopic())
	r.lines = append(r.lines, lines...)
	return r
}

// withCanary commits a row larger than 4000 bytes whose payload must not be
// shown.
func (r *rig) withCanary(key string, n int) {
	r.t.Helper()
	r.insert("order", key, "t", fmt.Sprintf(`{"n": %d, "s": "%s%08000d"}`, n, payloadCanary, 0))
}

// A row that could not be published is found and decided about. Neither the
// decision nor the late event misleads a start after kill -9.
func TestDeadLetterIsRetried(t *testing.T) {
	t.Parallel()
	r := newLetterRig(t)
	p := r.startReady()
	r.numbered("o1", 1)
	r.withCanary("o1", 2)
	r.numbered("o1", 3)
	r.withCanary("o2", 4)
	letters := r.awaitLetters(p, 2)
	assert.Equal(t, "too_large", letters[0].Class)
	assert.Equal(t, "order", letters[0].AggregateType)
	r.await(p, "order", 2)

	output, code := r.command("dead-letters", "retry", letters[0].ID, "--yes")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "not retried: is larger than the topic's max.message.bytes")
	assert.NotContains(t, output, payloadCanary)
	assert.Len(t, r.letters(), 2, "it is still poison")
	assert.Len(t, r.records("order"), 2)

	r.setTopic("order", "max.message.bytes", "1000000")
	output, code = r.command("dead-letters", "retry", letters[0].EventID)
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "nothing was changed")
	assert.Len(t, r.records("order"), 2)
	output, code = r.command("dead-letters", "retry", letters[0].EventID, "--yes")
	require.Zero(t, code, output)
	messages := r.await(p, "order", 3)
	late := messages[2]
	assert.Equal(t, letters[0].EventID, header(late, "ce_id"))
	assert.NotEmpty(t, header(late, "streamer-replay"))
	assert.Empty(t, header(messages[0], "streamer-replay"))
	assert.Equal(t, header(messages[0], "streamer-stream"), header(late, "streamer-stream"))
	assert.Equal(t, map[string][]int{"o1": {1, 3, 2}}, byKey(t, messages))

	// The streamer is killed right after it, and under load.
	wait := r.load(300)
	p.kill()
	p = r.startReady()
	wait()
	r.confirmed(p)
	require.Len(t, r.records("order"), 303)

	output, code = r.command("dead-letters", "drop", "--all", "--yes")
	require.Zero(t, code, output)
	assert.Empty(t, r.letters())
	all := r.letters("--all")
	require.Len(t, all, 2)
	assert.Equal(t, []string{"retried", "dropped"}, []string{all[0].State, all[1].State})
	output, code = r.command("dead-letters", "retry", letters[1].ID, "--yes")
	assert.Equal(t, exitRefused, code, output)
	assert.Contains(t, output, "already dropped")

	p.kill()
	r.withCanary("o1", 1000) // published now
	r.numbered("o1", 1001)
	p = r.startReady()
	messages = r.await(p, "order", 305)
	r.confirmed(p)
	seen := map[string]int{}
	for _, id := range ids(messages) {
		seen[id]++
	}
	assert.Len(t, seen, 305, "nothing is repeated")
	assert.Len(t, r.letters("--all"), 2)
	deadLetters, err := r.kafka.Consume(t.Context(), r.letterTopic())
	require.NoError(t, err)
	assert.Len(t, deadLetters, 4, "two rows, two decisions")
	output, code = r.command("verify")
	assert.Zero(t, code, output)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

// A retried event may be the last in its partition. The dead letter and its
// decision may be the last in theirs, above the checkpoint of a killed
// streamer. The streamer does not skip what it did not publish. It does not
// mistake what an operator published for its own.
func TestRetriedAboveTheCheckpoint(t *testing.T) {
	t.Parallel()
	r := newLetterRig(t)
	r.setTopic("order", "max.message.bytes", "1000000")
	const limit = "kafka.max_record_bytes=4KiB"
	p := r.startReady(limit, "checkpoint.interval=1h")
	r.numbered("o1", 1)
	r.withCanary("o1", 2)
	letters := r.awaitLetters(p, 1)
	r.await(p, "order", 1)
	p.kill()
	r.numbered("o1", 3, 4)
	output, code := r.command("dead-letters", "retry", letters[0].ID, "--yes")
	require.Zero(t, code, output)
	p = r.startReady(limit)
	assert.Equal(t, map[string][]int{"o1": {1, 2, 3, 4}}, byKey(t, r.await(p, "order", 4)))
	r.confirmed(p)
	assert.Len(t, r.records("order"), 4)
	assert.Len(t, r.letters("--all"), 1)
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

// The policy is that of the row's route, here from a file.
func TestPoisonPolicyPerRoute(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ general, invoice string }{
		"dead letters for one": {"stop", "dead-letter"},
		"stop for one":         {"dead-letter", "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTightTopic(t, "kafka")
			require.NoError(t, os.WriteFile(filepath.Join(r.folder, "streamer.yaml"), fmt.Appendf(nil, `
poison:
  policy: %s
  topic: %s
routes:
  - {aggregate_type: "inv*", poison: %s}
`, c.general, r.letterTopic(), c.invoice), 0o600))
			buried, stops := "order", "invoice"
			if c.invoice == "dead-letter" {
				buried, stops = stops, buried
			}
			const limit = "kafka.max_record_bytes=4KiB"
			r.setTopic("order", "max.message.bytes", "1000000")
			large := fmt.Sprintf(`{"n": 2, "s": "%s%08000d"}`, payloadCanary, 0)
			p := r.startReady(limit)
			r.insert(buried, "k1", "t", `{"n": 1}`)
			r.insert(buried, "k1", "t", large)
			r.insert(buried, "k1", "t", `{"n": 3}`)
			letters := r.awaitLetters(p, 1)
			assert.Equal(t, buried, letters[0].AggregateType)
			assert.Equal(t, map[string][]int{"k1": {1, 3}}, byKey(t, r.await(p, buried, 2)))

			r.insert(stops, "k2", "t", `{"n": 1}`)
			r.await(p, stops, 1)
			id := r.insert(stops, "k2", "t", large)
			r.insert(stops, "k2", "t", `{"n": 3}`)
			p.refused(exitRefused, id, "kafka.max_record_bytes")
			assert.Len(t, r.letters("--all"), 1)
			assert.Equal(t, map[string][]int{"k2": {1}}, byKey(t, r.records(stops)))

			p = r.startReady()
			assert.Equal(t, map[string][]int{"k2": {1, 2, 3}}, byKey(t, r.await(p, stops, 3)))
			assert.Equal(t, map[string][]int{"k1": {1, 3}}, byKey(t, r.records(buried)), "a dead letter stays one")
			assert.Equal(t, 0, p.stop())
			p.discreet()
		})
	}
}
