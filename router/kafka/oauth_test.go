package kafka

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// unsecured returns a token that a broker without further settings accepts.
func unsecured(t *testing.T, subject string, lasts time.Duration) string {
	t.Helper()
	part := func(content any) string {
		text, err := json.Marshal(content)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now()
	return part(map[string]string{"alg": "none"}) + "." +
		part(map[string]any{"sub": subject, "iat": now.Unix(), "exp": now.Add(lasts).Unix()}) + "."
}

// A real broker and an identity provider that knows one client.
func TestConnectOAuthBearer(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{
		Users: map[string]string{"other": "password"},
		Settings: map[string]string{
			"sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER",
			"listener.name.client.oauthbearer.sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer." +
				"OAuthBearerLoginModule required;",
			"listener.name.client.oauthbearer.connections.max.reauth.ms": "3600000",
		},
	})
	var asked atomic.Int32
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "streamer" || secret != "right" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "bearer", "expires_in": 3600}`, unsecured(t, "streamer", time.Hour))
	}))
	t.Cleanup(provider.Close)
	config := func(secret string) ClientConfig {
		c := clientConfig(cluster.Brokers())
		c.SASL = SASLConfig{
			Mechanism: "OAUTHBEARER", TokenURL: provider.URL, ClientID: "streamer", Scopes: []string{"kafka"},
			ClientSecret: func() (string, error) { return secret, nil },
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
