package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/doctor"
)

func TestDoctor(t *testing.T) {
	t.Parallel()
	t.Run("lists every problem of a configuration", func(t *testing.T) {
		t.Parallel()
		got := execute(t, nil, "doctor", "--set", "postgres.slot=No", "--set", "kafka.compression=rar")
		assert.Equal(t, exitUsage, got.code)
		assert.Equal(t, 2, strings.Count(got.stdout, "FAIL  configuration"), got.stdout)
	})
	t.Run("goes on without servers", func(t *testing.T) {
		t.Parallel()
		got := execute(t, []string{
			"STREAMER_POSTGRES_DSN=postgres://nobody@127.0.0.1:1/none",
			"STREAMER_KAFKA_BROKERS=127.0.0.1:1", "STREAMER_HTTP_LISTEN=",
		}, "doctor")
		assert.Equal(t, exitRefused, got.code)
		assert.Contains(t, got.stdout, "FAIL  PostgreSQL — connect to PostgreSQL")
		assert.Contains(t, got.stdout, "FAIL  Kafka — connect to Kafka")
		assert.Contains(t, got.stdout, "warn  HTTP endpoint")
	})
	t.Run("before the first start", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, true)
		got := r.execute("doctor", "--json")
		assert.Zero(t, got.code, got.stdout)
		var report struct {
			Checks   []doctor.Diagnosis
			Failures int
		}
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &report))
		assert.Zero(t, report.Failures)
		var warnings []string
		for _, check := range report.Checks {
			if check.Verdict == doctor.Warned {
				warnings = append(warnings, check.What)
				assert.NotEmpty(t, check.Remedy)
			}
		}
		assert.Equal(t, []string{"checkpoint topic", "output topic " + r.topic + ".…", "running streamer"}, warnings)
	})
	t.Run("finds what is wrong on the server", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, true)
		r.exec("alter table outbox drop column payload")
		r.exec(`alter publication "` + r.slot + `" set (publish = 'insert, delete')`)
		r.exec("select pg_drop_replication_slot($1)", r.slot)
		got := r.execute("doctor")
		assert.Equal(t, exitRefused, got.code)
		assert.Contains(t, got.stdout, `FAIL  outbox table — outbox table public.outbox has no column "payload"`)
		assert.Contains(t, got.stdout, "warn  outbox table — publication")
		assert.Contains(t, got.stdout, "FAIL  slot — ")
		assert.Contains(t, got.stdout, "ok    Kafka — ")
	})
	t.Run("finds a slot that was created again", func(t *testing.T) {
		t.Parallel()
		r := newSlot(t, true, "STREAMER_CHECKPOINT_STORE=postgres")
		r.stream()()
		r.exec("select pg_drop_replication_slot($1)", r.slot)
		r.insert("order", "1", "T", "{}")
		r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
		got := r.execute("doctor")
		assert.Equal(t, exitRefused, got.code)
		assert.Contains(t, got.stdout, "FAIL  position — slot")
	})
}
