// Package model is a Kafka cluster in memory that keeps Kafka's rules for
// idempotent and transactional producers:
//   - It checks sequences.
//   - It remembers the last five batches of a producer.
//   - An unknown producer may begin anywhere.
//   - A producer is forgotten when its newest record has aged.
//   - An aborted transaction carries the epoch of its producer into the
//     partitions that it names.
//
// A script says what goes wrong. The model is made for a synctest bubble.
//
// Start reading at Cluster. The package knows sarama's requests and nothing of
// the streamer: a test adapts the model to the interface of the code under
// test.
package model

import (
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Expiry is how long a partition remembers a producer, counted from the time of
// its newest record (producer.id.expiration.ms).
const Expiry = 24 * time.Hour

// Cluster is the model. Once producers are running, its fields are guarded by
// the embedded mutex; scripts are set up before that.
type Cluster struct {
	sync.Mutex
	*Client // for tests that need only one
	changed *sync.Cond

	Topics   map[string]*Topic
	Requests int // produce requests so far
	Created  int // calls of Create
	Expiry   time.Duration

	Faults           map[Place]Fault
	MaxRecords       int                      // maximum in a batch, 0 for any number
	Poison           map[string]sarama.KError // event IDs that are never accepted
	Latency          func(node int) time.Duration
	RefreshFault     func(topic string) error // scripted metadata errors
	CreateFault      func(topic string) error // scripted errors of Create
	CreatePartitions int                      // number that Create creates; 0 creates nothing

	brokers int
	frozen  chan struct{} // closed when the cluster continues; nil while it works
	stamp   int           // of the next record written, across all partitions
	ids     int64
	owners  map[string]*ownership // by transactional ID
}

// Place is the n-th arrival of a batch at a partition, from 0.
type Place struct {
	Topic     string
	Partition int32
	Arrival   int
}

// Kind is a kind of fault.
type Kind int

// The kinds of faults.
const (
	NoFault     Kind = iota
	ErrorBefore      // Code, nothing is written
	ErrorAfter       // Code, but written
	DropBlock        // written, but the response does not mention it
	CutBefore        // the connection ends, nothing is written
	CutAfter         // written, but the response is lost with the connection
	Ghost            // the connection ends; the broker handles the request a minute later
	RefuseSend       // AsyncProduce returns an error and never calls back
	Move             // the leader moves, NOT_LEADER
	Leaderless       // no leader for a while, then another one
	Growth           // the topic gets two more partitions
	Stall            // nothing happens for half a minute, then the connection ends
	Slow             // the answer takes seconds
	KindEnd
)

// String names the kind in the names of tests.
func (k Kind) String() string { return kinds[k] }

var kinds = [KindEnd]string{
	"no fault", "an error before the append", "an error after the append", "a block without a response",
	"a cut before the append", "a cut after the append", "a ghost", "a refused send", "a moving leader", "no leader",
	"a growing topic", "a stall", "a slow answer",
}

// Fault is what goes wrong, and the error code if there is one.
type Fault struct {
	Kind Kind
	Code sarama.KError
}

// At returns a place.
func At(topic string, partition int32, arrival int) Place { return Place{topic, partition, arrival} }

// Fail returns a fault.
func Fail(kind Kind, code sarama.KError) Fault { return Fault{kind, code} }

// Topic is a topic. The model has only those topic IDs that it is given.
type Topic struct {
	ID         string
	Partitions []*Partition
	Settings   map[string]string
	view       []int // leaders as of the last refresh
}

// Partition is a partition with everything that was written to it.
type Partition struct {
	Log      []Record
	Arrivals int
	leader   int // node, or -1
	states   map[int64]*State
}

// State is what a partition remembers about a producer.
type State struct {
	epoch   int16
	next    int32
	batches [][2]int32 // first and last sequence of the last five
	at      time.Time  // of the newest record, by its own time
}

// New returns a cluster of the given number of brokers.
func New(nodes int) *Cluster {
	m := &Cluster{
		Topics: map[string]*Topic{},
		Expiry: Expiry,
		Faults: map[Place]Fault{},
		Poison: map[string]sarama.KError{},
		ids:    100,
		owners: map[string]*ownership{},
	}
	m.changed = sync.NewCond(&m.Mutex)
	m.brokers = nodes
	m.Client = m.NewClient()
	return m
}

// Client has separate connections to the brokers.
type Client struct {
	cluster *Cluster
	nodes   []*Node
}

// NewClient returns a client that is not connected yet.
func (m *Cluster) NewClient() *Client {
	c := &Client{cluster: m}
	for id := range m.brokers {
		c.nodes = append(c.nodes, &Node{cluster: m, id: id})
	}
	return c
}

// Freeze makes the brokers accept requests and do nothing, until Thaw.
func (m *Cluster) Freeze() {
	m.Lock()
	defer m.Unlock()
	if m.frozen == nil {
		m.frozen = make(chan struct{})
	}
}

// Thaw lets the brokers continue.
func (m *Cluster) Thaw() {
	m.Lock()
	defer m.Unlock()
	if m.frozen != nil {
		close(m.frozen)
		m.frozen = nil
	}
}

// Frozen is a channel that is closed when the brokers continue, nil while they
// work.
func (m *Cluster) Frozen() <-chan struct{} {
	m.Lock()
	defer m.Unlock()
	return m.frozen
}

// Topic creates a topic.
func (m *Cluster) Topic(name string, partitions int) *Topic {
	t := &Topic{}
	m.Topics[name] = t
	m.GrowLocked(t, partitions)
	return t
}

// GrowLocked gives a topic n more partitions.
func (m *Cluster) GrowLocked(t *Topic, n int) {
	for range n {
		t.Partitions = append(t.Partitions, &Partition{leader: len(t.Partitions) % m.brokers, states: map[int64]*State{}})
	}
}

// Age makes a partition treat its newest records as older by the given time.
func (p *Partition) Age(by time.Duration) {
	for _, s := range p.states {
		s.at = s.at.Add(-by)
	}
}

// SetLeader moves the partition to another broker, or to none (-1).
func (p *Partition) SetLeader(node int) { p.leader = node }

// Expect makes the partition expect this sequence number next, from each
// producer.
func (p *Partition) Expect(sequence int32) {
	for _, s := range p.states {
		s.next = sequence
	}
}

// Refresh fetches the metadata of a topic.
func (m *Cluster) Refresh(topic string) error {
	m.Lock()
	defer m.Unlock()
	if m.RefreshFault != nil {
		if err := m.RefreshFault(topic); err != nil {
			return err
		}
	}
	t := m.Topics[topic]
	if t == nil {
		return sarama.ErrUnknownTopicOrPartition
	}
	t.view = t.view[:0]
	for _, p := range t.Partitions {
		t.view = append(t.view, p.leader)
	}
	return nil
}

// Partitions is the topic's partition count as of the last refresh.
func (m *Cluster) Partitions(topic string) (int, error) {
	m.Lock()
	defer m.Unlock()
	if t := m.Topics[topic]; t != nil {
		return len(t.view), nil
	}
	return 0, sarama.ErrUnknownTopicOrPartition
}

// Leader is the connection to the leader as of the last refresh.
func (c *Client) Leader(topic string, partition int32) (*Node, error) {
	m := c.cluster
	m.Lock()
	defer m.Unlock()
	t := m.Topics[topic]
	if t == nil || int(partition) >= len(t.view) {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	if t.view[partition] < 0 {
		return nil, sarama.ErrLeaderNotAvailable
	}
	n := c.nodes[t.view[partition]]
	n.startLocked()
	return n, nil
}

// Create creates a missing topic with CreatePartitions partitions.
func (m *Cluster) Create(topic string) error {
	m.Lock()
	defer m.Unlock()
	m.Created++
	if m.CreateFault != nil {
		if err := m.CreateFault(topic); err != nil {
			return err
		}
	}
	if m.CreatePartitions > 0 && m.Topics[topic] == nil {
		m.Topic(topic, m.CreatePartitions)
	}
	return nil
}

// TopicSetting reads a setting. Those that a topic was not given are hidden.
func (m *Cluster) TopicSetting(topic, name string) (string, error) {
	m.Lock()
	defer m.Unlock()
	if t := m.Topics[topic]; t != nil && t.Settings[name] != "" {
		return t.Settings[name], nil
	}
	return "", sarama.ErrTopicAuthorizationFailed
}

// Ends are the offsets at which the first n partitions of a topic end.
func (m *Cluster) Ends(topic string, n int) []int64 {
	m.Lock()
	defer m.Unlock()
	ends := make([]int64, n)
	for i := range ends {
		ends[i] = int64(len(m.Topics[topic].Partitions[i].Log))
	}
	return ends
}

// NewProducerID returns a new ID at each call.
func (m *Cluster) NewProducerID() int64 {
	m.Lock()
	defer m.Unlock()
	m.ids++
	return m.ids
}

// Sent is the number of produce requests so far.
func (m *Cluster) Sent() int {
	m.Lock()
	defer m.Unlock()
	return m.Requests
}

// Close ends all connections.
func (c *Client) Close() {
	for _, n := range c.nodes {
		_ = n.Close()
	}
}

func (m *Cluster) partition(topic string, id int32) *Partition {
	t := m.Topics[topic]
	if t == nil || int(id) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[id]
}
