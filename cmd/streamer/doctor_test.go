package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// That a healthy stream ends it with 0 is asserted where streams run.
func TestDoctorsExitCode(t *testing.T) {
	t.Parallel()
	notValid := execute(t, nil, "doctor", "--set", "postgres.slot=No")
	assert.Equal(t, exitUsage, notValid.code)
	assert.Contains(t, notValid.stdout, "FAIL  configuration")
	corrigible := execute(t, []string{
		"STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none", "STREAMER_KAFKA_BROKERS=127.0.0.1:1", "STREAMER_HTTP_LISTEN=",
	}, "doctor")
	assert.Equal(t, exitRefused, corrigible.code)
	assert.Contains(t, corrigible.stdout, "FAIL  PostgreSQL")
}
