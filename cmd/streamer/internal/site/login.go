package site

import (
	"context"
	"fmt"
	"net"

	"github.com/outboxstream/streamer/internal/awsauth"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pgsession"
	"github.com/outboxstream/streamer/replication"
)

func awsIdentity(c config.Config) *awsauth.Identity {
	return awsauth.New(awsauth.Options{Region: c.AWS.Region, Role: c.AWS.Role})
}

// Caller asks AWS about the identity that signs tokens.
func Caller(ctx context.Context, c config.Config) (awsauth.Caller, error) {
	host, err := "", error(nil)
	switch {
	case c.Kafka.SASL.Mechanism == config.MechanismAWS:
		host, _, err = net.SplitHostPort(c.Kafka.Brokers[0])
	case c.Postgres.Auth == config.AuthAWS:
		host, err = hostOf(ctx, c.Postgres.DSN)
	default:
		host, err = hostOf(ctx, c.CheckpointDSN())
	}
	if err != nil {
		return awsauth.Caller{}, err
	}
	return awsIdentity(c).Caller(ctx, host)
}

func hostOf(ctx context.Context, dsn config.DSN) (string, error) {
	text, err := dsn.Reveal(ctx)
	if err != nil {
		return "", err
	}
	return replication.Host(text)
}

// login returns what gives the password of each connection; nil if the DSN does.
func login(c config.Config, auth string) pgsession.Login {
	if auth != config.AuthAWS {
		return nil
	}
	return awsIdentity(c).Postgres
}

// bearer returns the mechanism as Kafka knows it, and what gives the token of
// each authentication; nil if tokens come from the configured endpoint, or none
// is needed.
func bearer(c config.Config) (mechanism string, token func(context.Context) (string, error)) {
	s := c.Kafka.SASL
	switch {
	case s.Mechanism == config.MechanismAWS:
		identity := awsIdentity(c)
		// All brokers of a cluster are in one region.
		return config.MechanismOAuthBearer, func(ctx context.Context) (string, error) { return identity.Kafka(ctx, c.Kafka.Brokers[0]) }
	case s.Token.IsZero():
		return s.Mechanism, nil
	}
	return s.Mechanism, func(ctx context.Context) (string, error) {
		token, err := s.Token.Reveal(ctx)
		if err != nil {
			return "", fmt.Errorf("kafka.sasl.token: %w", err)
		}
		return token, nil
	}
}
