package pipeline

import (
	"sync"
	"time"
)

// Phase is what the pipeline is doing, for operators and health checks.
type Phase string

// The phases.
const (
	Starting Phase = "starting"
	Standby  Phase = "standby" // another instance holds the lock or the slot
	// Snapshotting is publishing the rows from before the slot.
	Snapshotting Phase = "snapshot"
	Streaming    Phase = "streaming"
	Blocked      Phase = "blocked" // the broker does not acknowledge
	Waiting      Phase = "waiting" // between two sessions, after an error
	Draining     Phase = "draining"
)

// Phases returns all phases.
func Phases() []Phase {
	return []Phase{Starting, Standby, Snapshotting, Streaming, Blocked, Waiting, Draining}
}

// Status is a snapshot of the pipeline.
type Status struct {
	Phase  Phase
	Detail string    // the reason, if there is one
	Since  time.Time // start of the phase
}

// Ready reports whether the instance does its job: it publishes or stands by.
func (s Status) Ready() bool {
	return s.Phase == Snapshotting || s.Phase == Streaming || s.Phase == Standby
}

type state struct {
	mu      sync.Mutex
	status  Status
	changed func(Phase) // called with mu held
}

func (s *state) set(phase Phase, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Phase != phase {
		s.status.Since = time.Now()
		s.changed(phase)
	}
	s.status.Phase, s.status.Detail = phase, detail
}

// now is the current state.
func (s *state) now() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	if status.Phase == "" {
		status.Phase = Starting
	}
	return status
}

// Status returns what the pipeline is doing. Any goroutine may call it.
func (p *Pipeline) Status() Status { return p.state.now() }
