package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What setup creates satisfies doctor. What setup decides is tested in its
// package.
func TestSetup(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, "STREAMER_KAFKA_TOPICS_PARTITIONS=3", "STREAMER_OUTBOX_COLUMNS_TIME=created_at")
	setup := []string{"setup", "--create-table", "--topic", r.topic + ".order,more-" + r.topic, "--topic", "last-" + r.topic}
	first := r.execute(setup...)
	require.Zero(t, first.code, first.stderr)
	assert.Equal(t, 7, strings.Count(first.stdout, "created"), first.stdout)
	for _, name := range []string{r.topic + ".order", "more-" + r.topic, "last-" + r.topic} {
		r.awaitRecords(name, 0) // a broker learns of a new topic only after the controller
	}
	again := r.execute(setup...)
	require.Zero(t, again.code, again.stderr)
	assert.Equal(t, strings.ReplaceAll(first.stdout, "created", "exists "), again.stdout)
	healthy := r.execute("doctor")
	assert.Zero(t, healthy.code, healthy.stdout)
}

func TestSetupExitCodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	refused := r.execute("setup")
	assert.Equal(t, exitRefused, refused.code)
	assert.Contains(t, refused.stderr, "--create-table")
	failed := r.execute("setup", "--create-table") // without Kafka
	assert.Equal(t, exitFailed, failed.code)
	assert.Contains(t, failed.stdout, "created  slot")
	misused := r.execute("setup", "--timeout", "999ms")
	assert.Equal(t, exitUsage, misused.code)
	assert.Contains(t, misused.stderr, "--timeout")
	printed := r.execute("setup", "--print", "--topic", "more")
	assert.Zero(t, printed.code, printed.stderr)
	assert.Contains(t, printed.stdout, "--topic more")
}
