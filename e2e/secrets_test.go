package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/awstest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// output runs a command to its end and returns what it printed.
func (r *rig) output(command ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), binary, append(command, r.arguments()...)...)
	cmd.Dir = r.folder
	printed, _ := cmd.CombinedOutput() // its exit code does not matter here
	require.NotEmpty(r.t, printed)
	return string(printed)
}

// everything is all that a running streamer and the commands beside it show.
func (r *rig) everything(p *process) string {
	r.t.Helper()
	all := []string{p.log.String()}
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/debug/pprof/goroutine?debug=2"} {
		response, err := get(r.t, "http://"+r.address+path)
		require.NoError(r.t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(r.t, err)
		response.Body.Close()
		assert.NotEqual(r.t, http.StatusNotFound, response.StatusCode, path)
		all = append(all, string(body))
	}
	for _, command := range [][]string{{"config"}, {"config", "--json"}, {"doctor"}, {"doctor", "--json"}, {"status", "--json"}} {
		all = append(all, r.output(command...))
	}
	return strings.Join(all, "\n")
}

// No credential of AWS, and nothing that is derived from one, is shown: not
// while all is well, and not while everything fails.
func TestSecretsOfAWSAreNowhere(t *testing.T) { //nolint:paralleltest // it sets environment variables
	cloud := awstest.New(t)
	cloud.WebIdentity(t)
	cluster := fake.Start(t, kfake.NumBrokers(1))
	msk := cloud.MSK(cluster, 2*time.Second)
	rds := cloud.RDS(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(pgtest.Shared(t).Port())))
	r := newRig(t, outboxTable, withStore("postgres"))
	config, err := pgx.ParseConfig(r.dsn)
	require.NoError(t, err)
	r.lines = []string{
		"postgres.dsn=" + rds.DSN("postgres", config.Database, "verify-full"), "postgres.auth=aws-rds-iam", "aws.region=" + awstest.Region,
		"kafka.brokers=" + strings.Join(cluster.Brokers(), ","), "kafka.sasl.mechanism=AWS_MSK_IAM", "kafka.sasl.allow_plaintext=true",
		"log.level=debug", "http.pprof=true",
	}
	p := r.startReady()
	for n := range 10 {
		r.insert("order", "o", "t", fmt.Sprintf(`{"n": %d}`, n))
	}
	r.confirmed(p)
	shown := r.everything(p)
	assert.Contains(t, shown, "assumed-role/streamer/pod")

	cloud.Shift(30 * time.Minute)
	rds.Cut()
	p.logged("the server refuses the token")
	shown += r.everything(p)
	assert.Contains(t, shown, "PAM authentication failed")
	cloud.Shift(0)
	cloud.Refuse(true)
	rds.Cut()
	shown += r.everything(p)
	assert.Contains(t, shown, "not today")
	cloud.Refuse(false)

	r.ready(p)
	assert.NotEmpty(t, msk.Logins())
	shown += r.everything(p)
	require.Equal(t, 0, p.stop())
	shown += p.log.String()
	for _, secret := range cloud.Secrets() {
		assert.NotContains(t, shown, secret)
	}
}

// What a command prints is never shown, even when it fails. Its standard error
// is.
func TestSecretsOfCommandsAreNowhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	fails := filepath.Join(r.folder, "fails")
	working := filepath.Join(r.folder, "working")
	vault := filepath.Join(r.folder, "vault")
	require.NoError(t, os.WriteFile(working, nil, 0o600))
	require.NoError(t, os.WriteFile(vault, []byte("#!/bin/sh\necho '"+r.dsn+"'\n"+
		"test -e "+working+" || { echo the vault is sealed >&2; exit 4; }\n"), 0o700))
	require.NoError(t, os.WriteFile(fails, []byte("#!/bin/sh\necho "+passwordCanary+"\necho the vault is sealed >&2\nexit 4\n"), 0o700))
	r.lines = []string{"postgres.dsn=exec:" + vault + " argument-canary", "log.level=debug", "http.pprof=true"}
	p := r.startReady()
	id := r.insert("order", "o", "t", `{"n": 1}`)
	assert.Equal(t, []string{id}, ids(r.await(p, "order", 1)))

	require.NoError(t, os.Remove(working))
	r.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	p.logged("exit status 4: the vault is sealed")
	shown := r.everything(p)
	require.NoError(t, os.WriteFile(working, nil, 0o600))
	r.insert("order", "o", "t", `{"n": 2}`)
	r.await(p, "order", 2)
	require.Equal(t, 0, p.stop())
	shown += p.log.String()
	assert.Contains(t, shown, "exec:"+vault+" ********")

	cluster := fake.Start(t, kfake.NumBrokers(1))
	new(awstest.Cloud).MSK(cluster, 0) // asks for a token
	r.lines = []string{
		"kafka.brokers=" + strings.Join(cluster.Brokers(), ","), "kafka.sasl.mechanism=OAUTHBEARER", "kafka.sasl.allow_plaintext=true",
		"kafka.sasl.token=exec:" + fails + " argument-canary",
		"otlp.headers=exec:" + fails, "otlp.endpoint=http://127.0.0.1:1",
	}
	shown += r.output("doctor") + r.output("run") + r.output("config")
	assert.Contains(t, shown, "kafka.sasl.token: command "+fails+" of a secret: exit status 4: the vault is sealed")
	assert.Contains(t, shown, "otlp.headers: command")
	assert.NotContains(t, shown, passwordCanary)
	assert.NotContains(t, shown, "argument-canary")
}
