package kafka

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// SASLConfig is how to authenticate. Secrets are functions because they are
// read again for each connection: a rotated secret is used without a restart.
type SASLConfig struct {
	Mechanism string // empty, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	Username  string
	Password  func(context.Context) (string, error)
	// Token returns a bearer token for OAUTHBEARER. It is asked for one at every
	// connection and every re-authentication. Without it, TokenURL is.
	Token        func(context.Context) (string, error)
	Advice       string // if a broker refuses; empty: to check the configuration
	TokenURL     string
	ClientID     string
	ClientSecret func(context.Context) (string, error)
	Scopes       []string
	Extensions   map[string]string // of OAUTHBEARER, sent with each token
}

func (s SASLConfig) apply(config *sarama.Config) error {
	if s.Mechanism == "" {
		return nil
	}
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
	config.Net.SASL.Version = sarama.SASLHandshakeV1
	if s.Mechanism == sarama.SASLTypeOAuth {
		config.Net.SASL.TokenProvider = s.tokens()
		return nil
	}
	password, err := s.Password(context.Background())
	if err != nil {
		return fmt.Errorf("kafka.sasl.password: %w", err)
	}
	config.Net.SASL.User, config.Net.SASL.Password = s.Username, password
	config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
		hash := scram.SHA512
		if s.Mechanism == sarama.SASLTypeSCRAMSHA256 {
			hash = scram.SHA256
		}
		return &scramClient{hash: hash, password: s.Password}
	}
	return nil
}

// scramClient lets sarama speak SCRAM.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	password     func(context.Context) (string, error)
	conversation *scram.ClientConversation
}

// Begin starts an exchange with the current password.
func (c *scramClient) Begin(user, _, authorization string) error {
	password, err := c.password(context.Background())
	if err != nil {
		return fmt.Errorf("kafka.sasl.password: %w", err)
	}
	client, err := c.hash.NewClient(user, password, authorization)
	if err != nil {
		return fmt.Errorf("SCRAM client: %w", err)
	}
	c.conversation = client.NewConversation()
	return nil
}

func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }
func (c *scramClient) Done() bool                            { return c.conversation.Done() }
