package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// Command is streamer setup.
type Command struct {
	Print          bool          `help:"Create nothing; print the SQL and the commands for Kafka, with least-privilege grants."`
	CreateTable    bool          `help:"Create the outbox table too, if it is missing."`
	CreateFunction bool          `help:"Create, for each prefix of messages, the SQL function that writes one, or replace it."`
	Failover       bool          `help:"Create the slot so that standbys keep a copy of it (PostgreSQL 17 or later)."`
	Topic          []string      `sep:"," placeholder:"NAME" help:"An output topic to create; may be repeated."`
	Timeout        time.Duration `default:"60s" help:"How long each step may wait, above all the creation of the slot, which waits for running transactions."`
}

// Help is shown by streamer setup --help.
func (Command) Help() string {
	return `Creates what is missing: publication, slot, checkpoint store, the dead letter topic if
rows can go there, and the output topics that are named with --topic or in the
configuration without placeholders. What exists is left unchanged; if something is wrong
with it, setup says so and the exit code is 3. You may run setup again. Only the owner of
the outbox table can create the publication, and needs CREATE on the database.

Examples:
  streamer setup --topic outbox.event.order
  streamer setup --print | less`
}

// Validate is called by kong.
func (command Command) Validate() error {
	if command.Timeout < time.Second {
		return errors.New("--timeout must be at least 1s")
	}
	return nil
}

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	cfg := loaded.Config
	if command.Print {
		return command.print(cfg, std)
	}
	s := &setup{Command: command, cfg: cfg, std: std}
	database, err := s.postgres(ctx)
	if err != nil {
		return err
	}
	if err := s.checkpointTable(ctx); err != nil {
		return err
	}
	if err := s.kafka(ctx, database); err != nil {
		return err
	}
	return failure.Refuse(errors.Join(s.wrong...))
}

// setup creates things in the order in which they depend on each other.
type setup struct {
	Command
	cfg   config.Config
	std   console.Streams
	wrong []error // found and not changed
}

// report says whether a thing existed or was created.
func (s *setup) report(what, name string, existed bool) {
	verb := "created"
	if existed {
		verb = "exists "
	}
	fmt.Fprintf(s.std.Out, "%s  %s %s\n", verb, what, name)
}

// findings prints warnings at once. It keeps findings that stop the streamer
// for the end.
func (s *setup) findings(found []replication.Finding) {
	for _, f := range found {
		if f.Fatal {
			s.wrong = append(s.wrong, f)
			continue
		}
		fmt.Fprintf(s.std.Out, "warning  %s\n         fix: %s\n", f.Problem, f.Remedy)
	}
}

func (s *setup) postgres(ctx context.Context) (database string, err error) {
	control, c, err := site.ConnectPostgres(ctx, s.cfg)
	if err != nil {
		return "", err
	}
	defer control.Close()
	if err := control.Limit(ctx, s.Timeout); err != nil {
		return "", err
	}
	server, err := control.Identify(ctx)
	if err != nil {
		return "", err
	}
	found := replication.CheckServer(server, c)
	s.findings(found)
	if err := replication.Refusal(found); err != nil {
		return "", err // nothing can be created for a WAL that cannot be decoded
	}
	if err := s.tables(ctx, control); err != nil {
		return "", err
	}
	if err := s.messages(ctx, control, server.Database); err != nil {
		return "", err
	}
	return server.Database, s.shards(ctx, control, server)
}

// shards creates publication and slot, for every shard if there are several.
func (s *setup) shards(ctx context.Context, control *replication.Control, server replication.Server) error {
	var made []*shardSetup
	for i := range max(1, s.cfg.Shard.Count) {
		asked := site.AsShard(control, s.cfg.ForShard(i))
		shard := &shardSetup{control: asked, c: asked.Config()}
		var err error
		if shard.existed, err = shard.control.SlotExists(ctx); err != nil {
			return err
		}
		made = append(made, shard)
	}
	for _, shard := range made {
		if err := s.publication(ctx, shard); err != nil {
			return err
		}
	}
	for _, shard := range made {
		if err := s.slot(ctx, shard, made[0], server); err != nil {
			return err
		}
	}
	s.copiedByStandbys(made) // only now: what is wrong keeps slots from being created
	return nil
}

