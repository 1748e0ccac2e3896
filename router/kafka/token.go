package kafka

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/outboxstream/streamer/internal/failure"
)

// tokenTimeout bounds the search for one token. The connection waits meanwhile.
const tokenTimeout = 10 * time.Second

// tokens gives sarama a bearer token for each authentication: of a connection,
// and again before its session expires (KIP-368).
type tokens struct {
	ask        func(context.Context) (string, error)
	extensions map[string]string

	mu   sync.Mutex // each broker connection asks separately
	last string
}

func (s SASLConfig) tokens() *tokens {
	if s.Token != nil {
		return &tokens{ask: s.Token, extensions: s.Extensions}
	}
	return &tokens{ask: (&credentials{fetch: s.fetch}).token, extensions: s.Extensions}
}

// wellFormed is what RFC 6750 allows. Anything else would change the message
// that contains the token.
var wellFormed = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// Token returns a token for an authentication that begins now.
func (t *tokens) Token() (*sarama.AccessToken, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	text, err := t.ask(ctx)
	if err != nil {
		return nil, err
	}
	text = strings.TrimSpace(text)
	if !wellFormed.MatchString(text) {
		return nil, errors.New("token for OAUTHBEARER: empty, or with characters that no token has")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = text
	return &sarama.AccessToken{Token: text, Extensions: t.extensions}, nil
}

// explainToken adds to a broker's refusal what the token itself says about it.
func explainToken(config *sarama.Config, refusal error) error {
	t, ok := config.Net.SASL.TokenProvider.(*tokens)
	if !ok || !errors.Is(refusal, sarama.ErrSASLAuthenticationFailed) {
		return refusal
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if problem := validityOf(t.last).problem(time.Now()); problem != "" {
		return failure.Advise(fmt.Errorf("%w (%s)", refusal, problem),
			"make sure that the token is renewed in time, and synchronise the clocks with NTP")
	}
	return refusal
}

// credentials gets tokens with OAuth 2.0 client credentials and keeps each for
// most of its life.
type credentials struct {
	fetch func(context.Context) (*oauth2.Token, error)

	mu    sync.Mutex
	last  *oauth2.Token
	until time.Time // last is used; zero: for ever
}

// freshShare is the part of a token's life for which it is used. It is smaller
// than the part of a session after which sarama authenticates again (85 %).
// Otherwise the same token would be sent for ever shorter sessions.
const freshShare = 0.8

func (c *credentials) token(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if c.last == nil || !c.until.IsZero() && !began.Before(c.until) {
		fetched, err := c.fetch(ctx)
		if err != nil {
			return "", err
		}
		c.last, c.until = fetched, time.Time{}
		if !fetched.Expiry.IsZero() {
			c.until = began.Add(time.Duration(freshShare * float64(fetched.Expiry.Sub(began))))
		}
	}
	return c.last.AccessToken, nil
}

// fetch asks the token endpoint.
func (s SASLConfig) fetch(ctx context.Context) (*oauth2.Token, error) {
	secret, err := s.ClientSecret(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl.client_secret: %w", err)
	}
	source := clientcredentials.Config{ClientID: s.ClientID, ClientSecret: secret, TokenURL: s.TokenURL, Scopes: s.Scopes}
	token, err := source.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token from kafka.sasl.token_url: %w", err)
	}
	return token, nil
}
