package pipeline

import (
	"context"
	"log/slog"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// servers is how a pipeline reaches PostgreSQL, Kafka and the checkpoint store:
// the configured ones, or models of them in a test.
type servers struct {
	database func(context.Context, replication.Config) (database, error)
	// read opens the requested reader, ReadStream or ReadCatchUp.
	read func(context.Context, Reading, replication.Config, replication.Server, replication.Slot, replication.LSN) (reader, error)
	// oldRows opens what reads the rows from before the slot.
	oldRows func(
		context.Context, replication.Config, replication.Server, replication.Table, replication.SnapshotQuery, replication.Order, replication.LSN,
	) (oldRows, error)
	// others finds a row that waits in the slot and that another program has
	// published; nil: there is none.
	others func(context.Context, cluster, replication.Config, predecessor.Outbox) (*predecessor.Published, error)
	kafka  func(kafka.ClientConfig) (cluster, error)
	// store opens a store that is not a topic. stored opens it for reading.
	store  func(context.Context, CheckpointConfig) (checkpoint.Store, error)
	stored func(context.Context, CheckpointConfig) (checkpoint.Reader, error)
}

// database is the SQL connection of a tenure.
type database interface {
	TryLock(context.Context) (bool, error)
	Ping(context.Context) error
	Identify(context.Context) (replication.Server, error)
	DescribeTables(context.Context) ([]replication.Table, error)
	// membership is why the tables are published. gap is what may have been left
	// out since the membership changed.
	membership([]replication.Table) string
	gap(before string, now []replication.Table) []replication.Finding
	observe([]replication.Table) observer
	Slot(context.Context) (replication.Slot, error)
	// StandBy makes the instance visible to the one it waits for. Company sees
	// such instances, and Holders the one that works.
	StandBy(context.Context) error
	Company(context.Context) (replication.Company, error)
	Holders(context.Context) ([]replication.Holder, error)
	SwitchPoint(ctx context.Context, s replication.Server, timeline int32) (replication.LSN, bool, error)
	databases
	CheckFormerSlots(context.Context, replication.Succession) ([]replication.Finding, error)
	OtherShards(context.Context) ([]string, error)
	PlanSnapshot(context.Context, replication.Table, replication.SnapshotQuery) (replication.Order, []replication.Finding, error)
	CountRows(context.Context, replication.Table, replication.SnapshotQuery) (replication.RowCount, error)
	SurelyOld(context.Context, replication.Table) bool
	Close()
}

// observer looks at the outbox tables repeatedly: a *replication.Observer.
type observer interface {
	Look(context.Context) ([]replication.Table, []replication.Finding, error)
	Tables() []replication.Table
	Close()
}

// cluster is a connection to Kafka: a *kafka.Client.
type cluster interface {
	TakeOver(ctx context.Context, transactionalID string) (owner, error)
	Anonymous(context.Context) (owner, error)
	// ExpectMissing names topics whose absence needs no confirmation.
	ExpectMissing(topics []string)
	Existing(ctx context.Context, topics []string) (map[string][]int32, error)
	// Exist is a quicker query.
	Exist(ctx context.Context, topics ...string) ([]string, error)
	Ends(ctx context.Context, topics []string) (map[string]map[int32]int64, error)
	ReadBack(context.Context, router.ReadBack) (router.Found, error)
	ReadForeign(context.Context, router.ForeignLog) (*router.Foreign, error)
	Compacted(topic string) compacted
	Close()
}

// owner is the producer identity that writes: a *kafka.Owner.
type owner interface {
	router.Cluster
	Fence(context.Context, map[string][]int32) error
	Fences() bool
	Exhausted() bool
}

// compacted is a topic that holds checkpoints: a *kafka.CompactedTopic.
type compacted interface {
	checkpoint.Log
	Ensure(ctx context.Context, replicationFactor int) (created bool, err error)
	WriteWith(kafka.Write, *slog.Logger)
}

// configured returns the servers that the configuration names. A nil pointer of
// what could not be opened must not get into an interface.
func configured() servers {
	return servers{
		database: func(ctx context.Context, c replication.Config) (database, error) {
			control, err := replication.Connect(ctx, c)
			if err != nil {
				return nil, err
			}
			return postgres{control}, nil
		},
		read: openReader,
		oldRows: func(
			ctx context.Context, c replication.Config, s replication.Server, t replication.Table,
			q replication.SnapshotQuery, o replication.Order, from replication.LSN,
		) (oldRows, error) {
			old, err := replication.OpenSnapshot(ctx, c, s, t, q, o, from)
			if err != nil {
				return nil, err
			}
			return old, nil
		},
		others: publishedByOthers,
		kafka:  connectKafka,
		store:  openStore,
		stored: openReadOnly,
	}
}

// postgres returns the results of a control connection as interfaces of this
// package.
type postgres struct{ *replication.Control }

func (p postgres) membership(t []replication.Table) string { return replication.Membership(t) }

func (p postgres) gap(before string, now []replication.Table) []replication.Finding {
	return replication.CheckMemberships(before, now, p.Config())
}

func (p postgres) observe(last []replication.Table) observer { return p.Observe(last) }

// publishedByOthers asks on a connection of its own: the one that holds the lock
// must not wait for a slot that decodes.
func publishedByOthers(
	ctx context.Context, c cluster, source replication.Config, o predecessor.Outbox,
) (found *predecessor.Published, err error) {
	source.LockTimeout = 0
	if o.Control, err = replication.Connect(ctx, source); err != nil {
		return nil, err
	}
	defer o.Control.Close()
	o.Kafka = c.(connected).Client
	return predecessor.Find(ctx, o)
}

func openReader(
	ctx context.Context, how Reading, c replication.Config, server replication.Server, slot replication.Slot, start replication.LSN,
) (reader, error) {
	if how == ReadCatchUp {
		u, err := replication.OpenCatchUp(ctx, c, server, slot, start)
		if err != nil {
			return nil, err
		}
		return u, nil
	}
	s, err := replication.Open(ctx, c, server, start)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// connected returns the results of a client as interfaces of this package.
type connected struct{ *kafka.Client }

func connectKafka(c kafka.ClientConfig) (cluster, error) {
	client, err := kafka.Connect(c)
	if err != nil {
		return nil, err
	}
	if err := client.CanPublish(); err != nil {
		client.Close()
		return nil, err
	}
	return connected{client}, nil
}

func connectedOr(client *kafka.Client, err error) (cluster, error) {
	if err != nil {
		return nil, err
	}
	return connected{client}, nil
}

func (k connected) TakeOver(ctx context.Context, transactionalID string) (owner, error) {
	return owned(k.Client.TakeOver(ctx, transactionalID))
}

func (k connected) Anonymous(ctx context.Context) (owner, error) {
	return owned(k.Client.Anonymous(ctx))
}

func owned(o *kafka.Owner, err error) (owner, error) {
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (k connected) ReadBack(ctx context.Context, r router.ReadBack) (router.Found, error) {
	return r.Read(ctx, k.Client)
}

func (k connected) ReadForeign(ctx context.Context, l router.ForeignLog) (*router.Foreign, error) {
	return l.Read(ctx, k.Client)
}

func (k connected) Compacted(topic string) compacted { return kafka.NewCompactedTopic(k.Client, topic) }

func openStore(ctx context.Context, c CheckpointConfig) (checkpoint.Store, error) {
	if c.Store == "file" {
		store, err := checkpoint.OpenFile(c.Path)
		if err != nil {
			return nil, err
		}
		return store, nil
	}
	store, err := OpenTable(ctx, c)
	if err != nil {
		return nil, err
	}
	return store, nil
}
