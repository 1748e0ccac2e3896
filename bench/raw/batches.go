package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/bench/internal/broker"
	"github.com/outboxstream/streamer/bench/internal/workload"
)

// perBatch is the number of records of each batch: some 400 KB of typical
// events.
const perBatch = 1_000

// produceBatches sends ready-made batches, one at a time to each partition.
// What remains is compression, the wire and the broker.
func produceBatches(ctx context.Context, o options) (err error) {
	client, err := connect(o, 64) // all partitions at the same time
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	partitions, err := partitionsOf(client, o)
	if err != nil {
		return err
	}
	errs := make([]error, len(partitions))
	var all sync.WaitGroup
	for i, p := range partitions {
		rows := o.rows / int64(len(partitions))
		if int64(i) < o.rows%int64(len(partitions)) {
			rows++
		}
		all.Go(func() { errs[i] = fillPartition(ctx, client, p, rows, o.payload) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// connect returns a client that has up to so many requests under way on each
// connection.
func connect(o options, requests int) (sarama.Client, error) {
	config := broker.Config()
	config.Net.MaxOpenRequests = requests
	client, err := sarama.NewClient(strings.Split(o.brokers, ","), config)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return client, nil
}

func partitionsOf(client sarama.Client, o options) (partitions []broker.Partition, err error) {
	for i := range o.types {
		topic := o.prefix + workload.Type(i)
		ids, err := client.Partitions(topic)
		if err != nil {
			return nil, fmt.Errorf("partitions of topic %q: %w", topic, err)
		}
		for _, id := range ids {
			partitions = append(partitions, broker.Partition{Topic: topic, ID: id})
		}
	}
	return partitions, nil
}

func fillPartition(ctx context.Context, client sarama.Client, p broker.Partition, rows int64, payload int) error {
	leader, err := client.Leader(p.Topic, p.ID)
	if err != nil {
		return fmt.Errorf("leader of topic %q: %w", p.Topic, err)
	}
	records, err := ready(payload)
	if err != nil {
		return err
	}
	for sent := int64(0); sent < rows && ctx.Err() == nil; {
		some := records[:min(int64(len(records)), rows-sent)]
		request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: 30_000, Version: 7}
		request.AddBatch(p.Topic, p.ID, batchOf(some))
		response, err := leader.Produce(request)
		if err != nil {
			return fmt.Errorf("produce to topic %q: %w", p.Topic, err)
		}
		if block := response.GetBlock(p.Topic, p.ID); block == nil || block.Err != sarama.ErrNoError {
			return fmt.Errorf("produce to topic %q: rejected", p.Topic)
		}
		sent += int64(len(some))
	}
	return context.Cause(ctx)
}

func batchOf(records []*sarama.Record) *sarama.RecordBatch {
	now := time.Now()
	return &sarama.RecordBatch{
		Version: 2, Codec: sarama.CompressionLZ4, CompressionLevel: sarama.CompressionLevelDefault,
		FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(len(records) - 1),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: records,
	}
}

// ready creates the records of a batch, as many as a broker accepts at once.
func ready(payload int) ([]*sarama.Record, error) {
	const accepted = 700_000 // bytes, before compression
	made := broker.NewRecords("", 1, payload)
	records := make([]*sarama.Record, max(1, min(perBatch, accepted/(payload+300))))
	for i := range records {
		message := made.Record(int64(i))
		key, keyErr := message.Key.Encode()
		value, valueErr := message.Value.Encode()
		if err := errors.Join(keyErr, valueErr); err != nil {
			return nil, fmt.Errorf("make records: %w", err)
		}
		records[i] = &sarama.Record{OffsetDelta: int64(i), Key: key, Value: value}
		for j := range message.Headers {
			records[i].Headers = append(records[i].Headers, &message.Headers[j])
		}
	}
	return records, nil
}
