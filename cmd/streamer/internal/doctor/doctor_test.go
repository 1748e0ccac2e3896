package doctor

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

func TestDiagnosisIsOneLine(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "ok    thing — is well", Diagnosis{Fine, "thing", "is well", ""}.String())
	assert.Equal(t, "FAIL  thing — one; two — do this", Diagnosis{Failed, "thing", "one\ntwo", "do this"}.String())
}

// Each error of a join has a line and a remedy of its own.
func TestOutcome(t *testing.T) {
	t.Parallel()
	d := with(config.Config{})
	assert.True(t, d.outcome(nil, "a", "is well"))
	assert.False(t, d.outcome(errors.Join(failure.Advise(errors.New("x"), "mend x"), errors.New("y")), "b", "is well"))
	assert.Equal(t, []Diagnosis{{Fine, "a", "is well", ""}, {Failed, "b", "x", "mend x"}, {Failed, "b", "y", ""}}, d.found)
	assert.Equal(t, 2, d.failures)
}

func TestFindings(t *testing.T) {
	t.Parallel()
	d := with(config.Config{})
	d.findings(nil, "a", "is well")
	d.findings([]replication.Finding{{Fatal: true, Problem: "x", Remedy: "mend x"}, {Problem: "y", Remedy: "mend y"}}, "b", "is well")
	assert.Equal(t, []Diagnosis{{Fine, "a", "is well", ""}, {Failed, "b", "x", "mend x"}, {Warned, "b", "y", "mend y"}}, d.found)
	assert.Equal(t, 1, d.failures, "a warning is no failure")
}

func TestConfigurationThatIsNotValid(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		err := Command{JSON: asJSON}.Run(t.Context(), func() (*config.Loaded, error) {
			return config.Load(config.Options{Flags: map[string]string{"postgres.slot": "No", "kafka.compression": "rar"}})
		}, console.Streams{Out: &out})
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		for _, key := range []string{"postgres.slot", "kafka.compression"} {
			assert.Contains(t, out.String(), key)
		}
		assert.Equal(t, 2, strings.Count(out.String(), string(Failed)), out.String())
	}
}

// The doctor goes on after a failure, and leaves out what depends on it.
func TestWithoutServers(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, settings: map[string]string{
		"postgres.dsn": "postgres://nobody@" + nowhere + "/none", "kafka.brokers": nowhere, "http.listen": "",
	}}
	e := r.examine()
	assert.Equal(t, failure.Refused, failure.ClassOf(e.err))
	require.ErrorContains(t, e.err, "2 checks failed")
	assert.Equal(t, 2, e.Failures)
	e.says(Fine, "configuration").says(Failed, "PostgreSQL", nowhere).says(Failed, "Kafka", nowhere)
	e.says(Warned, "HTTP endpoint", "http.listen")
	e.silent("server", "slot", "checkpoint", "waiting rows", "transactional id", "Kafka's protocol")
}

func TestBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := r.examine()
	require.NoError(t, e.err)
	assert.Zero(t, e.Failures, e)
	e.says(Fine, "checkpoint", "none in file").says(Fine, "slot", r.slot, "not in use").says(Fine, "waiting rows", "0 ")
	e.says(Fine, "outbox table", "public.outbox", r.slot).says(Fine, "Kafka", r.settings["kafka.brokers"])
	e.says(Fine, "output topic events.…", "does not exist").says(Fine, "transactional id", "streamer-"+r.slot)
	r.examine("checkpoint.store=kafka").says(Warned, "checkpoint topic", "streamer setup").says(Fine, "checkpoint", "none in topic")

	var out bytes.Buffer
	require.NoError(t, Command{}.Run(t.Context(), func() (*config.Loaded, error) {
		return &config.Loaded{Config: r.config()}, nil
	}, console.Streams{Out: &out}))
	assert.Equal(t, len(e.Checks), strings.Count(out.String(), "\n"), "the text has a line for each check")
	assert.Contains(t, out.String(), "ok    outbox table — ")
}

func TestRunningStreamer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code    int
		answer  string
		verdict Verdict
		words   []string
	}{
		"streams": {http.StatusOK, `{"ready": true, "phase": "streaming"}`, Fine, []string{"streaming"}},
		"is not ready": {
			http.StatusServiceUnavailable, `{"phase": "blocked", "detail": "no broker"}`, Failed, []string{"blocked", "no broker", "log"},
		},
		"something odd": {http.StatusNotFound, "", Warned, []string{"not a streamer", "http.listen"}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/readyz", r.URL.Path)
			w.WriteHeader(c.code)
			_, _ = w.Write([]byte(c.answer))
		}))
		defer server.Close()
		d := with(config.Config{HTTP: config.HTTP{Listen: server.Listener.Addr().String()}})
		d.endpoint(t.Context())
		require.Len(t, d.found, 1, name)
		d.report(t).says(c.verdict, "running streamer", c.words...)
	}
	d := with(config.Config{HTTP: config.HTTP{Listen: nowhere}})
	d.endpoint(t.Context())
	d.report(t).says(Warned, "running streamer", nowhere, "streamer run")
}
