package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/awstest"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/testserver"
)

// tokenLife is how long a token, and with it the session of a connection,
// lasts.
const tokenLife = 4 * time.Second

// sidecar keeps a token in a file, until it is stopped.
type sidecar struct {
	t    *testing.T
	file string
	stop func()
}

func (s *sidecar) start() {
	s.renew()
	stopped := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(tokenLife / 8)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.renew()
			case <-stopped:
				return
			}
		}
	})
	s.stop = sync.OnceFunc(func() {
		close(stopped)
		running.Wait()
	})
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

// loginModule is what the brokers check tokens with.
const loginModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"

// renewing is a Kafka that asks for tokens, whose logins last for tokenLife, and
// a streamer that gets them.
type renewing struct {
	*rig
	connections func() int64                     // that the streamer has opened
	logins      func() int                       // with those that renew a session
	records     func() []*sarama.ConsumerMessage // of the topic "order"
	dry         func()                           // from now on there are no new tokens
	says        string                           // the log then
	flow        func()                           // there are tokens again

	p     *process
	total int // events
}

// play asserts that sessions are renewed with new tokens while events flow. No
// connection ends, and nothing is repeated. A token that cannot be renewed stops
// the flow, and the next one lets it go on.
func (k *renewing) play() {
	k.t.Helper()
	k.p = k.startReady()
	k.one()
	k.confirmed(k.p)
	k.renews()
	k.dry()
	k.stops()
	k.flow()
	k.confirmed(k.p)
	assert.Equal(k.t, 0, k.p.stop())
	messages := k.records()
	require.Len(k.t, messages, k.total, "nothing lost, nothing repeated")
	for key, numbers := range byKey(k.t, messages) {
		assert.IsIncreasing(k.t, numbers, key)
	}
}

// one commits an event.
func (k *renewing) one() {
	k.insert("order", fmt.Sprint("o", k.total%7), "t", fmt.Sprintf(`{"n": %d}`, k.total))
	k.total++
}

// renews waits until a connection in use has renewed its session three times.
func (k *renewing) renews() {
	k.t.Helper()
	connections, logins := k.connections(), k.logins()
	renewals := func() int { return k.logins() - logins }
	began := time.Now()
	k.p.eventually("sessions were renewed", func() bool {
		for range 50 {
			k.one()
		}
		return renewals() >= 3 && time.Since(began) >= 3*tokenLife
	})
	k.confirmed(k.p)
	assert.Equal(k.t, connections, k.connections(), "no connection had to be opened again")
	sessions := int64(time.Since(began)/(tokenLife*8/10)) + 1
	k.t.Logf("%d events, %d connections, %d renewals", k.total, connections, renewals())
	assert.LessOrEqual(k.t, int64(renewals()), connections*sessions, "each connection once in a session")
}

// stops waits until the log says that there is no token.
func (k *renewing) stops() {
	k.t.Helper()
	connections, began := k.connections(), time.Now()
	k.p.eventually("the log names the token", func() bool {
		k.one()
		return strings.Contains(k.p.log.String(), k.says) && time.Since(began) >= 2*tokenLife
	})
	rate := float64(k.connections()-connections) / time.Since(began).Seconds()
	k.t.Logf("%.1f connections a second without a token, for %s", rate, time.Since(began))
	assert.Less(k.t, rate, 5.0, "no storm")
}

// Tokens of OAUTHBEARER come from a file that is kept up to date.
func TestTokensAreRenewedUnderLoad(t *testing.T) {
	testserver.Long(t)
	t.Parallel()
	const listener = "listener.name.client.oauthbearer."
	cluster, proxy := behindProxy(t, kafkatest.Options{
		Users: map[string]string{"other": "password"},
		Settings: map[string]string{
			"sasl.enabled.mechanisms":                                     "PLAIN,OAUTHBEARER",
			listener + "sasl.jaas.config":                                 loginModule,
			listener + "connections.max.reauth.ms":                        "3600000",
			"listener.name.proxied.oauthbearer.sasl.jaas.config":          loginModule,
			"listener.name.proxied.oauthbearer.connections.max.reauth.ms": "3600000",
		},
	})
	car := &sidecar{t: t, file: filepath.Join(t.TempDir(), "token")}
	car.start()
	t.Cleanup(func() { car.stop() })
	r := newRig(t, outboxTable, withKafka(cluster), withConfig(
		"kafka.brokers="+proxy.Address(), "kafka.sasl.mechanism=OAUTHBEARER",
		"kafka.sasl.allow_plaintext=true", "kafka.sasl.token=file:"+car.file, "log.level=debug"))
	k := renewing{
		rig: r, connections: proxy.Accepted,
		logins:  func() int { return strings.Count(cluster.Log(0), "Successfully validated token") },
		records: func() []*sarama.ConsumerMessage { return r.records("order") },
		dry:     func() { car.stop() }, says: "the token expired", flow: car.start,
	}
	k.play()
	assert.NotContains(t, k.p.log.String(), "eyJ", "how every token begins")
}

// Tokens of AWS_MSK_IAM are signed with credentials that are replaced as often as
// the tokens are.
func TestTokensOfAWSAreRenewedUnderLoad(t *testing.T) { //nolint:paralleltest // it sets environment variables
	cloud := awstest.New(t)
	cloud.WebIdentity(t)
	cloud.Last(time.Minute) // less than the streamer keeps in reserve
	var connections atomic.Int64
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
		return counting{listener, &connections}, err
	}))
	msk := cloud.MSK(cluster, tokenLife)
	r := newRig(t, outboxTable, withConfig(
		"aws.region="+awstest.Region, "kafka.brokers="+strings.Join(cluster.Brokers(), ","),
		"kafka.sasl.mechanism=AWS_MSK_IAM", "kafka.sasl.allow_plaintext=true", "log.level=debug"))
	k := renewing{
		rig: r, connections: connections.Load,
		logins: func() int { return len(msk.Logins()) },
		records: func() []*sarama.ConsumerMessage {
			messages, err := kafkatest.Consume(t.Context(), cluster.Brokers(), r.topic("order"))
			require.NoError(t, err)
			return messages
		},
		dry: func() { cloud.Refuse(true) }, says: "not today", flow: func() { cloud.Refuse(false) },
	}
	k.play()
	signers := map[string]bool{}
	for _, login := range msk.Logins() {
		assert.False(t, signers[login.Key], "each token is signed with new credentials")
		signers[login.Key] = true
	}
	for _, secret := range cloud.Secrets() {
		assert.NotContains(t, k.p.log.String(), secret)
	}
}

// counting counts the connections that a listener accepts.
type counting struct {
	net.Listener
	accepted *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}
