package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// SASLConfig is how to authenticate. Secrets are functions because they are
// read again for each connection: a rotated secret is used without a restart.
type SASLConfig struct {
	Mechanism    string // empty, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	Username     string
	Password     func() (string, error)
	TokenURL     string
	ClientID     string
	ClientSecret func() (string, error)
	Scopes       []string
	Extensions   map[string]string // sent with the token of OAUTHBEARER
}

func (s SASLConfig) apply(config *sarama.Config) error {
	if s.Mechanism == "" {
		return nil
	}
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
	config.Net.SASL.Version = sarama.SASLHandshakeV1
	if s.Mechanism == sarama.SASLTypeOAuth {
		config.Net.SASL.TokenProvider = &tokenProvider{config: s}
		return nil
	}
	password, err := s.Password()
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
	password     func() (string, error)
	conversation *scram.ClientConversation
}

// Begin starts an exchange with the current password.
func (c *scramClient) Begin(user, _, authorization string) error {
	password, err := c.password()
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

// tokenProvider fetches tokens with OAuth 2.0 client credentials and keeps each
// until shortly before it expires.
type tokenProvider struct {
	config SASLConfig

	mu   sync.Mutex // each broker connection asks separately
	last *oauth2.Token
}

const tokenTimeout = 10 * time.Second

// Token returns a token that is still valid.
func (t *tokenProvider) Token() (*sarama.AccessToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.Valid() {
		secret, err := t.config.ClientSecret()
		if err != nil {
			return nil, fmt.Errorf("kafka.sasl.client_secret: %w", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
		defer cancel()
		source := clientcredentials.Config{
			ClientID: t.config.ClientID, ClientSecret: secret, TokenURL: t.config.TokenURL, Scopes: t.config.Scopes,
		}
		if t.last, err = source.Token(ctx); err != nil {
			return nil, fmt.Errorf("token from kafka.sasl.token_url: %w", err)
		}
	}
	return &sarama.AccessToken{Token: t.last.AccessToken, Extensions: t.config.Extensions}, nil
}
