package service

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/consume/franzgroup"
)

// Service is a service that has been started.
type Service struct {
	Pool    *pgxpool.Pool
	Log     *slog.Logger
	Brokers []string

	instance string
}

// Flags are what each service takes on its command line.
type Flags struct{ dsn, brokers, instance string }

// Register adds the flags to a set.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.dsn, "dsn", "", "`URL` of the service's database")
	set.StringVar(&f.brokers, "brokers", "127.0.0.1:9092", "Kafka's `addresses`")
	set.StringVar(&f.instance, "instance", "1", "`name` of this instance, which it keeps when it is started again")
}

// Open connects to the database.
func (f *Flags) Open(ctx context.Context, log *slog.Logger) (*Service, error) {
	pool, err := pgxpool.New(ctx, f.dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &Service{Pool: pool, Log: log, Brokers: strings.Split(f.brokers, ","), instance: f.instance}, nil
}

// Handler handles an event in a transaction of the service's database.
type Handler = func(ctx context.Context, tx pgx.Tx, e event.Event) error

// Consume handles events until ctx ends. The group has the consumer's name.
func (s *Service) Consume(ctx context.Context, config consume.Config, handle Handler) error {
	config.Group, config.Logger, config.CommitEvery = config.Name, s.Log, 200*time.Millisecond
	consumer, err := consume.New(config, consume.PGX(s.Pool, handle))
	if err != nil {
		return err
	}
	return franzgroup.Run(ctx, consumer, kgo.SeedBrokers(s.Brokers...),
		// An instance that is started again takes its place without a rebalance.
		kgo.InstanceID(config.Name+"-"+s.instance), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second))
}

// Every calls work again and again, with a pause between two calls, until it fails
// or ctx ends, which is no error.
func Every(ctx context.Context, pause time.Duration, work func(ctx context.Context) error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
