package kafka

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// A listener that expects something else than what is configured says so.
func TestConnectNamesTheMismatch(t *testing.T) {
	t.Parallel()
	plain := kafkatest.Shared(t).Brokers()
	sasl := kafkatest.New(t, kafkatest.Options{Users: map[string]string{"streamer": "right"}}).Brokers()
	encrypted, ca := encryptedBroker(t)
	noTLS, noSASL := TLSConfig{}, SASLConfig{}
	files := TLSConfig{Enabled: true, CAFile: ca}
	password := withPassword(nil, "PLAIN", "canary").SASL
	scram := withPassword(nil, "SCRAM-SHA-256", "canary").SASL
	for name, test := range map[string]struct {
		brokers      []string
		tls          TLSConfig
		sasl         SASLConfig
		problem, fix string
	}{
		"TLS as expected":                      {encrypted, files, noSASL, "", ""},
		"mechanism not offered":                {sasl, noTLS, scram, "SASL mechanism SCRAM-SHA-256: it offers PLAIN", "kafka.sasl.mechanism"},
		"SASL where there is none":             {plain, noTLS, password, "does not use SASL", "kafka.sasl.mechanism empty"},
		"no SASL where it is needed":           {sasl, noTLS, noSASL, "expects SASL: it offers PLAIN", "kafka.sasl.mechanism"},
		"TLS where there is none":              {plain, files, noSASL, "does not use TLS", "kafka.tls.enabled to false"},
		"TLS where there is only SASL":         {sasl, files, password, "does not use TLS", "kafka.tls.enabled to false"},
		"no TLS where it is needed":            {encrypted, noTLS, noSASL, "expects TLS", "kafka.tls.enabled to true"},
		"SASL without TLS where TLS is needed": {encrypted, noTLS, password, "expects TLS", "kafka.tls.enabled to true"},
		"SASL over TLS where there is none":    {encrypted, files, password, "does not use SASL", "kafka.sasl.mechanism empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientConfig(test.brokers)
			c.TLS, c.SASL = test.tls, test.sasl
			began := time.Now()
			client, err := Connect(c)
			if test.problem == "" {
				require.NoError(t, err)
				client.Close()
				return
			}
			require.ErrorContains(t, err, test.problem)
			require.ErrorContains(t, err, "listener "+test.brokers[0])
			assert.Contains(t, failure.Fix(err), test.fix)
			assert.NotContains(t, failure.Describe(err), "canary")
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
			assert.Less(t, time.Since(began), 10*time.Second)
		})
	}
}

// encryptedBroker is a real broker with a listener that uses TLS, and the file
// of its certificate authority.
func encryptedBroker(t *testing.T) (brokers []string, ca string) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	t.Cleanup(server.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	content, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: content})
	ca, store := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "store.pem")
	require.NoError(t, os.WriteFile(ca, certificate, 0o600))
	require.NoError(t, os.WriteFile(store, append(key, certificate...), 0o644))
	// kafkatest itself uses the listener without TLS.
	cluster := kafkatest.New(t, kafkatest.Options{
		Proxied: func(_ int, listener string) (string, error) { return listener, nil },
		Settings: map[string]string{
			"listener.security.protocol.map":              "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:SSL",
			"listener.name.proxied.ssl.keystore.type":     "PEM",
			"listener.name.proxied.ssl.keystore.location": store,
		},
	})
	return cluster.ProxiedBrokers(), ca
}

// What does not answer, or is not Kafka, is not explained.
func TestConnectExplainsNothingItDoesNotKnow(t *testing.T) {
	t.Parallel()
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { hangsUp.Close() })
	go func() {
		for {
			conn, err := hangsUp.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	for name, address := range map[string]string{
		"hangs up": hangsUp.Addr().String(), "is silent": web.Listener.Addr().String(), "refuses": "127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientConfig([]string{address})
			config, err := saramaConfig(c)
			require.NoError(t, err)
			began := time.Now()
			require.NoError(t, diagnose(c, config))
			assert.Less(t, time.Since(began), 2*probePatience)
		})
	}
}

// What a broker answers is the cause, where its listener fits.
func TestConnectPassesOnTheAnswer(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t, kfake.NumBrokers(1))
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLHandshakeResponse)
		response.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		response.SupportedMechanisms = []string{"PLAIN"} // it changes its mind
		return response, nil, true
	})
	_, err := Connect(withPassword(cluster.Brokers(), "PLAIN", "canary"))
	require.ErrorIs(t, err, sarama.ErrUnsupportedSASLMechanism)
	assert.Contains(t, failure.Fix(err), "kafka.sasl")
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}

// An answer that is not Kafka's is not believed, whatever it says.
func TestReadHandshake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer string
		want   listener
		wrong  bool
	}{
		"offers":       {"\x00\x00\x00\x13\x00\x00\x00\x01\x00\x21\x00\x00\x00\x01\x00\x05PLAIN", listener{true, []string{"PLAIN"}}, false},
		"no SASL":      {"\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x22\x00\x00\x00\x00", listener{}, false},
		"another code": {"\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00", listener{}, true},
		"another id":   {"\x00\x00\x00\x0a\x00\x00\x00\x02\x00\x21\x00\x00\x00\x00", listener{}, true},
		"too many":     {"\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x21\x7f\x00\x00\x00", listener{}, true},
		"negative":     {"\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x21\xff\xff\xff\xff", listener{}, true},
		"cut off":      {"\x00\x00\x00\x13\x00\x00\x00\x01\x00\x21\x00\x00\x00\x01\x00\x05PL", listener{}, true},
		"no length":    {"\x00\x00\x00\x13\x00\x00\x00\x01\x00\x21\x00\x00\x00\x01", listener{}, true},
		"an alert":     {"\x15\x03\x03\x00\x02\x02\x46", listener{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readHandshake(bytes.NewBufferString(test.answer), 1)
			assert.Equal(t, test.wrong, err != nil, fmt.Sprint(err))
			if err == nil {
				assert.Equal(t, test.want, got)
			}
		})
	}
}

// A broker that rejects the client's certificate says so on the encrypted
// connection.
func TestConnectWithoutTheCertificateItNeeds(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	for name, newest := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demanding := server.TLS.Clone()
			demanding.ClientAuth, demanding.MaxVersion = tls.RequireAndVerifyClientCert, newest
			c := clientConfig(fake.Start(t, kfake.NumBrokers(1), kfake.TLS(demanding)).Brokers())
			_, err := Connect(c)
			require.ErrorContains(t, err, "expects TLS")
			c.TLS = TLSConfig{Enabled: true, CAFile: ca}
			_, err = Connect(c)
			require.Error(t, err)
			assert.Contains(t, failure.Fix(err), "kafka.tls.cert_file")
			assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
}
