package scaffold

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/failure"
)

func answering(answers string) (*asker, *bytes.Buffer) {
	var shown bytes.Buffer
	return newAsker(console.Streams{In: strings.NewReader(answers), Out: io.Discard, Err: &shown}), &shown
}

func TestAsk(t *testing.T) {
	t.Parallel()
	a, shown := answering("\n kafka:9092 \nlast")
	for _, want := range []string{"fallback", "kafka:9092", "last"} {
		got, err := a.text("Brokers", "fallback")
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.Equal(t, strings.Repeat("Brokers [fallback]: ", 3), shown.String())
	_, err := a.text("Brokers", "fallback")
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err), "no answer is no consent")
}

func TestAskForAChoice(t *testing.T) {
	t.Parallel()
	a, shown := answering("0\nthree\n2\n")
	got, err := a.choice("Which?", []string{"one", "two"})
	require.NoError(t, err)
	assert.Equal(t, 1, got)
	assert.Contains(t, shown.String(), "  1  one\n  2  two\n")
	assert.Equal(t, 2, strings.Count(shown.String(), "Write a number from 1 to 2."))
}

// A file or a pipe gives no answers.
func TestNobodyIsAskedWithoutATerminal(t *testing.T) {
	t.Parallel()
	reading, writing, err := os.Pipe()
	require.NoError(t, err)
	defer reading.Close()
	defer writing.Close()
	assert.Nil(t, newAsker(console.Streams{In: reading}))
	assert.Nil(t, newAsker(console.Streams{}))
}
