package model

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/IBM/sarama"
)

// Node is a broker, and the one connection to it.
type Node struct {
	cluster *Cluster
	id      int

	// Guarded by the cluster's mutex.
	open    bool
	dead    error // the connection has failed; the error answers every call until it is closed
	calls   []*call
	closing chan struct{}
	ended   chan struct{}
}

// call is a produce request on its way.
type call struct {
	batches  []*batch
	cut      Fault // of the whole request
	slow     bool
	callback sarama.ProduceCallback
}

// ErrCut is the error of requests whose connection has ended.
var ErrCut = fmt.Errorf("model: %w", syscall.ECONNRESET)

// startLocked opens the connection unless it is open.
func (n *Node) startLocked() {
	if n.open {
		return
	}
	n.open, n.dead = true, nil
	n.closing, n.ended = make(chan struct{}), make(chan struct{})
	go n.serve(n.closing, n.ended)
}

// AsyncProduce has sarama's signature.
func (n *Node) AsyncProduce(request *sarama.ProduceRequest, callback sarama.ProduceCallback) error {
	m := n.cluster
	m.Lock()
	defer m.Unlock()
	if !n.open {
		return sarama.ErrNotConnected
	}
	m.Requests++
	c := m.readLocked(request)
	c.callback = callback
	if c.cut.Kind == RefuseSend {
		n.dead = io.ErrClosedPipe
		return io.ErrClosedPipe
	}
	n.calls = append(n.calls, c)
	m.changed.Broadcast()
	return nil
}

// serve answers the calls one after the other, as sarama's receiver does.
func (n *Node) serve(closing, ended chan struct{}) {
	defer close(ended)
	m := n.cluster
	for {
		m.Lock()
		for len(n.calls) == 0 && !isClosed(closing) {
			m.changed.Wait()
		}
		if len(n.calls) == 0 {
			n.open = false
			m.Unlock()
			return
		}
		c := n.calls[0]
		n.calls = n.calls[1:]
		dead := n.dead
		m.Unlock()
		if dead == nil {
			dead = n.delay(c, closing)
		}
		n.answer(c, dead)
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

// delay waits as long as the broker takes.
func (n *Node) delay(c *call, closing chan struct{}) error {
	wait := time.Millisecond
	if n.cluster.Latency != nil {
		wait = n.cluster.Latency(n.id)
	}
	switch {
	case c.slow:
		wait = 3 * time.Second
	case c.cut.Kind == Stall:
		wait = 30 * time.Second
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-closing:
		return ErrCut
	}
	frozen := n.cluster.Frozen()
	if frozen == nil {
		return nil
	}
	timer.Reset(clientTimeout)
	select {
	case <-frozen:
		return nil
	case <-timer.C: // what has been received may still be handled
		c.cut = Fault{Kind: Ghost}
		return nil
	case <-closing:
		return ErrCut
	}
}

// clientTimeout is how long a client waits for an answer.
const clientTimeout = 20 * time.Second

func (n *Node) answer(c *call, dead error) {
	m := n.cluster
	m.Lock()
	if dead == nil {
		switch c.cut.Kind {
		case CutBefore, Stall:
			dead = ErrCut
		case CutAfter:
			m.applyLocked(n, c)
			dead = ErrCut
		case Ghost:
			dead = ErrCut
			time.AfterFunc(time.Minute, func() {
				m.Lock()
				defer m.Unlock()
				m.applyLocked(n, c)
			})
		default:
		}
		n.dead = dead
	}
	var response *sarama.ProduceResponse
	if dead == nil {
		response = m.applyLocked(n, c)
	}
	m.Unlock()
	c.callback(response, dead)
}

// Close ends the connection and waits until every call on it is answered.
func (n *Node) Close() error {
	n.cluster.Lock()
	if !n.open || isClosed(n.closing) {
		n.cluster.Unlock()
		return sarama.ErrNotConnected
	}
	close(n.closing)
	ended := n.ended
	n.cluster.changed.Broadcast()
	n.cluster.Unlock()
	<-ended
	return nil
}
