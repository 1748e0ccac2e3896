package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/bench/internal/broker"
)

// inFlight is how many requests Kafka lets an idempotent producer have under
// way on a connection.
const inFlight = 5

// produceRequests sends requests as the streamer does: over one connection to
// the leader, each with a small batch for every partition.
func produceRequests(ctx context.Context, o options) (err error) {
	client, err := connect(o, inFlight)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	partitions, err := partitionsOf(client, o)
	if err != nil {
		return err
	}
	records, err := ready(o.payload)
	if err != nil {
		return err
	}
	leader, err := client.Leader(partitions[0].Topic, partitions[0].ID)
	if err != nil {
		return fmt.Errorf("leader of topic %q: %w", partitions[0].Topic, err)
	}
	s := sender{leader: leader, partitions: partitions, room: make(chan struct{}, inFlight)}
	for sent := int64(0); sent < o.rows && ctx.Err() == nil; {
		n, err := s.send(records[:o.batch], o.rows-sent)
		if err != nil {
			return errors.Join(err, s.wait())
		}
		sent += n
	}
	return errors.Join(context.Cause(ctx), s.wait())
}

// sender sends requests, several at a time.
type sender struct {
	leader     *sarama.Broker
	partitions []broker.Partition
	room       chan struct{}

	answered sync.WaitGroup
	mu       sync.Mutex
	refused  error
}

// send sends the records to every partition, until there were as many as asked
// for.
func (s *sender) send(records []*sarama.Record, most int64) (sent int64, err error) {
	request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 30_000, Version: 7}
	for _, p := range s.partitions {
		some := records[:min(int64(len(records)), most-sent)]
		if len(some) == 0 {
			break
		}
		request.AddBatch(p.Topic, p.ID, batchOf(some))
		sent += int64(len(some))
	}
	s.room <- struct{}{}
	s.answered.Add(1)
	err = s.leader.AsyncProduce(request, func(response *sarama.ProduceResponse, err error) {
		defer s.answered.Done()
		s.check(response, err)
		<-s.room
	})
	if err != nil {
		s.answered.Done()
		return 0, fmt.Errorf("produce: %w", err)
	}
	return sent, nil
}

func (s *sender) check(response *sarama.ProduceResponse, err error) {
	if err == nil {
		for topic, blocks := range response.Blocks {
			for id, block := range blocks {
				if block.Err != sarama.ErrNoError {
					err = fmt.Errorf("topic %q partition %d: %w", topic, id, block.Err)
				}
			}
		}
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused = fmt.Errorf("produce: %w", err)
	}
}

// wait waits for all answers.
func (s *sender) wait() error {
	s.answered.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}
