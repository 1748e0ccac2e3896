package consume

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Client is what a consumer asks a Kafka client for.
type Client interface {
	// Partitions returns how many partitions a topic has now.
	Partitions(ctx context.Context, topic string) (int32, error)
	// Oldest returns the offset of the first record that a partition still has.
	Oldest(ctx context.Context, topic string, partition int32) (int64, error)
	// End returns the offset after the last one of a partition.
	End(ctx context.Context, topic string, partition int32) (int64, error)
	// Holds reports whether a partition has a record from one offset up to, and
	// without, another. Control records are none.
	Holds(ctx context.Context, topic string, partition int32, from, until int64) (bool, error)
}

// Consumer handles events once. An adapter calls it; nobody else has to.
type Consumer struct {
	config   Config
	database Database
	client   Client
	log      *slog.Logger
	number   int // of the name, in the inbox
	slots    *semaphore.Weighted
	gate     *gate
	types    map[string]bool

	mu       sync.Mutex
	assigned map[*Partition]struct{}
	failed   chan struct{}
	failure  error
}

const (
	lastFold     = 5 * time.Second
	foldAt       = 5 * time.Second // for one store of positions
	requestEvery = 2 * time.Second // for a look at what is requested for parked keys
	pruneEvery   = time.Hour
)

// New returns a consumer. It does nothing before an adapter runs it.
func New(config Config, database Database) (*Consumer, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	c := &Consumer{
		config: config, database: database,
		log:      config.Logger.With("consumer", config.Name),
		slots:    semaphore.NewWeighted(int64(config.Concurrency)),
		types:    map[string]bool{},
		assigned: map[*Partition]struct{}{},
		failed:   make(chan struct{}),
	}
	for _, name := range config.Types {
		c.types[name] = true
	}
	c.gate = newGate(c.log, config.Backoff, func(shut bool) { config.Metrics.unavailable(config.Name, shut) })
	return c, nil
}

// Group returns the consumer group.
func (c *Consumer) Group() string { return c.config.Group }

// Logger returns what adapters log with.
func (c *Consumer) Logger() *slog.Logger { return c.log }

// Topics returns the topics to read.
func (c *Consumer) Topics() []string { return slices.Clone(c.config.Topics) }

// Run registers the consumer and runs what an adapter does with its client, until
// that ends, ctx ends, or something is wrong that trying again does not mend.
func (c *Consumer) Run(ctx context.Context, client Client, consume func(ctx context.Context) error) error {
	c.client = client
	err := c.database.query(ctx, func(scan scanner) error { return scan(&c.number) },
		"select inbox.register($1::text, $2::text)", c.config.Name, c.config.Group)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("register consumer %q: %w", c.config.Name, explain(err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	background.Go(func() { c.every(ctx, c.config.CommitEvery, c.foldAll) })
	background.Go(func() { c.every(ctx, requestEvery, c.serveRequests) })
	background.Go(func() { c.every(ctx, pruneEvery, c.prune) })
	background.Go(func() {
		select {
		case <-c.failed:
			cancel()
		case <-ctx.Done():
		}
	})
	err = consume(ctx)
	cancel()
	background.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return c.failure
	}
	return err
}

// fail ends the consumer.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
		close(c.failed)
	}
}

func (c *Consumer) every(ctx context.Context, interval time.Duration, work func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := work(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("will be tried again", "error", err, "again_in", interval)
		}
	}
}

func (c *Consumer) partitions() []*Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*Partition, 0, len(c.assigned))
	for p := range c.assigned {
		all = append(all, p)
	}
	return all
}

func (c *Consumer) forget(p *Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.assigned, p)
}

func (c *Consumer) foldAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, foldAt)
	defer cancel()
	for _, p := range c.partitions() {
		if err := p.fold(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prune removes claims that no range covers and that are older than the retention.
func (c *Consumer) prune(ctx context.Context) error {
	const statement = `with old as (
		select ctid from inbox.claim where consumer = $1 and claimed_at < now() - $2::text::interval limit 10000
	), gone as (delete from inbox.claim where ctid in (select ctid from old) returning 1) select count(*) from gone`
	age := strconv.FormatFloat(max(c.config.Retention, c.config.Keep).Seconds(), 'f', 3, 64) + " seconds"
	for removed := 10_000; removed == 10_000; {
		err := c.database.query(ctx, func(scan scanner) error { return scan(&removed) }, statement, c.number, age)
		if err != nil {
			return fmt.Errorf("remove old claims: %w", err)
		}
	}
	return nil
}

// prepare finds out what a record is, given how many partitions the topic has had.
func (c *Consumer) prepare(r *Record, counts []int32) *item {
	i := &item{Record: r, home: -1, judges: homes{at: []int32{r.Partition}, since: []int32{0}}}
	e, err := r.Event()
	if err != nil {
		i.invalid = err
		i.source, i.id = fmt.Sprintf("kafka:%s-%d", r.Topic, r.Partition), strconv.FormatInt(r.Offset, 10)
		return i
	}
	i.event, i.source, i.id = e, e.Source(), e.ID()
	i.position = positionOf(r, &e)
	i.skip = len(c.types) > 0 && !c.types[e.Type()]
	if i.position.sequence == "" || r.Key == nil {
		return i
	}
	i.homes = homesOf(r.Key, counts)
	i.home = slices.Index(i.homes.at, r.Partition)
	switch {
	case i.position.ordered && i.home >= 0:
		i.judges.since[0] = i.homes.since[i.home]
	case i.position.ordered:
	case i.home >= 0:
		i.judges = i.homes // a replay publishes where the key belongs now
	case len(i.homes.at) > 1:
		i.position = position{} // of another partitioner, and where it was nobody knows
	}
	return i
}

// admit refuses what only the operator can decide.
func (c *Consumer) admit(i *item) error {
	replay, again := i.Header(headerReplay)
	if !again || isLate(replay) || i.position.sequence != "" {
		return nil
	}
	switch c.config.Unsequenced {
	case HandleOnce:
	case PassOver:
		i.skip = true
	default:
		return advise(fmt.Sprintf("set Unsequenced to %q to handle such events if they are not in the ledger, or to %q to take them for repeats", HandleOnce, PassOver),
			"record %s was replayed from the table, so that nothing says whether its event %s was handled before", i, i.id)
	}
	return nil
}
