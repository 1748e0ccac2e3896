package doctor

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/awstest"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

const arn = "arn:aws:sts::123456789012:assumed-role/streamer/pod"

// newCloudRig is a rig whose servers take nothing but tokens.
func newCloudRig(t *testing.T, cloud *awstest.Cloud, settings ...string) (*rig, *awstest.RDS) {
	t.Helper()
	r := newRig(t)
	rds := cloud.RDS(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(pgtest.Shared(t).Port())))
	user := r.slot + "_user"
	r.exec(fmt.Sprintf("create role %s login superuser", user))
	t.Cleanup(func() { r.exec("drop owned by " + user); r.exec("drop role " + user) })
	config, err := pgx.ParseConfig(r.dsn)
	require.NoError(t, err)
	cloud.MSK(r.cluster, 0)
	for _, setting := range append([]string{
		"postgres.dsn=" + rds.DSN(user, config.Database, "verify-full"), "postgres.auth=aws-rds-iam", "aws.region=" + awstest.Region,
		"kafka.sasl.mechanism=AWS_MSK_IAM", "kafka.sasl.allow_plaintext=true",
	}, settings...) {
		r.set(setting)
	}
	return r, rds
}

// Both servers take tokens, for every kind of connection, and the stream goes on
// with new ones when connections end.
func TestStreamWithAnIdentity(t *testing.T) { //nolint:paralleltest // it sets environment variables
	cloud := awstest.New(t)
	cloud.WebIdentity(t)
	r, rds := newCloudRig(t, cloud, "checkpoint.store=postgres", "retry.initial=10ms", "retry.max=10ms")
	r.insert("a", "order", "1")
	r.publish()
	first, streams := rds.Logins()
	assert.NotZero(t, streams, "replication, too")
	assert.Greater(t, len(first)-streams, 1, "lock and checkpoint table")
	rds.Cut()
	r.insert("b", "order", "1")
	r.publish()
	all, _ := rds.Logins()
	assert.Greater(t, len(all), len(first))
	r.examine().
		says(Fine, "AWS identity", arn, awstest.Region).
		says(Fine, "PostgreSQL", "reachable").
		says(Fine, "Kafka", "reachable")
}

func TestWrongIdentity(t *testing.T) { //nolint:paralleltest // as above
	cloud := awstest.New(t)
	r, rds := newCloudRig(t, cloud)
	t.Run("none", func(*testing.T) {
		r.examine().
			says(Failed, "AWS identity", "credentials from AWS", "IRSA").
			says(Failed, "PostgreSQL", "token for RDS", "doctor").
			says(Failed, "Kafka", "token for MSK")
	})
	cloud.Static(t)
	t.Run("replication", func(t *testing.T) {
		rds.CloseReplication(true)
		defer rds.CloseReplication(false)
		r.examine().says(Fine, "PostgreSQL").
			says(Failed, "replication connection", "refuses the token", "rds_iam", "rds.iam_auth_for_replication")
		config, err := pgx.ParseConfig(r.dsn)
		require.NoError(t, err)
		r.exec(fmt.Sprintf(`alter database %s set rds.iam_auth_for_replication = '0'`, config.Database))
		r.examine().says(Failed, "rds.iam_auth_for_replication", "no token for replication", "parameter group")
	})
	t.Run("clock", func(t *testing.T) {
		cloud.Shift(20*time.Minute + 30*time.Second)
		defer cloud.Shift(0)
		r.examine().
			says(Fine, "AWS identity", arn).
			says(Failed, "clock of AWS", "clock is 20m", "behind", "NTP").
			says(Failed, "PostgreSQL", "PAM authentication failed", "clock").
			says(Failed, "Kafka", "Access denied", "clock")
		_, err := site.OpenCheckpointTable(t.Context(), r.config())
		require.ErrorContains(t, err, "the server refuses the token")
		assert.Contains(t, failure.Fix(err), "rds_iam")
	})
	t.Run("service not reached", func(*testing.T) {
		cloud.Refuse(true)
		defer cloud.Refuse(false)
		r.examine().
			says(Warned, "AWS identity", "not confirmed", "not today").
			says(Fine, "PostgreSQL", "reachable").
			says(Fine, "Kafka", "reachable")
	})
	t.Run("no TLS", func(*testing.T) {
		r.examine("postgres.dsn="+r.dsn).says(Failed, "PostgreSQL", "switches off TLS", "sslmode=verify-full")
	})
}
