package router

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

// model is a Kafka cluster in memory that keeps Kafka's rules for idempotent
// producers: sequences are checked, the last five batches of a producer are
// remembered, an unknown producer may begin anywhere. It does what a script
// tells it to do wrong. It is made for a synctest bubble.
type model struct {
	mu       sync.Mutex
	changed  *sync.Cond
	topics   map[string]*modelTopic
	nodes    []*modelNode
	stamp    int // of the next record written, over all partitions
	ids      int64
	requests int
	created  int

	faults      map[place]fault
	limit       int                      // records that a batch may have, 0 for any number
	poison      map[string]sarama.KError // event ids that are never taken
	latency     func(node int) time.Duration
	refresh     func(topic string) error // scripted metadata errors
	create      func(topic string) error // scripted errors of Create
	createParts int                      // what Create makes
}

// place is the n-th time that a batch reaches a partition, from 0.
type place struct {
	topic     string
	partition int32
	arrival   int
}

type faultKind int

const (
	noFault     faultKind = iota
	errorBefore           // code, nothing is written
	errorAfter            // code, but written
	dropBlock             // written, but the response does not mention it
	cutBefore             // the connection ends, nothing is written
	cutAfter              // written, but the response is lost with the connection
	ghost                 // the connection ends; the broker handles the request a minute later
	refuseSend            // AsyncProduce returns an error and never calls back
	move                  // the leader moves, NOT_LEADER
	leaderless            // no leader for a while, then another one
	growth                // the topic gets two more partitions
	stall                 // nothing happens for half a minute, then the connection ends
	slow                  // the answer takes seconds
	faultKindEnd
)

type fault struct {
	kind faultKind
	code sarama.KError
}

type modelTopic struct {
	partitions []*modelPartition
	view       []int // leaders as of the last refresh
}

type modelPartition struct {
	leader   int // node, or -1
	arrivals int
	log      []modelRecord
	states   map[int64]*modelState
}

// modelState is what a partition remembers of a producer.
type modelState struct {
	epoch   int16
	next    int32
	batches [][2]int32 // first and last sequence of the last five
	at      time.Time  // of the newest record, by its own time
}

type modelRecord struct {
	id, key, value string
	stamp          int
	null           bool
}

// modelBatch is a batch as it was sent, copied as sarama would by encoding it.
type modelBatch struct {
	topic     string
	partition int32
	id        int64
	epoch     int16
	first     int32
	newest    time.Time
	records   []modelRecord
	fault     fault
}

type modelCall struct {
	batches  []*modelBatch
	cut      fault // of the whole request
	slow     bool
	callback sarama.ProduceCallback
}

func newModel(nodes int) *model {
	m := &model{topics: map[string]*modelTopic{}, faults: map[place]fault{}, poison: map[string]sarama.KError{}, ids: 100}
	m.changed = sync.NewCond(&m.mu)
	for id := range nodes {
		m.nodes = append(m.nodes, &modelNode{model: m, id: id})
	}
	return m
}

func (m *model) topic(name string, partitions int) *modelTopic {
	t := &modelTopic{}
	m.topics[name] = t
	m.grow(t, partitions)
	return t
}

func (m *model) grow(t *modelTopic, n int) {
	for range n {
		t.partitions = append(t.partitions, &modelPartition{leader: len(t.partitions) % len(m.nodes), states: map[int64]*modelState{}})
	}
}

func (m *model) Refresh(topic string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refresh != nil {
		if err := m.refresh(topic); err != nil {
			return err
		}
	}
	t := m.topics[topic]
	if t == nil {
		return sarama.ErrUnknownTopicOrPartition
	}
	t.view = t.view[:0]
	for _, p := range t.partitions {
		t.view = append(t.view, p.leader)
	}
	return nil
}

func (m *model) Partitions(topic string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.topics[topic]; t != nil {
		return len(t.view), nil
	}
	return 0, sarama.ErrUnknownTopicOrPartition
}

