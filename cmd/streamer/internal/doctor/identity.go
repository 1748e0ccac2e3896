package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/awsauth"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// identity says as whom the streamer signs tokens for AWS, and whether its clock
// is right enough for that.
func (d *doctor) identity(ctx context.Context) {
	if !d.cfg.UsesAWS() {
		return
	}
	const what = "AWS identity"
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	caller, err := site.Caller(ctx, d.cfg)
	switch {
	case errors.Is(err, awsauth.ErrUnconfirmed):
		d.say(Warned, what, failure.Describe(err), "tokens do not need this service: if the logins below succeed, ignore it; "+
			"otherwise let the streamer reach it, or correct the credentials")
	case d.outcome(err, what, fmt.Sprintf("%s signs tokens for %s", caller.ARN, caller.Region)):
	}
	direction := "ahead of"
	if caller.Ahead < 0 {
		direction = "behind"
	}
	if caller.Ahead.Abs() >= awsauth.Tolerance {
		d.say(Failed, "clock of AWS", fmt.Sprintf("this machine's clock is %s %s AWS's, "+
			"which refuses tokens from a clock that is more than %s off",
			caller.Ahead.Abs().Round(time.Second), direction, awsauth.Tolerance), "synchronise this machine's clock with NTP")
	}
}

// tokensForReplication looks for the reason why a token opens SQL connections
// but none for replication.
func (d *doctor) tokensForReplication(ctx context.Context, control *replication.Control) {
	const setting = "rds.iam_auth_for_replication"
	if d.cfg.Postgres.Auth != config.AuthAWS {
		return
	}
	switch value, err := control.ProvidersSetting(ctx, setting); {
	case err != nil:
		d.outcome(err, setting, "")
	case value == "0" || value == "off":
		d.say(Failed, setting, value+": the server takes no token for replication connections, only a password",
			"set it to 1 in the parameter group of the instance or cluster; it needs no restart")
	}
}
