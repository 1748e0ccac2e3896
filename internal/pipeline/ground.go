package pipeline

import "log/slog"

// ground is what all parts of a pipeline share. Any goroutine may use all of
// it.
type ground struct {
	config  *Config // read-only
	purpose purpose
	log     *slog.Logger
	state   *state
	lag     *lag
	company *company
}

func newGround(c Config) ground {
	return ground{config: &c, purpose: purposeOf(c), log: c.Log, state: &state{changed: c.Metrics.Phase}, lag: &lag{}, company: &company{}}
}
