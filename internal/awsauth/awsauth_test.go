package awsauth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/awstest"
	"github.com/outboxstream/streamer/internal/failure"
)

const (
	broker   = "b-1.shop.abc123.c2.kafka." + awstest.Region + ".amazonaws.com:9098"
	database = "shop.abc123." + awstest.Region + ".rds.amazonaws.com"
)

// give gives this process an identity.
func give(t *testing.T, cloud *awstest.Cloud, identity string) {
	t.Helper()
	switch identity {
	case "profile":
		cloud.Profile(t, "plain")
	case "role":
		cloud.Profile(t, "role")
	case "missing profile":
		cloud.Profile(t, "missing")
	case "irsa":
		cloud.WebIdentity(t)
	case "pod":
		cloud.PodIdentity(t)
	case "instance":
		cloud.Instance(t)
	case "static", "aws.role", "aws.region":
		cloud.Static(t)
	}
}

// Every place where AWS's default chain looks yields tokens that AWS accepts.
func TestTokensOfEveryIdentity(t *testing.T) { //nolint:paralleltest // it sets environment variables
	for name, test := range map[string]struct {
		options Options
		key     string
	}{
		"static":     {Options{}, "AKIASTATIC"},
		"profile":    {Options{}, "AKIAPROFILE"},
		"role":       {Options{}, "ASIAASSUMEROLE1"},
		"irsa":       {Options{}, "ASIAASSUMEROLEWITHWEBIDENTITY1"},
		"pod":        {Options{}, "ASIACONTAINER1"},
		"instance":   {Options{}, "ASIAINSTANCE1"},
		"aws.role":   {Options{Role: "arn:aws:iam::210987654321:role/other"}, "ASIAASSUMEROLE1"},
		"aws.region": {Options{Region: awstest.Region}, "AKIASTATIC"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := awstest.New(t)
			give(t, cloud, name)
			identity := New(test.options)
			for range 3 {
				token, err := identity.Kafka(t.Context(), broker)
				require.NoError(t, err)
				kafka, err := cloud.CheckKafka(token)
				require.NoError(t, err)
				assert.Equal(t, "kafka."+awstest.Region+".amazonaws.com", kafka.Host)
				assert.Equal(t, "kafka-cluster:Connect", kafka.Action)
				assert.Equal(t, test.key, kafka.Key, "the same credentials each time")

				token, err = identity.Postgres(t.Context(), database, 5433, "streamer")
				require.NoError(t, err)
				postgres, err := cloud.CheckPostgres(token)
				require.NoError(t, err)
				assert.Equal(t, awstest.Token{
					Host: database + ":5433", Key: test.key, Action: "connect", User: "streamer", At: postgres.At,
				}, postgres)
			}
		})
	}
}

// The stand-in refuses what AWS refuses.
func TestTokensAreChecked(t *testing.T) { //nolint:paralleltest // as above
	cloud := awstest.New(t)
	cloud.Static(t)
	token, err := New(Options{}).Postgres(t.Context(), database, 5432, "streamer")
	require.NoError(t, err)
	for old, changed := range map[string]string{"DBUser=streamer": "DBUser=postgres", ":5432": ":5433", "Expires=900": "Expires=899"} {
		require.Contains(t, token, old)
		_, err = cloud.CheckPostgres(strings.Replace(token, old, changed, 1))
		require.ErrorContains(t, err, "wrong signature", changed)
	}
	for shift, says := range map[time.Duration]string{16 * time.Minute: "expired", -6 * time.Minute: "signed in"} {
		cloud.Shift(shift)
		_, err = cloud.CheckPostgres(token)
		require.ErrorContains(t, err, says)
	}
}

// Credentials are replaced before tokens would be cut short by their end.
func TestCredentialsAreReplacedInTime(t *testing.T) { //nolint:paralleltest // as above
	cloud := awstest.New(t)
	cloud.PodIdentity(t)
	cloud.Last(spare - time.Second)
	identity := New(Options{})
	for range 3 {
		_, err := identity.Kafka(t.Context(), broker)
		require.NoError(t, err)
	}
	assert.GreaterOrEqual(t, cloud.Asked("container"), 3)
	cloud.Last(time.Hour)
	_, err := identity.Kafka(t.Context(), broker)
	require.NoError(t, err)
	asked := cloud.Asked("container")
	cloud.Refuse(true)
	_, err = identity.Kafka(t.Context(), broker)
	require.NoError(t, err, "credentials that are valid need no question")
	assert.Equal(t, asked, cloud.Asked("container"))
}

