package awstest

import (
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

// MSK checks the tokens that a fake Kafka is given, as MSK's brokers do.
type MSK struct {
	cloud *Cloud

	mu     sync.Mutex
	logins []Token
}

// MSK makes a fake Kafka ask for tokens. session is how long a login lasts; 0:
// for ever.
func (c *Cloud) MSK(cluster fake.Cluster, session time.Duration) *MSK {
	m := &MSK{cloud: c}
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLHandshakeResponse)
		response.SupportedMechanisms = []string{"OAUTHBEARER"}
		return response, nil, true
	})
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		message := string(request.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)
		token, ok := strings.CutPrefix(strings.TrimRight(message, "\x01"), "n,,\x01auth=Bearer ")
		login, err := c.CheckKafka(token)
		if !ok || err != nil || login.Action != "kafka-cluster:Connect" {
			response.ErrorCode, response.ErrorMessage = kerr.SaslAuthenticationFailed.Code, new("Access denied")
			return response, nil, true
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.logins = append(m.logins, login)
		response.SessionLifetimeMillis = session.Milliseconds()
		return response, nil, true
	})
	return m
}

// Logins are the tokens that were accepted.
func (m *MSK) Logins() []Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Token{}, m.logins...)
}
