package main

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestRun(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).CreateDatabase(t)
	var out bytes.Buffer
	require.ErrorContains(t, run(t.Context(), []string{"--dsn", dsn, "--orders=1"}, &out), "does not exist")
	require.NoError(t, run(t.Context(), []string{"--dsn", dsn, "--orders=5", "--create-schema"}, &out))
	assert.Contains(t, out.String(), `msg="shop closed" placed=5`)
	// The server needs a moment to notice that the shop has left.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.ErrorContains(c, run(t.Context(), []string{"--dsn", dsn, "--check-health"}, &out), "no session of the shop")
	}, 10*time.Second, 10*time.Millisecond)
}

func TestRunUsage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"--nonsense"}, &out), errUsage)
	assert.Contains(t, out.String(), "-nonsense")
	require.ErrorIs(t, run(t.Context(), []string{"--help"}, &out), flag.ErrHelp)
}
