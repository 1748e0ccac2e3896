package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/consume/franzgroup"
	"github.com/outboxstream/streamer/consume/saramagroup"
)

// serviceSettings is the environment variable with the settings of a service.
const serviceSettings = "CONSUME_E2E_SERVICE"

// settings of a service, which is a process of its own.
type settings struct {
	DSN      string
	Brokers  []string
	Group    string
	Topics   []string
	Client   string // sarama, sarama cooperative, franz
	SQL      bool   // database/sql instead of pgx
	Failures int    // one of so many events fails; 0: none
}

// order is the payload of an event.
type order struct {
	N   int
	Key string
}

const entry = "insert into effect (key, n, id) values ($1, $2, $3)"

var errUnlucky = errors.New("unlucky")

func serve() error {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv(serviceSettings)), &s); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	database, err := s.database(ctx)
	if err != nil {
		return err
	}
	consumer, err := consume.New(consume.Config{
		Name: s.Group, Group: s.Group, Topics: s.Topics, Attempts: 1000, Backoff: 5 * time.Millisecond, CommitEvery: 200 * time.Millisecond,
	}, database)
	if err != nil {
		return err
	}
	if s.Client == "franz" {
		return franzgroup.Run(ctx, consumer, kgo.SeedBrokers(s.Brokers...), kgo.MetadataMinAge(500*time.Millisecond), kgo.MetadataMaxAge(time.Second),
			kgo.SessionTimeout(time.Second), kgo.HeartbeatInterval(200*time.Millisecond))
	}
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Session.Timeout = time.Second
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Metadata.RefreshFrequency = time.Second
	if s.Client == "sarama cooperative" {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	}
	client, err := sarama.NewClient(s.Brokers, config)
	if err != nil {
		return err
	}
	defer client.Close()
	return saramagroup.Run(ctx, client, consumer)
}

func (s *settings) database(ctx context.Context) (consume.Database, error) {
	work := func(e event.Event, exec func(statement string, arguments ...any) error) error {
		var o order
		if err := e.DataAs(&o); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		if err := exec(entry, o.Key, o.N, e.ID()); err != nil {
			return err
		}
		if s.Failures > 0 && rand.IntN(s.Failures) == 0 {
			return errUnlucky
		}
		return nil
	}
	if s.SQL {
		db, err := sql.Open("pgx", s.DSN)
		return consume.SQL(db, func(ctx context.Context, tx *sql.Tx, e event.Event) error {
			return work(e, func(statement string, arguments ...any) error {
				_, err := tx.ExecContext(ctx, statement, arguments...)
				return err
			})
		}), err
	}
	pool, err := pgxpool.New(ctx, s.DSN)
	return consume.PGX(pool, func(ctx context.Context, tx pgx.Tx, e event.Event) error {
		return work(e, func(statement string, arguments ...any) error {
			_, err := tx.Exec(ctx, statement, arguments...)
			return err
		})
	}), err
}
