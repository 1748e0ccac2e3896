package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/proxytest"
)

// tokenLife is how long a token, and with it the session of a connection,
// lasts.
const tokenLife = 4 * time.Second

// sidecar keeps a token in a file, while it works.
type sidecar struct {
	t       *testing.T
	file    string
	stopped chan struct{}
	done    sync.WaitGroup
}

func (s *sidecar) start() {
	s.renew()
	s.stopped = make(chan struct{})
	s.done.Go(func() {
		ticker := time.NewTicker(tokenLife / 8)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.renew()
			case <-s.stopped:
				return
			}
		}
	})
}

func (s *sidecar) stop() {
	close(s.stopped)
	s.done.Wait()
}

func (s *sidecar) renew() {
	s.t.Helper()
	part := func(content any) string {
		text, err := json.Marshal(content)
		require.NoError(s.t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := float64(time.Now().UnixMilli()) / 1000
	token := part(map[string]string{"alg": "none"}) + "." +
		part(map[string]any{"sub": "streamer", "iat": now, "exp": now + tokenLife.Seconds()}) + "."
	require.NoError(s.t, os.WriteFile(s.file+".new", []byte(token), 0o600))
	require.NoError(s.t, os.Rename(s.file+".new", s.file))
}

// bearers is a Kafka that takes tokens, behind a proxy that counts connections.
func bearers(t *testing.T) (*kafkatest.Cluster, *proxytest.Proxy) {
	t.Helper()
	var proxy *proxytest.Proxy
	const listener = "listener.name.client.oauthbearer."
	cluster := kafkatest.New(t, kafkatest.Options{
		Users: map[string]string{"other": "password"},
		Settings: map[string]string{
			"sasl.enabled.mechanisms":                                     "PLAIN,OAUTHBEARER",
			listener + "sasl.jaas.config":                                 loginModule,
			listener + "connections.max.reauth.ms":                        "3600000",
			"listener.name.proxied.oauthbearer.sasl.jaas.config":          loginModule,
			"listener.name.proxied.oauthbearer.connections.max.reauth.ms": "3600000",
		},
		Proxied: func(_ int, listener string) (string, error) {
			var err error
			proxy, err = proxytest.Listen("127.0.0.1:0", listener)
			if err != nil {
				return "", err
			}
			t.Cleanup(proxy.Close)
			return proxy.Address(), nil
		},
	})
	return cluster, proxy
}

// Sessions are renewed with new tokens while events flow. No connection ends,
// and nothing is repeated. A token that is not renewed stops the flow, and the
// next one lets it go on.
// loginModule is what the brokers check tokens with.
const loginModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"

func TestTokensAreRenewedUnderLoad(t *testing.T) {
	t.Parallel()
	cluster, proxy := bearers(t)
	car := &sidecar{t: t, file: filepath.Join(t.TempDir(), "token")}
	car.start()
	r := newRig(t, outboxTable, withKafka(cluster), withConfig(
		"kafka.brokers="+strings.Join(cluster.ProxiedBrokers(), ","), "kafka.sasl.mechanism=OAUTHBEARER",
		"kafka.sasl.allow_plaintext=true", "kafka.sasl.token=file:"+car.file, "log.level=debug"))
	p := r.startReady()
	total := 0
	insert := func() {
		r.insert("order", fmt.Sprint("o", total%7), "t", fmt.Sprintf(`{"n": %d}`, total))
		total++
	}
	validated := func() int { return strings.Count(cluster.Log(0), "Successfully validated token") }
	insert()
	r.await(p, "order", 1)

	connections, logins := proxy.Accepted(), validated()
	renewals := func() int { return validated() - logins }
	began := time.Now()
	p.eventually("sessions were renewed", func() bool {
		for range 50 {
			insert()
		}
		return renewals() >= 4
	})
	r.confirmed(p)
	assert.Equal(t, connections, proxy.Accepted(), "no connection had to be opened again")
	sessions := int64(time.Since(began)/(tokenLife*8/10)) + 1
	t.Logf("%d events, %d connections, %d renewals", total, connections, renewals())
	assert.LessOrEqual(t, int64(renewals()), connections*sessions, "each connection once in a session")

	car.stop()
	refused, expired := proxy.Accepted(), time.Now()
	p.eventually("the log names the token", func() bool {
		insert()
		return strings.Contains(p.log.String(), "the token expired")
	})
	rate := float64(proxy.Accepted()-refused) / time.Since(expired).Seconds()
	t.Logf("%.1f connections a second without a token, for %s", rate, time.Since(expired))
	assert.Less(t, rate, 10.0, "no storm")
	car.start()
	defer car.stop()
	r.confirmed(p)
	assert.Equal(t, 0, p.stop())
	messages := r.records("order")
	require.Len(t, messages, total, "nothing lost, nothing repeated")
	for key, numbers := range byKey(t, messages) {
		assert.IsIncreasing(t, numbers, key)
	}
	assert.NotContains(t, p.log.String(), "eyJ", "how every token begins")
}
