package kafka

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
)

// unsecured returns a token that a broker without further settings accepts if it
// has the scope "kafka".
func unsecured(t *testing.T, issued time.Time, lasts time.Duration, scope string) string {
	t.Helper()
	part := func(content any) string {
		text, err := json.Marshal(content)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "none"}) + "." + part(map[string]any{
		"sub": "streamer", "scope": scope, "iat": issued.UnixMilli() / 1000, "exp": float64(issued.Add(lasts).UnixMilli()) / 1000,
	}) + "."
}

// bearers starts a real broker that validates tokens: their time and their
// scope.
func bearers(t *testing.T) *kafkatest.Cluster {
	t.Helper()
	const listener = "listener.name.client.oauthbearer."
	return kafkatest.New(t, kafkatest.Options{
		Users: map[string]string{"other": "password"},
		Settings: map[string]string{
			"sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER",
			listener + "sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer." +
				`OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker" unsecuredValidatorRequiredScope="kafka";`,
			listener + "connections.max.reauth.ms": "3600000",
		},
	})
}

// tokenSource is a sidecar that keeps a file up to date.
type tokenSource struct {
	asked atomic.Int32
	token atomic.Value
}

func (s *tokenSource) config(cluster *kafkatest.Cluster) ClientConfig {
	c := clientConfig(cluster.Brokers())
	c.SASL = SASLConfig{Mechanism: "OAUTHBEARER", Token: func(context.Context) (string, error) {
		s.asked.Add(1)
		return s.token.Load().(string), nil
	}}
	return c
}

// A real broker accepts, denies and expires tokens that come from elsewhere.
func TestBearerToken(t *testing.T) {
	t.Parallel()
	cluster := bearers(t)
	begun := func(from, lasts time.Duration, scope string) func() string { // by the time of the test that uses it
		return func() string { return unsecured(t, time.Now().Add(from), lasts, scope) }
	}
	fixed := func(token string) func() string { return func() string { return token } }
	for name, test := range map[string]struct {
		token func() string
		says  []string
	}{
		"accepted":           {begun(0, time.Hour, "kafka"), nil},
		"newline at the end": {func() string { return unsecured(t, time.Now(), time.Hour, "kafka") + "\n" }, nil},
		"expired":            {begun(-time.Hour, 57*time.Minute, "kafka"), []string{"the token expired 3m", "NTP"}},
		"from the future":    {begun(7*time.Minute+30*time.Second, time.Hour, "kafka"), []string{"valid in 7m", "clock", "NTP"}},
		"denied":             {begun(0, time.Hour, "other"), []string{"check kafka.sasl"}},
		"no token":           {fixed(""), []string{"token for OAUTHBEARER: empty"}},
		"two lines":          {fixed("canary\nauth=Bearer canary"), []string{"characters that no token has"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var source tokenSource
			token := test.token()
			source.token.Store(token)
			err := reach(t, source.config(cluster))
			if test.says == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			for _, words := range test.says {
				assert.Contains(t, failure.Describe(err), words)
			}
			assert.NotContains(t, err.Error(), "canary")
			if token != "" {
				assert.NotContains(t, failure.Describe(err), strings.Split(token, ".")[0], "the token is secret")
			}
		})
	}
}

// The session of a connection is as long as its token. A connection that is used
// goes on with the next token, and one whose token is not renewed ends.
func TestBearerTokenIsRenewed(t *testing.T) {
	t.Parallel()
	cluster := bearers(t)
	var source tokenSource
	const lasts = 3 * time.Second
	source.token.Store(unsecured(t, time.Now(), lasts, "kafka"))
	client := connect(t, source.config(cluster))
	first := source.asked.Load()
	ask := func() error { _, err := client.client.InitProducerID(); return err }
	require.NoError(t, ask())
	connected := source.asked.Load()
	require.Eventually(t, func() bool {
		source.token.Store(unsecured(t, time.Now(), lasts, "kafka"))
		return assert.NoError(t, ask()) && source.asked.Load() >= connected+3
	}, time.Minute, 50*time.Millisecond, "authenticates again before the session ends")
	assert.LessOrEqual(t, connected-first, int32(1), "one connection for requests, one for the first broker")
	require.Eventually(t, func() bool { return ask() != nil }, time.Minute, 50*time.Millisecond, "the last token is not renewed")
	assert.ErrorContains(t, reach(t, source.config(cluster)), "the token expired")
}

// A token is replaced before the session that it began is renewed.
func TestTokenIsFetchedBeforeItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		c := credentials{fetch: func(context.Context) (*oauth2.Token, error) {
			fetched++
			return &oauth2.Token{AccessToken: strconv.Itoa(fetched), Expiry: time.Now().Add(time.Hour)}, nil
		}}
		for after, want := range []string{0: "1", 47: "1", 48: "2", 95: "2", 96: "3"} {
			if want == "" {
				<-time.After(time.Minute)
				continue
			}
			token, err := c.token(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, token, "after %d minutes", after)
			<-time.After(time.Minute)
		}
	})
}

// A real broker and an identity provider that knows one client.
func TestConnectOAuthBearer(t *testing.T) {
	t.Parallel()
	cluster := bearers(t)
	var asked atomic.Int32
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "streamer" || secret != "right" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "bearer", "expires_in": 3600}`, unsecured(t, time.Now(), time.Hour, "kafka"))
	}))
	t.Cleanup(provider.Close)
	config := func(secret string) ClientConfig {
		c := clientConfig(cluster.Brokers())
		c.SASL = SASLConfig{
			Mechanism: "OAUTHBEARER", TokenURL: provider.URL, ClientID: "streamer", Scopes: []string{"kafka"},
			ClientSecret: func(context.Context) (string, error) { return secret, nil },
			Extensions:   map[string]string{"logicalCluster": "lkc-1", "identityPoolId": "pool-2"},
		}
		return c
	}
	require.NoError(t, reach(t, config("right")), "the broker understands the extensions")
	assert.EqualValues(t, 1, asked.Load(), "one token serves all connections")
	malformed := config("right")
	malformed.SASL.Extensions = map[string]string{"not a name": "x"}
	require.Error(t, reach(t, malformed), "it is the broker that reads them")
	err := reach(t, config("canary"))
	require.ErrorContains(t, err, "kafka.sasl.token_url")
	assert.NotContains(t, err.Error(), "canary")
}
