package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

func TestWrongKafkaPassword(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}})
	environ := []string{
		"STREAMER_KAFKA_BROKERS=" + strings.Join(cluster.Brokers(), ","), "STREAMER_KAFKA_SASL_MECHANISM=PLAIN",
		"STREAMER_KAFKA_SASL_ALLOW_PLAINTEXT=true", "STREAMER_KAFKA_SASL_USERNAME=streamer", "STREAMER_KAFKA_SASL_PASSWORD=wrong",
	}
	got := execute(t, environ, "tail", "some-topic")
	assert.Equal(t, exitUsage, got.code, got.stderr)
	assert.Contains(t, got.stderr, "check kafka.sasl")
	assert.NotContains(t, got.stderr, "wrong")
}

// Every command says what a listener expects, and asks no longer.
func TestWrongKafkaListener(t *testing.T) {
	t.Parallel()
	sasl := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}})
	r := newSlot(t, false)
	r.environ = append(r.environ, "STREAMER_KAFKA_BROKERS="+strings.Join(sasl.Brokers(), ","))
	for name, arguments := range map[string][]string{
		"run": {"run"}, "doctor": {"doctor"}, "setup": {"setup"}, "verify": {"verify"}, "tail": {"tail", "some-topic"},
	} {
		for _, c := range []struct{ mechanism, problem, fix string }{
			{"", "expects SASL: it offers PLAIN", "set kafka.sasl.mechanism"},
			{"SCRAM-SHA-256", "does not offer SASL mechanism SCRAM-SHA-256: it offers PLAIN", "set kafka.sasl.mechanism"},
		} {
			environ := slices.Clone(r.environ)
			if c.mechanism != "" {
				environ = append(environ, "STREAMER_KAFKA_SASL_MECHANISM="+c.mechanism,
					"STREAMER_KAFKA_SASL_USERNAME=streamer", "STREAMER_KAFKA_SASL_PASSWORD=canary")
			}
			got := execute(t, environ, arguments...)
			want := exitUsage
			if name == "doctor" {
				want = exitRefused // it has examined the rest
			}
			assert.Equal(t, want, got.code, "%s: %s", name, got.stderr)
			assert.Contains(t, got.stdout+got.stderr, c.problem, name)
			assert.Contains(t, got.stdout+got.stderr, c.fix, name)
			assert.NotContains(t, got.stdout+got.stderr, "canary", name)
		}
	}
}
