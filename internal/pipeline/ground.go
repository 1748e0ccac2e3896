package pipeline

import "log/slog"

// ground is what every part of a pipeline stands on. All of it may be used by any
// goroutine.
type ground struct {
	config  *Config // nobody changes it
	purpose purpose
	log     *slog.Logger
	state   *state
	lag     *lag
}

func newGround(c Config) ground {
	return ground{config: &c, purpose: purposeOf(c), log: c.Log, state: &state{changed: c.Metrics.Phase}, lag: &lag{}}
}
