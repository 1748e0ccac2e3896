package process

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// sampleEvery bounds how much is missed of a process that ends between two
// samples.
const sampleEvery = 20 * time.Millisecond

// Usage is what was consumed from the start of the sampler up to a moment.
type Usage struct {
	At         time.Time
	Machine    time.Duration // by everything on all cores; since the machine started
	Harness    time.Duration // by this process; since it started
	Client     time.Duration // by the contender
	Backends   time.Duration // by the PostgreSQL backends that serve it
	Broker     time.Duration // by Kafka
	PeakMemory int64         // of the contender, in bytes
}

// Sampler watches a contender and the servers it uses. Everything that a
// postmaster starts after [NewSampler] serves the contender: the harness opens
// no connections meanwhile, and autovacuum is off.
type Sampler struct {
	postmaster, broker int
	before             []int // children of the postmaster from before the contender
	brokerBefore       time.Duration

	mu       sync.Mutex
	client   int // 0: not started yet
	usage    Usage
	backends map[int]time.Duration // the last seen of each, including those that have ended

	stop    chan struct{}
	stopped sync.WaitGroup
}

// NewSampler begins to watch the servers; a process ID of 0 is not watched. The
// caller must call [Sampler.Stop].
func NewSampler(postmaster, broker int) (*Sampler, error) {
	s := &Sampler{postmaster: postmaster, broker: broker, backends: map[int]time.Duration{}, stop: make(chan struct{})}
	var err error
	if postmaster != 0 {
		if s.before, err = Children(postmaster); err != nil {
			return nil, err
		}
	}
	if broker != 0 {
		if s.brokerBefore, err = CPU(broker); err != nil {
			return nil, err
		}
	}
	s.stopped.Go(s.run)
	return s, nil
}

// Watch begins to watch the contender.
func (s *Sampler) Watch(client int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = client
}

// Stop ends the watching.
func (s *Sampler) Stop() {
	close(s.stop)
	s.stopped.Wait()
}

func (s *Sampler) run() {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Usage()
		case <-s.stop:
			return
		}
	}
}

// Usage takes a sample and returns the usage so far. A process that has ended
// keeps its last seen usage.
func (s *Sampler) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != 0 {
		if used, err := CPU(s.client); err == nil {
			s.usage.Client = max(s.usage.Client, used)
		}
		if peak, err := PeakMemory(s.client); err == nil {
			s.usage.PeakMemory = max(s.usage.PeakMemory, peak)
		}
	}
	if s.broker != 0 {
		if used, err := CPU(s.broker); err == nil {
			s.usage.Broker = used - s.brokerBefore
		}
	}
	s.sampleBackends()
	if busy, err := machineBusy(); err == nil {
		s.usage.Machine = busy
	}
	s.usage.At, s.usage.Harness = time.Now(), ourselves()
	return s.usage
}

func (s *Sampler) sampleBackends() {
	if s.postmaster == 0 {
		return
	}
	children, err := Children(s.postmaster)
	if err != nil {
		return // it has ended, and its user will report that
	}
	for _, pid := range children {
		if slices.Contains(s.before, pid) {
			continue
		}
		if used, err := CPU(pid); err == nil {
			s.backends[pid] = max(s.backends[pid], used)
		}
	}
	s.usage.Backends = 0
	for used := range maps.Values(s.backends) {
		s.usage.Backends += used
	}
}
