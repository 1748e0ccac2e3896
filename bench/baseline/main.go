// Baseline is the obvious way to write an outbox relay in Go. pglogrepl reads
// the slot, sarama's AsyncProducer writes to Kafka, and a position is confirmed
// when everything before it is acknowledged. The benchmark compares the
// streamer with it. Baseline does nothing else: no fence, no stored checkpoint,
// no order after a failed record. The first error ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "baseline:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dsn := flag.String("dsn", "", "database")
	slot := flag.String("slot", "outbox", "replication slot")
	publication := flag.String("publication", "outbox", "publication")
	brokers := flag.String("brokers", "127.0.0.1:9092", "Kafka brokers, separated by commas")
	prefix := flag.String("prefix", "", "prefix of the topics, before the aggregate type")
	flag.Parse()

	conn, err := startReplication(ctx, *dsn, *slot, *publication)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	producer, err := sarama.NewAsyncProducer(strings.Split(*brokers, ","), producerConfig())
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer producer.AsyncClose()
	r := &relay{conn: conn, producer: producer, prefix: *prefix, relations: map[uint32]*pglogrepl.RelationMessage{}}
	return r.run(ctx)
}

func startReplication(ctx context.Context, dsn, slot, publication string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DSN: %w", err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", publication)},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start replication: %w", err), conn.Close(ctx))
	}
	return conn, nil
}

func producerConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Compression = sarama.CompressionLZ4
	config.Producer.Return.Successes = true
	return config
}

const statusInterval = time.Second

// relay is everything between the two connections.
type relay struct {
	conn      *pgconn.PgConn
	producer  sarama.AsyncProducer
	prefix    string
	relations map[uint32]*pglogrepl.RelationMessage
	pending   pending
	current   *transaction
}

func (r *relay) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go r.pending.collect(r.producer, cancel)
	nextStatus := time.Now().Add(statusInterval)
	for {
		if time.Now().After(nextStatus) {
			if err := r.confirm(ctx); err != nil {
				return err
			}
			nextStatus = time.Now().Add(statusInterval)
		}
		message, err := r.receive(ctx, nextStatus)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if message == nil {
			continue
		}
		if err := r.handle(ctx, message.Data); err != nil {
			return err
		}
	}
}

// receive waits for a message until the given time and returns none if that
// passes.
func (r *relay) receive(ctx context.Context, until time.Time) (*pgproto3.CopyData, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	message, err := r.conn.ReceiveMessage(ctx)
	if pgconn.Timeout(err) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	data, ok := message.(*pgproto3.CopyData)
	if !ok {
		return nil, fmt.Errorf("receive: unexpected %T", message)
	}
	return data, nil
}

func (r *relay) confirm(ctx context.Context) error {
	confirmed := r.pending.confirmed()
	if confirmed == 0 {
		return nil // pglogrepl would confirm the write position instead
	}
	err := pglogrepl.SendStandbyStatusUpdate(ctx, r.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: confirmed, WALFlushPosition: confirmed, WALApplyPosition: confirmed,
	})
	if err != nil {
		return fmt.Errorf("confirm %s: %w", confirmed, err)
	}
	return nil
}

func (r *relay) handle(ctx context.Context, data []byte) error {
	if data[0] != pglogrepl.XLogDataByteID {
		return nil
	}
	row, err := pglogrepl.ParseXLogData(data[1:])
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	message, err := pglogrepl.Parse(row.WALData)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	switch m := message.(type) {
	case *pglogrepl.RelationMessage:
		r.relations[m.RelationID] = m
	case *pglogrepl.BeginMessage:
		r.current = &transaction{}
	case *pglogrepl.InsertMessage:
		return r.publish(ctx, m)
	case *pglogrepl.CommitMessage:
		r.pending.end(r.current, m.TransactionEndLSN)
	}
	return nil
}

func (r *relay) publish(ctx context.Context, m *pglogrepl.InsertMessage) error {
	relation, ok := r.relations[m.RelationID]
	if !ok {
		return fmt.Errorf("row of unknown relation %d", m.RelationID)
	}
	values := map[string][]byte{}
	for i, column := range m.Tuple.Columns {
		values[relation.Columns[i].Name] = column.Data
	}
	r.pending.add(r.current)
	record := &sarama.ProducerMessage{
		Topic: r.prefix + string(values["aggregatetype"]),
		Key:   sarama.ByteEncoder(values["aggregateid"]),
		Value: sarama.ByteEncoder(values["payload"]),
		Headers: []sarama.RecordHeader{
			{Key: []byte("id"), Value: values["id"]},
			{Key: []byte("type"), Value: values["type"]},
		},
		Metadata: r.current,
	}
	select {
	case r.producer.Input() <- record:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
