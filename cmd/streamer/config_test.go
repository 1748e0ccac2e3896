package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	environ := []string{
		"STREAMER_POSTGRES_DSN=postgres://streamer:hidden@db/shop", "STREAMER_KAFKA_SASL_PASSWORD=hidden",
		"STREAMER_KAFKA_SASL_USERNAME=u", "STREAMER_KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
	}

	t.Run("shows values, origins and no secrets", func(t *testing.T) {
		t.Parallel()
		got := execute(t, environ, "config", "--set", "postgres.slot=other")
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stdout, "slot: other")
		assert.Contains(t, got.stdout, "# environment STREAMER_POSTGRES_DSN")
		assert.NotContains(t, got.stdout, "hidden")
	})
	t.Run("as JSON", func(t *testing.T) {
		t.Parallel()
		got := execute(t, environ, "config", "--json")
		require.Zero(t, got.code, got.stderr)
		assert.True(t, json.Valid([]byte(got.stdout)))
		assert.NotContains(t, got.stdout, "hidden")
	})
	t.Run("the schema needs no valid configuration", func(t *testing.T) {
		t.Parallel()
		got := execute(t, []string{"STREAMER_NONSENSE=1"}, "config", "--schema")
		require.Zero(t, got.code, got.stderr)
		assert.True(t, json.Valid([]byte(got.stdout)))
	})
	t.Run("lists every problem", func(t *testing.T) {
		t.Parallel()
		got := execute(t, nil, "config", "--set", "postgres.slot=No", "--set", "kafka.compression=rar")
		assert.Equal(t, exitUsage, got.code)
		assert.Contains(t, got.stderr, "postgres.slot")
		assert.Contains(t, got.stderr, "kafka.compression")
		assert.Empty(t, got.stdout)
	})
}
