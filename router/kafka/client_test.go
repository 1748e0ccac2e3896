package kafka

import (
	"context"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/testserver"
)

func clientConfig(brokers []string) ClientConfig {
	return ClientConfig{Brokers: brokers, ClientID: "streamer-test", RequestTimeout: 5 * time.Second}
}

func connect(t *testing.T, c ClientConfig) *Client {
	t.Helper()
	client, err := Connect(c)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// reach connects and sends a request.
func reach(t *testing.T, c ClientConfig) error {
	t.Helper()
	client, err := Connect(c)
	if err != nil {
		return err
	}
	defer client.Close()
	_, _, err = client.InitProducerID(t.Context())
	return err
}

func TestConnectUnreachable(t *testing.T) {
	t.Parallel()
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	address := "127.0.0.1:" + strconv.Itoa(ports[0])
	err = reach(t, clientConfig([]string{address}))
	require.ErrorContains(t, err, address)
	assert.Equal(t, failure.Transient, failure.ClassOf(err))
}

func TestConnectRefusesItsConfiguration(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, test := range map[string]struct {
		spoil   func(*ClientConfig)
		problem string
	}{
		"version":     {func(c *ClientConfig) { c.Version = "new" }, "kafka.version"},
		"old version": {func(c *ClientConfig) { c.Version = "2.3.1" }, "older than 2.4.0"},
		"no brokers":  {func(c *ClientConfig) { c.Brokers = nil }, "connect to Kafka"},
		"CA file":     {func(c *ClientConfig) { c.TLS = TLSConfig{Enabled: true, CAFile: missing} }, "kafka.tls.ca_file"},
		"certificate": {func(c *ClientConfig) { c.TLS = TLSConfig{Enabled: true, CertFile: missing, KeyFile: missing} }, "kafka.tls.cert_file"},
		"password": {func(c *ClientConfig) {
			c.SASL = SASLConfig{
				Mechanism: "PLAIN", Username: "u",
				Password: func(context.Context) (string, error) { return "", failure.Misconfigure(os.ErrNotExist) },
			}
		}, "kafka.sasl.password"},
		"mechanism": {func(c *ClientConfig) {
			c.SASL = SASLConfig{Mechanism: "NONE", Username: "u", Password: func(context.Context) (string, error) { return "p", nil }}
		}, "SASL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientConfig([]string{"127.0.0.1:1"})
			test.spoil(&c)
			_, err := Connect(c)
			require.ErrorContains(t, err, test.problem)
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
}

// Renewed files are used for the next connection.
func TestCertificateAuthoritiesAreReadAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	right := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, right, 0o600))
	c := clientConfig(nil)
	c.TLS = TLSConfig{Enabled: true, CAFile: ca}
	config, err := saramaConfig(c)
	require.NoError(t, err)
	dial := func() error {
		conn, err := config.Net.Proxy.Dialer.Dial("tcp", server.Listener.Addr().String())
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	require.NoError(t, dial())
	require.NoError(t, os.WriteFile(ca, []byte("nothing of use"), 0o600))
	require.ErrorContains(t, dial(), "kafka.tls.ca_file")
	require.NoError(t, os.WriteFile(ca, right, 0o600))
	require.NoError(t, dial())
}

func withPassword(brokers []string, mechanism, password string) ClientConfig {
	c := clientConfig(brokers)
	c.SASL = SASLConfig{Mechanism: mechanism, Username: "streamer", Password: func(context.Context) (string, error) { return password, nil }}
	return c
}

func TestConnectSASL(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			cluster := fake.Start(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "streamer", "right"))
			require.NoError(t, reach(t, withPassword(cluster.Brokers(), mechanism, "right")))
			require.Error(t, reach(t, withPassword(cluster.Brokers(), mechanism, "incorrect")))
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		// The fake hangs up instead of saying why.
		cluster := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}})
		err := reach(t, withPassword(cluster.Brokers(), "PLAIN", "incorrect"))
		assert.Contains(t, failure.Fix(err), "kafka.sasl")
		assert.NotContains(t, err.Error(), "incorrect")
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
	})
}

func TestConnectTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, text, 0o600))
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.TLS(server.TLS.Clone()))
	c := clientConfig(cluster.Brokers())
	c.TLS = TLSConfig{Enabled: true, CAFile: ca}
	require.NoError(t, reach(t, c))
	c.TLS = TLSConfig{Enabled: true, CAFile: ca, ServerName: "other.test"}
	require.Equal(t, failure.Misconfigured, failure.ClassOf(reach(t, c)))
	c.TLS = TLSConfig{Enabled: true}
	err := reach(t, c)
	require.Contains(t, failure.Fix(err), "kafka.tls.ca_file")
	require.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}

func TestCreateTopic(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	client := connect(t, clientConfig(cluster.Brokers()))
	name := kafkatest.TopicName(t)
	there, err := client.HasTopic(name)
	require.NoError(t, err)
	assert.False(t, there)
	require.ErrorIs(t, client.Refresh(name), sarama.ErrUnknownTopicOrPartition)

	require.NoError(t, client.Create(name), "off by default")
	require.ErrorIs(t, client.Refresh(name), sarama.ErrUnknownTopicOrPartition)

	topic := TopicConfig{Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{"max.message.bytes": "123456"}}
	created, err := client.CreateTopic(name, topic)
	require.NoError(t, err)
	assert.True(t, created)
	require.NoError(t, client.waitTopic(t.Context(), name))
	created, err = client.CreateTopic(name, TopicConfig{})
	require.NoError(t, err)
	assert.False(t, created, "an existing topic stays")
	count, err := client.Partitions(name)
	require.NoError(t, err)
	assert.Equal(t, 3, count)
	value, err := client.TopicSetting(name, "max.message.bytes")
	require.NoError(t, err)
	assert.Equal(t, "123456", value)
	_, err = client.TopicSetting(name, "no.such.setting")
	require.Error(t, err)
	names, err := client.Topics(name[:len(name)-1])
	require.NoError(t, err)
	assert.Contains(t, names, name)
	for refused, topic := range map[string]TopicConfig{
		"no topic!":            {},
		kafkatest.TopicName(t): {Configs: map[string]string{"no.such.setting": "1"}},
	} {
		_, err = client.CreateTopic(refused, topic)
		require.ErrorContains(t, err, refused)
		assert.Equal(t, failure.Refused, failure.ClassOf(err), "it will never be created")
		assert.NotEmpty(t, failure.Fix(err))
	}
	_, err = client.CreateTopic(kafkatest.TopicName(t), TopicConfig{ReplicationFactor: 9})
	require.Error(t, err)
	assert.Equal(t, failure.Transient, failure.ClassOf(err), "brokers may join")
}
