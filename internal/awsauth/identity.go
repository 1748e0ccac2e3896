package awsauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/outboxstream/streamer/internal/failure"
)

// Options say which identity is used.
type Options struct {
	// Region is where MSK and RDS are. Empty: as the servers' names say, else as
	// the SDK finds it.
	Region string
	// Role is the ARN of a role to assume. Empty: the identity itself.
	Role string
}

// session names the streamer in the audit of a role that it assumes.
const session = "streamer"

// spare is how long before they expire credentials are replaced. A token does
// not outlive the credentials that have signed it.
const spare = 5 * time.Minute

// patience is how long AWS may take to issue credentials. A connection waits for
// them.
const patience = 10 * time.Second

// Identity signs tokens. It keeps credentials until they are about to expire.
// Its methods may be called from any goroutine.
type Identity struct {
	options Options

	mu     sync.Mutex
	loaded *aws.Config
}

// New returns an identity and reads nothing yet.
func New(o Options) *Identity { return &Identity{options: o} }

// identify finds the credentials, and the region of a server. The error is
// Misconfigured if a file or a variable is wrong.
func (i *Identity) identify(ctx context.Context, host string) (aws.Config, string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	named := regionOf(host)
	if i.loaded == nil {
		c, err := i.load(ctx, named)
		if err != nil {
			return aws.Config{}, "", failure.Misconfigure(fmt.Errorf("configuration of the AWS SDK: %w", err))
		}
		i.loaded = &c
	}
	for _, region := range []string{i.options.Region, named, i.loaded.Region} {
		if region != "" {
			return *i.loaded, region, nil
		}
	}
	return aws.Config{}, "", failure.Misconfigure(failure.Advise(
		errors.New("AWS region is not known: the server's name does not contain it"), "set aws.region or AWS_REGION"))
}

// load takes the region of the first server where nothing else names one.
func (i *Identity) load(ctx context.Context, region string) (aws.Config, error) {
	fresh := func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = spare }
	options := []func(*config.LoadOptions) error{config.WithCredentialsCacheOptions(fresh), config.WithDefaultRegion(region)}
	if i.options.Region != "" {
		options = append(options, config.WithRegion(i.options.Region))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err == nil && i.options.Role != "" {
		named := func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = session }
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), i.options.Role, named), fresh)
	}
	return c, err
}

// credentials makes sure that there are credentials for a server, and finds its
// region.
func (i *Identity) credentials(ctx context.Context, host string) (aws.CredentialsProvider, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, region, err := i.identify(ctx, host)
	if err != nil {
		return nil, "", err
	}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		return nil, "", unidentified(err)
	}
	return c.Credentials, region, nil
}

// unidentified explains why there are no credentials.
func unidentified(err error) error {
	return failure.Advise(fmt.Errorf("credentials from AWS: %w", err),
		"give the process an AWS identity: environment variables, a profile, IRSA, Pod Identity or an instance role; "+
			"`streamer doctor` shows which one it has")
}