// shardSetup is the setup of a shard, or of the whole table.
type shardSetup struct {
	control  *replication.Control
	c        replication.Config
	existed  bool // whether the slot existed
	failover bool // whether standbys keep a copy of the slot
}

// tables makes sure that the outbox tables exist.
func (s *setup) tables(ctx context.Context, control *replication.Control) error {
	tables, err := control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		name, existed := table.Outbox.Table, table.Exists
		title, made := madeBy(s.cfg.Tables()[table.Outbox.Entry])
		switch {
		case existed:
		case table.Kind != "" || table.Outbox.Pattern != "":
			return failure.Refuse(table.Missing())
		case made:
			return failure.Refuse(failure.Advise(
				fmt.Errorf("outbox table %s does not exist", name), "let %s make it, or name another in outbox.table", title,
			))
		case !s.CreateTable:
			return failure.Refuse(failure.Advise(
				fmt.Errorf("outbox table %s does not exist", name),
				"create it with your migrations (`streamer setup --print` shows the SQL), let `streamer setup --create-table` "+
					"do it, or name another in outbox.table",
			))
		default:
			columns := outboxColumns(s.cfg.Tables()[table.Outbox.Entry])
			if err := control.CreateTable(ctx, name, replication.TableSQL(name, columns)); err != nil {
				return err
			}
		}
		s.report("table", name, existed)
	}
	return nil
}

func (s *setup) publication(ctx context.Context, shard *shardSetup) error {
	tables, err := shard.control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	existed, err := shard.control.PublicationExists(ctx)
	if err != nil {
		return err
	}
	if !existed && shard.existed {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"slot %q exists but publication %q does not: what the slot holds from before the publication's creation "+
					"cannot be decoded",
				shard.c.Slot, shard.c.Publication,
			),
			"if nothing has been published from the slot yet, SELECT pg_drop_replication_slot('%s') and run `streamer setup` again", shard.c.Slot,
		))
	}
	if !existed {
		if err := shard.control.CreatePublication(ctx, tables); err != nil {
			return err
		}
		if tables, err = shard.control.DescribeTables(ctx); err != nil {
			return err
		}
	}
	s.report("publication", shard.c.Publication, existed)
	s.findings(replication.CheckTables(tables, shard.c))
	return nil
}

func (s *setup) slot(ctx context.Context, shard, first *shardSetup, server replication.Server) error {
	name := shard.c.Slot
	if !shard.existed {
		if len(s.wrong) > 0 {
			return failure.Refuse(fmt.Errorf("slot %q is created only after this is corrected: %w", name, errors.Join(s.wrong...)))
		}
		if err := s.createSlot(ctx, shard, first); err != nil {
			return err
		}
	}
	slot, err := shard.control.Slot(ctx)
	if err != nil {
		return err
	}
	s.report("slot", fmt.Sprintf("%s at %s", name, slot.Confirmed), shard.existed)
	s.findings(replication.CheckSlot(slot, server))
	shard.failover = slot.Failover
	return s.beforeSlot(ctx, shard, server, slot)
}

// copiedByStandbys says of which slots standbys keep no copy, if they are to. A
// slot that existed is not changed, and PostgreSQL copies slots without that
// option.
func (s *setup) copiedByStandbys(made []*shardSetup) {
	for _, shard := range made {
		if s.Failover && !shard.failover {
			s.wrong = append(s.wrong, failure.Advise(
				fmt.Errorf("slot %q is not a failover slot", shard.c.Slot),
				"run ALTER_REPLICATION_SLOT … (FAILOVER true) on a replication connection (PostgreSQL 17 or later)",
			))
		}
	}
}

