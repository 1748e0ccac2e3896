package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// startPostgres starts an empty server.
func (d *demo) startPostgres(ctx context.Context) (err error) {
	d.postgres, err = pgtest.Start(ctx, pgtest.Options{Progress: d.screen.progress})
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	// The format of version numbers since PostgreSQL 10.
	version := d.postgres.Version()
	d.screen.done("PostgreSQL %d.%d on port %d, wal_level=logical", version/10_000, version%10_000, d.postgres.Port())
	return nil
}

// Values of the flag -broker.
const (
	brokerAuto  = "auto"
	brokerKafka = "kafka"
	brokerFake  = "fake"
)

// broker is the Kafka of the demo.
type broker struct {
	addresses []string
	given     bool         // by an environment variable: others use it as well
	close     func() error // nil: nothing to close
}

// startKafka starts the most realistic Kafka available, and says which.
func (d *demo) startKafka(ctx context.Context) error {
	if d.broker == brokerFake {
		return d.startFake()
	}
	if d.useGiven() {
		return nil
	}
	cluster, err := kafkatest.Start(ctx, kafkatest.Options{Progress: d.screen.progress})
	switch {
	case err == nil:
		d.kafka = broker{addresses: cluster.Brokers(), close: cluster.Close}
		d.screen.done("Apache Kafka %s on %s, in KRaft mode", kafkatest.Version(), cluster.Brokers()[0])
		return nil
	case d.broker == brokerKafka || ctx.Err() != nil:
		return fmt.Errorf("start Kafka: %w", err)
	case errors.Is(err, testserver.ErrMissing):
		d.screen.note("no Apache Kafka here: that takes Java 17 and Maven, or Docker, or STREAMER_DEMO_BROKERS")
	default:
		line, _, _ := strings.Cut(err.Error(), "\n")
		d.screen.note("Apache Kafka did not start: %s", line)
	}
	return d.startFake()
}

// useGiven uses the cluster of the environment if there is one.
func (d *demo) useGiven() bool {
	addresses := cmp.Or(os.Getenv("STREAMER_DEMO_BROKERS"), os.Getenv("STREAMER_TEST_KAFKA_BROKERS"))
	if addresses == "" {
		return false
	}
	d.kafka = broker{addresses: strings.Split(addresses, ","), given: true}
	d.screen.done("the Kafka cluster you gave, %s", addresses)
	return true
}

// startFake starts a broker in this process.
func (d *demo) startFake() error {
	cluster, err := fake.New(kfake.NumBrokers(1))
	if err != nil {
		return err
	}
	d.kafka = broker{addresses: cluster.Brokers(), close: func() error { cluster.Close(); return nil }}
	d.screen.done("kfake on %s: a stand-in for Kafka inside this demo, which keeps records in memory", cluster.Brokers()[0])
	return nil
}
