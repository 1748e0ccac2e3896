package awsauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Tolerance is how far the clock may be off. AWS refuses signatures beyond.
const Tolerance = 5 * time.Minute

// Caller is what AWS's Security Token Service says about the identity.
type Caller struct {
	Region string // for which tokens are signed
	ARN    string // empty if the service did not answer
	// Ahead is how far this machine's clock is ahead of AWS's. It is zero if the
	// service did not answer at all.
	Ahead time.Duration
}

// ErrUnconfirmed means that there are credentials, but the service could not be
// asked about them. Tokens may still be good: the network may not lead there.
var ErrUnconfirmed = errors.New("identity not confirmed by the AWS Security Token Service")

// Caller asks who the identity is and what time it is. host is one of the
// servers for which tokens are signed.
func (i *Identity) Caller(ctx context.Context, host string) (Caller, error) {
	c, region, err := i.identify(ctx, host)
	if err != nil {
		return Caller{}, err
	}
	caller := Caller{Region: region}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		caller.Ahead = aheadOf(err)
		return caller, unidentified(err)
	}
	if c.Region == "" {
		c.Region = region
	}
	answer, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		caller.Ahead = aheadOf(err)
		return caller, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	caller.ARN = aws.ToString(answer.Arn)
	if there, ok := middleware.GetServerTime(answer.ResultMetadata); ok {
		here, _ := middleware.GetResponseAt(answer.ResultMetadata)
		caller.Ahead = here.Sub(there)
	}
	return caller, nil
}

// aheadOf reads AWS's clock from a refusal.
func aheadOf(err error) time.Duration {
	refusal, ok := errors.AsType[*http.ResponseError](err)
	if !ok || refusal.Response == nil {
		return 0
	}
	there, err := time.Parse(time.RFC1123, refusal.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Since(there)
}