// A secret never shows, whatever fails.
func TestIdentityFails(t *testing.T) { //nolint:paralleltest // as above
	for name, test := range map[string]struct {
		identity string
		refused  bool
		host     string
		says     []string
		class    failure.Class
	}{
		"no identity":     {"none", false, broker, []string{"credentials from AWS", "IRSA", "doctor"}, failure.Transient},
		"refused role":    {"irsa", true, broker, []string{"not today"}, failure.Transient},
		"refused pod":     {"pod", true, broker, []string{"not today"}, failure.Transient},
		"no such profile": {"missing profile", false, broker, []string{"missing", "profile"}, failure.Misconfigured},
		"unknown region":  {"static", false, "kafka.example.com:9098", []string{"aws.region", "AWS_REGION"}, failure.Misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := awstest.New(t)
			give(t, cloud, test.identity)
			cloud.Refuse(test.refused)
			_, err := New(Options{}).Kafka(t.Context(), test.host)
			require.ErrorContains(t, err, "token for MSK")
			for _, words := range test.says {
				assert.Contains(t, failure.Describe(err), words)
			}
			assert.Equal(t, test.class, failure.ClassOf(err))
			for _, secret := range cloud.Secrets() {
				assert.NotContains(t, failure.Describe(err), secret)
			}
			host, _, _ := strings.Cut(test.host, ":")
			_, err = New(Options{}).Postgres(t.Context(), host, 5432, "u")
			require.ErrorContains(t, err, "token for RDS")
		})
	}
}

// A file that was wrong at first is read again.
func TestIdentityIsLoadedAgain(t *testing.T) { //nolint:paralleltest // as above
	cloud := awstest.New(t)
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_PROFILE", "late")
	identity := New(Options{})
	_, err := identity.Kafka(t.Context(), broker)
	require.Error(t, err)
	i := cloud.Static(t)
	require.NoError(t, os.WriteFile(
		file, []byte("[profile late]\naws_access_key_id = "+i.Key+"\naws_secret_access_key = "+i.Secret+"\n"), 0o600,
	))
	_, err = identity.Kafka(t.Context(), broker)
	require.NoError(t, err)
}

func TestCaller(t *testing.T) { //nolint:paralleltest // as above
	cloud := awstest.New(t)
	cloud.Static(t)
	caller, err := New(Options{}).Caller(t.Context(), database)
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:sts::123456789012:assumed-role/streamer/pod", caller.ARN)
	assert.Equal(t, awstest.Region, caller.Region)
	assert.Less(t, caller.Ahead.Abs(), 3*time.Second)

	cloud.Shift(7 * time.Minute)
	caller, err = New(Options{}).Caller(t.Context(), database)
	require.NoError(t, err)
	assert.InDelta(t, -7*time.Minute, caller.Ahead, float64(3*time.Second))

	cloud.Shift(-8 * time.Minute)
	cloud.Refuse(true)
	caller, err = New(Options{}).Caller(t.Context(), database)
	require.ErrorIs(t, err, ErrUnconfirmed)
	assert.InDelta(t, 8*time.Minute, caller.Ahead, float64(3*time.Second), "a refusal has the time, too")
}

func TestRegionOf(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"b-1.shop.abc123.c2.kafka.eu-central-1.amazonaws.com":     "eu-central-1",
		"boot-abc123.c1.kafka-serverless.us-east-1.amazonaws.com": "us-east-1",
		"shop.abc123.eu-central-1.rds.amazonaws.com":              "eu-central-1",
		"shop.cluster-abc123.us-gov-west-1.rds.amazonaws.com.":    "us-gov-west-1",
		"shop.abc123.rds.cn-north-1.amazonaws.com.cn":             "cn-north-1",
		"db.example.com":                       "",
		"eu-central-1.example.com":             "",
		"127.0.0.1":                            "",
		"vpce-1.rds.amazonaws.com":             "",
		"SHOP.ABC.EU-WEST-3.RDS.AMAZONAWS.COM": "eu-west-3",
	} {
		assert.Equal(t, want, regionOf(host), host)
	}
}
