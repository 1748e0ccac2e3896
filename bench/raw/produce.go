package main

import (
	"context"
	"errors"
	"strings"

	"github.com/outboxstream/streamer/bench/internal/broker"
)

// produce writes records of the size of the workload's events into Kafka.
func produce(ctx context.Context, o options) error {
	producer, err := broker.OpenProducer(strings.Split(o.brokers, ","), broker.NewRecords(o.prefix, o.types, o.payload))
	if err != nil {
		return err
	}
	return errors.Join(producer.Make(ctx, 0, o.rows), producer.Close())
}
