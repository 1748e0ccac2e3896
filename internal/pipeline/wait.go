package pipeline

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// pollInterval is how often a wait checks the clock when there is no news.
const pollInterval = time.Second

// retries are pauses with jitter that grow up to retry.max.
func (g ground) retries() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = g.config.RetryInitial, g.config.RetryMax
	return pause
}

// ring signals news to the receiver of a channel of capacity one. It never
// blocks.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
