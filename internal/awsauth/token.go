package awsauth

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

// Kafka returns a bearer token for the MSK cluster of a broker, "host:port". It
// is valid for 15 minutes.
func (i *Identity) Kafka(ctx context.Context, broker string) (string, error) {
	host, _, err := net.SplitHostPort(broker)
	if err != nil {
		return "", fmt.Errorf("token for MSK: %w", err)
	}
	credentials, region, err := i.credentials(ctx, host)
	if err != nil {
		return "", fmt.Errorf("token for MSK: %w", err)
	}
	token, _, err := signer.GenerateAuthTokenFromCredentialsProvider(ctx, region, credentials)
	if err != nil {
		return "", fmt.Errorf("token for MSK: %w", err)
	}
	return token, nil
}

// Postgres returns a password for a user of an RDS server, for connections that
// begin within 15 minutes.
func (i *Identity) Postgres(ctx context.Context, host string, port uint16, user string) (string, error) {
	credentials, region, err := i.credentials(ctx, host)
	if err != nil {
		return "", fmt.Errorf("token for RDS: %w", err)
	}
	endpoint := net.JoinHostPort(host, strconv.Itoa(int(port)))
	token, err := auth.BuildAuthToken(ctx, endpoint, region, user, credentials)
	if err != nil {
		return "", fmt.Errorf("token for RDS: %w", err)
	}
	return token, nil
}