// createSlot makes the slots of all shards begin at the same position, as
// copies of the first.
func (s *setup) createSlot(ctx context.Context, shard, first *shardSetup) error {
	if shard != first && first.existed {
		return failure.Refuse(failure.Advise(
			fmt.Errorf(
				"slot %q does not exist, but %q does: a slot created now would lack what was committed since",
				shard.c.Slot, first.c.Slot,
			),
			"if no shard has published anything yet, drop the slots of all shards and run `streamer setup` again",
		))
	}
	if shard != first {
		return first.control.CopySlot(ctx, shard.c.Slot)
	}
	return shard.control.CreateSlot(ctx, s.Failover, func(oldest replication.Transaction) {
		fmt.Fprintf(s.std.Err, "streamer: creation of slot %q waits for running transactions, the oldest is %s\n", shard.c.Slot, oldest)
	})
}

func (s *setup) checkpointTable(ctx context.Context) error {
	if s.cfg.Checkpoint.Store != config.StorePostgres {
		return nil
	}
	existed, err := site.CheckpointTableExists(ctx, s.cfg)
	if err != nil {
		return err
	}
	store, err := site.OpenCheckpointTable(ctx, s.cfg)
	if err != nil {
		return err
	}
	s.report("checkpoint table", s.cfg.Checkpoint.Postgres.Table, existed)
	if !existed {
		fmt.Fprintf(s.std.Out, "         a streamer that connects as another role needs: %s\n",
			strings.ReplaceAll(replication.GrantTableSQL(s.cfg.Checkpoint.Postgres.Table, Role), "\n", " "))
	}
	return store.Close()
}

// kafka creates topics. It does not connect to Kafka if there is no topic to
// create.
func (s *setup) kafka(ctx context.Context, database string) error {
	topics, err := s.topics(database)
	if err != nil {
		return err
	}
	if len(topics) == 0 && s.cfg.Checkpoint.Store != config.StoreKafka && !s.cfg.HasDeadLetters() {
		return nil
	}
	client, err := site.ConnectKafka(ctx, s.cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	if s.cfg.Checkpoint.Store == config.StoreKafka {
		if err := s.checkpointTopic(ctx, client); err != nil {
			return err
		}
	}
	for _, topic := range topics {
		if err := s.topic(client, "topic", topic, s.cfg.Kafka.Topics.Configs); err != nil {
			return err
		}
	}
	if s.cfg.HasDeadLetters() {
		return s.topic(client, "dead letter topic", s.cfg.Poison.Topic, site.DeadLetterSettings(s.cfg))
	}
	return nil
}

// topic makes sure that a topic exists. Only a topic that setup creates gets
// settings.
func (s *setup) topic(client *kafka.Client, what, name string, settings map[string]string) error {
	existed, err := client.HasTopic(name)
	if err == nil && !existed {
		t := site.ClientConfig(s.cfg).Topics
		t.Configs = settings
		var created bool
		created, err = client.CreateTopic(name, t)
		existed = !created
	}
	if err != nil {
		err = fmt.Errorf("%s %q: %w", what, name, err)
	}
	if failure.ClassOf(err) == failure.Refused {
		s.wrong = append(s.wrong, err)
		return nil
	}
	if err != nil {
		return err
	}
	s.report(what, name, existed)
	return nil
}

func (s *setup) checkpointTopic(ctx context.Context, client *kafka.Client) error {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	topic := kafka.NewCompactedTopic(client, s.cfg.Checkpoint.Kafka.Topic)
	created, err := topic.Ensure(ctx, s.cfg.Checkpoint.Kafka.ReplicationFactor)
	if failure.ClassOf(err) == failure.Refused {
		s.wrong = append(s.wrong, err)
		return nil
	}
	if err == nil {
		s.report("checkpoint topic", topic.Name(), !created)
	}
	return err
}

// topics returns the topics named on the command line and those of templates
// without placeholders.
func (s *setup) topics(database string) ([]string, error) {
	known, _, err := site.KnownTopics(s.cfg, database)
	topics := slices.Concat(known, s.Topic)
	slices.Sort(topics)
	return slices.Compact(topics), err
}
