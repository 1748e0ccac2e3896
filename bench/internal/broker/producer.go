package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
)

// Producer sends records directly to Kafka.
type Producer struct {
	producer  sarama.AsyncProducer
	records   *Records
	collected sync.WaitGroup
	failed    []error // read only after collected
}

// OpenProducer connects to Kafka. The caller must close the Producer.
func OpenProducer(brokers []string, records *Records) (*Producer, error) {
	producer, err := sarama.NewAsyncProducer(brokers, ProducerConfig())
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	p := &Producer{producer: producer, records: records}
	p.collected.Go(func() {
		for range producer.Successes() {
		}
	})
	p.collected.Go(func() {
		for problem := range producer.Errors() {
			p.failed = append(p.failed, problem)
		}
	})
	return p, nil
}

// Make sends the events from n to before n + rows.
func (p *Producer) Make(ctx context.Context, n, rows int64) error {
	for i := range rows {
		select {
		case p.producer.Input() <- p.records.Record(n + i):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close waits for all acknowledgements and returns the failures.
func (p *Producer) Close() error {
	p.producer.AsyncClose()
	p.collected.Wait()
	return errors.Join(p.failed...)
}

// Transact writes one record in a transaction.
func Transact(brokers []string, topic string) (err error) {
	config := ProducerConfig()
	config.Producer.Transaction.ID = "warm-up"
	producer, err := sarama.NewSyncProducer(brokers, config)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	if err := producer.BeginTxn(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("warm-up")}); err != nil {
		return fmt.Errorf("write in a transaction: %w", err)
	}
	if err := producer.CommitTxn(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}