func (m *model) Leader(topic string, partition int32) (Connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.topics[topic]
	if t == nil || int(partition) >= len(t.view) {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	if t.view[partition] < 0 {
		return nil, sarama.ErrLeaderNotAvailable
	}
	n := m.nodes[t.view[partition]]
	n.start()
	return n, nil
}

func (m *model) Create(topic string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created++
	if m.create != nil {
		if err := m.create(topic); err != nil {
			return err
		}
	}
	if m.createParts > 0 && m.topics[topic] == nil {
		m.topic(topic, m.createParts)
	}
	return nil
}

// ID is another one for each producer.
func (m *model) ID() (int64, int16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids++
	return m.ids, 0
}

func (m *model) Admit(topic string, partitions int) (FoundTopic, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := FoundTopic{Partitions: make([]FoundPartition, partitions)}
	for i := range found.Partitions {
		end := int64(len(m.topics[topic].partitions[i].log))
		found.Partitions[i] = FoundPartition{Mark: end, End: end}
	}
	return found, nil
}

func (m *model) Renew() (time.Duration, error) { return time.Hour, nil }
func (m *model) Lapsed() error                 { return nil }

// checkMarks proves that every event above the checkpoint lies at or above the
// mark of its partition, but for those inherited from a predecessor.
func (m *model) checkMarks(t require.TestingT, marks map[string]Marks, checkpoint replication.LSN, inherited map[string]map[int32]replication.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, topic := range m.topics {
		for id, p := range topic.partitions {
			if id >= len(marks[name].Offsets) {
				continue // nothing has been written to it
			}
			for offset, r := range p.log[:min(int64(len(p.log)), marks[name].Offsets[id])] {
				var n int
				if _, err := fmt.Sscanf(r.id, "event-%d", &n); err == nil && commitOf(n) > inherited[name][int32(id)].Commit {
					require.Less(t, commitOf(n), checkpoint, "%s of topic %s partition %d lies at %d, below the mark", r.id, name, id, offset)
				}
			}
		}
	}
}

// sent is the number of requests so far.
func (m *model) sent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

// close ends all connections, as closing the client would.
func (m *model) close() {
	for _, n := range m.nodes {
		_ = n.Close()
	}
}

// modelNode is a broker, and the one connection to it.
type modelNode struct {
	model *model
	id    int

	// Guarded by model.mu.
	open    bool
	dead    error // the connection has failed; answers everything until it is closed
	calls   []*modelCall
	closing chan struct{}
	ended   chan struct{}
}

// start opens the connection unless it is open. model.mu is held.
func (n *modelNode) start() {
	if n.open {
		return
	}
	n.open, n.dead = true, nil
	n.closing, n.ended = make(chan struct{}), make(chan struct{})
	go n.serve(n.closing, n.ended)
}

func (n *modelNode) AsyncProduce(request *sarama.ProduceRequest, callback sarama.ProduceCallback) error {
	m := n.model
	m.mu.Lock()
	defer m.mu.Unlock()
	if !n.open {
		return sarama.ErrNotConnected
	}
	m.requests++
	call := m.read(request)
	call.callback = callback
	if call.cut.kind == refuseSend {
		n.dead = io.ErrClosedPipe
		return io.ErrClosedPipe
	}
	n.calls = append(n.calls, call)
	m.changed.Broadcast()
	return nil
}

// read copies a request and looks up what will go wrong with it.
func (m *model) read(request *sarama.ProduceRequest) *modelCall {
	call := &modelCall{}
	for topic, partitions := range requestRecords(request) {
		for id, records := range partitions {
			b := readBatch(topic, id, records.RecordBatch)
			call.batches = append(call.batches, b)
			p := m.partition(b)
			if p == nil {
				continue
			}
			f := m.faults[place{topic, id, p.arrivals}]
			p.arrivals++
			switch f.kind {
			case cutBefore, cutAfter, ghost, refuseSend, stall:
				call.cut = f
			case slow:
				call.slow = true
			default:
				b.fault = f
			}
		}
	}
	return call
}

// requestRecords is the content of a request, which sarama does not export.
func requestRecords(request *sarama.ProduceRequest) map[string]map[int32]sarama.Records {
	field := reflect.ValueOf(request).Elem().FieldByName("records")
	return *(*map[string]map[int32]sarama.Records)(field.Addr().UnsafePointer())
}

func readBatch(topic string, id int32, batch *sarama.RecordBatch) *modelBatch {
	b := &modelBatch{topic: topic, partition: id, id: batch.ProducerID, epoch: batch.ProducerEpoch, first: batch.FirstSequence, newest: batch.MaxTimestamp}
	records := recordsOf(batch)
	if len(records) != len(batch.Records) {
		b.fault = fault{errorBefore, sarama.ErrInvalidMessage}
	}
	for i, r := range records {
		if r.OffsetDelta != int64(i) || int(batch.LastOffsetDelta) != len(batch.Records)-1 {
			b.fault = fault{errorBefore, sarama.ErrInvalidMessage}
		}
		eventID, _ := identify(r)
		b.records = append(b.records, modelRecord{id: eventID, key: string(r.Key), value: string(r.Value), null: r.Value == nil})
	}
	return b
}

func (m *model) partition(b *modelBatch) *modelPartition {
	t := m.topics[b.topic]
	if t == nil || int(b.partition) >= len(t.partitions) {
		return nil
	}
	return t.partitions[b.partition]
}

var errCut = errors.New("connection reset")

// serve answers the calls one after the other, as sarama's receiver does.
func (n *modelNode) serve(closing, ended chan struct{}) {
	defer close(ended)
	m := n.model
	for {
		m.mu.Lock()
		for len(n.calls) == 0 && !isClosed(closing) {
			m.changed.Wait()
		}
		if len(n.calls) == 0 {
			n.open = false
			m.mu.Unlock()
			return
		}
		call := n.calls[0]
		n.calls = n.calls[1:]
		dead := n.dead
		m.mu.Unlock()
		if dead == nil {
			dead = n.delay(call, closing)
		}
		n.answer(call, dead)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// delay lets the time pass that the broker takes.
func (n *modelNode) delay(call *modelCall, closing chan struct{}) error {
	wait := time.Millisecond
	if n.model.latency != nil {
		wait = n.model.latency(n.id)
	}
	switch {
	case call.slow:
		wait = 3 * time.Second
	case call.cut.kind == stall:
		wait = 30 * time.Second
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-closing:
		return errCut
	}
}

func (n *modelNode) answer(call *modelCall, dead error) {
	m := n.model
	m.mu.Lock()
	if dead == nil {
		switch call.cut.kind {
		case cutBefore, stall:
			dead = errCut
		case cutAfter:
			m.apply(n, call)
			dead = errCut
		case ghost:
			dead = errCut
			time.AfterFunc(time.Minute, func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.apply(n, call)
			})
		default:
		}
		n.dead = dead
	}
	var response *sarama.ProduceResponse
	if dead == nil {
		response = m.apply(n, call)
	}
	m.mu.Unlock()
	call.callback(response, dead)
}

func (n *modelNode) Close() error {
	n.model.mu.Lock()
	if !n.open || isClosed(n.closing) {
		n.model.mu.Unlock()
		return sarama.ErrNotConnected
	}
	close(n.closing)
	ended := n.ended
	n.model.changed.Broadcast()
	n.model.mu.Unlock()
	<-ended
	return nil
}

// apply handles a request as the broker would. mu is held.
func (m *model) apply(n *modelNode, call *modelCall) *sarama.ProduceResponse {
	response := &sarama.ProduceResponse{Version: 8, Blocks: map[string]map[int32]*sarama.ProduceResponseBlock{}}
	for _, b := range call.batches {
		block := m.applyBatch(n, b)
		if b.fault.kind == dropBlock {
			continue
		}
		if response.Blocks[b.topic] == nil {
			response.Blocks[b.topic] = map[int32]*sarama.ProduceResponseBlock{}
		}
		response.Blocks[b.topic][b.partition] = block
	}
	return response
}

func (m *model) applyBatch(n *modelNode, b *modelBatch) *sarama.ProduceResponseBlock {
	block := &sarama.ProduceResponseBlock{Offset: -1}
	p := m.partition(b)
	if p == nil {
		block.Err = sarama.ErrUnknownTopicOrPartition
		return block
	}
	m.reorganise(p, b)
	if p.leader != n.id {
		block.Err = sarama.ErrNotLeaderForPartition
		return block
	}
	if b.fault.kind == errorBefore {
		block.Err = b.fault.code
		return block
	}
	if block.Err = m.judge(b, block); block.Err == sarama.ErrNoError {
		end := int64(len(p.log))
		if block.Err = m.write(p, b); int64(len(p.log)) > end {
			block.Offset = end // of one that it has already, the model says nothing
		}
	}
	if b.fault.kind == errorAfter {
		block.Err = b.fault.code
	}
	return block
}

// reorganise does what a fault does to the cluster.
func (m *model) reorganise(p *modelPartition, b *modelBatch) {
	switch b.fault.kind {
	case move:
		p.leader = (p.leader + 1) % len(m.nodes)
	case leaderless:
		next := (p.leader + 1) % len(m.nodes)
		p.leader = -1
		time.AfterFunc(20*time.Second, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			p.leader = next
		})
	case growth:
		m.grow(m.topics[b.topic], 2)
	default:
	}
}

func (m *model) judge(b *modelBatch, block *sarama.ProduceResponseBlock) sarama.KError {
	if m.limit > 0 && len(b.records) > m.limit {
		return sarama.ErrMessageSizeTooLarge
	}
	for i, r := range b.records {
		if code, bad := m.poison[r.id]; bad {
			if code != sarama.ErrMessageSizeTooLarge {
				block.RecordErrors = []sarama.ProduceResponseRecordError{{BatchIndex: int32(i)}}
			}
			return code
		}
	}
	return sarama.ErrNoError
}

// write checks the sequence as Kafka does and appends.
func (m *model) write(p *modelPartition, b *modelBatch) sarama.KError {
	last := nextSequence(b.first, len(b.records)-1)
	s := p.states[b.id]
	if s != nil && time.Since(s.at) > 24*time.Hour {
		s = nil
	}
	switch {
	case s == nil:
		s = &modelState{epoch: b.epoch}
		p.states[b.id] = s
	case b.epoch < s.epoch:
		return sarama.ErrInvalidProducerEpoch
	default:
		if slices.Contains(s.batches, [2]int32{b.first, last}) {
			return sarama.ErrNoError
		}
		if b.first != s.next {
			return sarama.ErrOutOfOrderSequenceNumber
		}
	}
	s.next, s.at = nextSequence(last, 1), earlier(time.Now(), b.newest)
	s.batches = append(s.batches, [2]int32{b.first, last})
	s.batches = s.batches[max(0, len(s.batches)-5):]
	for _, r := range b.records {
		m.stamp++
		r.stamp = m.stamp
		p.log = append(p.log, r)
	}
	return sarama.ErrNoError
}
