package setup

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// madeBy returns the framework that makes the table itself.
func madeBy(o config.Outbox) (title string, made bool) {
	p, ok := config.FindPreset(o.Preset)
	return p.Title, ok && p.Name != "debezium" && p.Name != "event-store"
}

// outboxColumns returns the columns of a table that fits the configuration. A
// column with several purposes gets the type of the first.
func outboxColumns(o config.Outbox) []replication.Column {
	m := site.Mapping(o)
	var columns []replication.Column
	add := func(reference, typ string) {
		name, inside := decoder.ColumnName(reference)
		if inside {
			typ = "jsonb"
		}
		if name != "" && !slices.ContainsFunc(columns, func(c replication.Column) bool { return c.Name == name }) {
			columns = append(columns, replication.Column{Name: name, Type: typ})
		}
	}
	for _, a := range decoder.Attributes() {
		add(m.Columns[a], columnType(a))
	}
	for _, extension := range slices.Sorted(maps.Keys(m.Extensions)) {
		add(m.Extensions[extension], "text")
	}
	for _, header := range m.Headers {
		add(header, "text")
	}
	return columns
}

func columnType(a decoder.Attribute) string {
	switch a {
	case decoder.ID:
		return "uuid PRIMARY KEY DEFAULT gen_random_uuid()"
	case decoder.AggregateType, decoder.AggregateID, decoder.Type:
		return "text NOT NULL"
	case decoder.Payload:
		return "jsonb"
	case decoder.Time:
		return "timestamptz NOT NULL DEFAULT now()"
	default:
		return "text"
	}
}

// checkpointColumns are the columns that the checkpoint store creates when it
// may create tables. A test compares the two.
var checkpointColumns = []replication.Column{
	{Name: "key", Type: "text PRIMARY KEY"},
	{Name: "record", Type: "text NOT NULL"},
	{Name: "saved_at", Type: "timestamptz NOT NULL"},
	{Name: "epoch", Type: "bigint NOT NULL DEFAULT 0"},
}

// Role is the role that the printed statements allow to stream.
const Role = "streamer"

// print writes what setup would do, for operators who do it themselves. It
// needs no server.
func (command Command) print(cfg config.Config, std console.Streams) error {
	known, prefixes, err := site.KnownTopics(cfg, "")
	if err != nil {
		return err
	}
	var b strings.Builder
	statement := func(comment, sql string) {
		fmt.Fprintf(&b, "%s\n%s;\n\n", comment, sql)
	}
	b.WriteString("-- PostgreSQL. Run these statements in this order, " +
		"in the database of the outbox table.\n-- wal_level must be 'logical'; changing that needs a restart.\n\n")
	for _, o := range cfg.Tables() {
		if o.Messages != "" {
			statement(fmt.Sprintf("-- Events are messages with prefix %q, without a table:\n-- %s.\n"+
				"-- This function writes one. The streamer does not need it.",
				o.Messages, strings.ReplaceAll(site.OnlyInWAL, ", and", ",\n-- and")), functionSQL(o, ""))
			continue
		}
		if title, made := madeBy(o); made {
			fmt.Fprintf(&b, "-- The outbox table %s is made by %s.\n\n", o.Table, title)
		} else if !o.IsPattern() {
			statement("-- The outbox table, unless you have one. Applications need INSERT on it.",
				schemaSQL(o.Table)+replication.TableSQL(o.Table, outboxColumns(o)))
		}
	}
	if err := writePublications(&b, cfg); err != nil {
		return err
	}
	statement(roleSQL(cfg))
	if cfg.Checkpoint.Store == config.StorePostgres {
		table := cfg.Checkpoint.Postgres.Table
		statement("-- The checkpoint table (in the database of checkpoint.postgres.dsn) and the only\n-- privileges that the role needs.",
			schemaSQL(table)+replication.TableSQL(table, checkpointColumns)+";\n"+replication.GrantTableSQL(table, Role))
	}
	for _, o := range cfg.Tables() {
		if o.Cleanup.Mode != config.CleanupNone && !o.IsPattern() {
			statement("-- For outbox.cleanup. To drop partitions the role must own them.", grantTableSQL(o.Table, "SELECT, DELETE"))
		}
	}
	if cfg.Snapshot.Mode == config.SnapshotInitial {
		statement("-- For snapshot.mode: initial. The role reads the table itself, and needs this only until\n"+
			"-- the snapshot is finished.", grantTableSQL(cfg.Outbox.Table, "SELECT"))
	}
	writeSlots(&b, cfg, command.Failover)
	topics := slices.Concat(known, command.Topic)
	slices.Sort(topics)
	writeTopics(&b, cfg, slices.Compact(topics), prefixes)
	_, err = std.Out.Write([]byte(b.String()))
	return err
}

// roleSQL returns the statements that create the role, and what to know about it.
func roleSQL(cfg config.Config) (comment, sql string) {
	role := replication.QuoteIdentifier(Role)
	if cfg.Postgres.Auth == config.AuthAWS {
		return "-- As the master user. The role needs no privileges on tables, but rds_replication lets it\n" +
				"-- read the changes of all tables. rds_iam takes tokens of AWS identities that may\n" +
				"-- rds-db:connect, and no password; for replication, rds.iam_auth_for_replication must be 1.",
			"CREATE ROLE " + role + " LOGIN;\nGRANT rds_replication, rds_iam TO " + role
	}
	return "-- As a superuser. The role needs no privileges on tables, " +
			"but REPLICATION lets it read\n-- the changes of all tables: guard its password, " +
			"and let pg_hba.conf admit it from one\n-- host to this database only. Set a password with \\password in psql.",
		"CREATE ROLE " + role + " LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE"
}

// grantTableSQL lets the role find rows, and do what else is allowed. Only the
// schema public is open to every role.
func grantTableSQL(table, allowed string) string {
	schema, _ := replication.SplitTable(table)
	to := " TO " + replication.QuoteIdentifier(Role)
	return "GRANT USAGE ON SCHEMA " + replication.QuoteIdentifier(schema) + to + ";\n" +
		"GRANT " + allowed + " ON " + replication.QuoteTable(table) + to
}

// writePublications writes the publication, or one for each shard if there are
// several. It does not know whether a column has another type than in the table
// that setup would create.
func writePublications(b *strings.Builder, cfg config.Config) error {
	owner := "-- As the owner of the table, who also needs CREATE on the database.\n"
	if len(site.WithTables(cfg)) == 0 {
		owner = "-- PostgreSQL wants a publication for every stream, also for one without tables.\n-- As a role with CREATE on the database.\n"
	}
	b.WriteString(owner)
	var tables []replication.Table
	var patterns []string
	for i, o := range cfg.Tables() {
		if o.Messages != "" {
			continue
		}
		if o.IsPattern() {
			patterns = append(patterns, o.Table)
			continue
		}
		table := replication.Table{Outbox: site.ReplicationConfig(cfg).Outboxes[i], Columns: outboxColumns(o)}
		for i := range table.Columns {
			table.Columns[i].Type, _, _ = strings.Cut(table.Columns[i].Type, " ")
		}
		tables = append(tables, table)
	}
	for i := range max(1, cfg.Shard.Count) {
		sql, err := replication.PublicationSQL(site.ReplicationConfig(cfg.ForShard(i)), tables)
		if err != nil {
			return err
		}
		b.WriteString(sql + ";\n")
		for _, pattern := range patterns {
			fmt.Fprintf(b, "-- For each table that matches %s, now and whenever there is another:\n-- ALTER PUBLICATION %s ADD TABLE …;\n",
				pattern, replication.QuoteIdentifier(cfg.ForShard(i).Postgres.Publication))
		}
	}
	b.WriteString("\n")
	return nil
}

// writeSlots writes the slots. Those of shards begin at the same position.
func writeSlots(b *strings.Builder, cfg config.Config, failover bool) {
	b.WriteString("-- After the publication, as this role or a superuser. " +
		"It waits for running\n-- transactions. The slot does not contain what was committed before.\n")
	first := site.ReplicationConfig(cfg.ForShard(0))
	b.WriteString(replication.SlotSQL(first, failover) + ";\n")
	for i := 1; i < cfg.Shard.Count; i++ {
		copied := site.ReplicationConfig(cfg.ForShard(i)).Slot
		b.WriteString(replication.CopySlotSQL(first.Slot, copied) + ";\n")
		if failover {
			fmt.Fprintf(b, "-- A copy is not a failover slot. On a replication connection: ALTER_REPLICATION_SLOT %s (FAILOVER true);\n", copied)
		}
	}
	b.WriteString("\n")
}

// schemaSQL creates a table's schema, unless that is public.
func schemaSQL(table string) string {
	schema, _ := replication.SplitTable(table)
	if schema == "public" {
		return ""
	}
	return "CREATE SCHEMA IF NOT EXISTS " + replication.QuoteIdentifier(schema) + ";\n"
}

// writeTopics writes the commands for Kafka's own tool.
func writeTopics(b *strings.Builder, cfg config.Config, topics, prefixes []string) {
	create := func(topic string, partitions, replicas int, configs map[string]string) {
		fmt.Fprintf(b, "kafka-topics.sh --bootstrap-server %s --create --if-not-exists --topic %s",
			quoteShell(strings.Join(cfg.Kafka.Brokers, ",")), quoteShell(topic))
		if partitions > 0 {
			b.WriteString(" --partitions " + strconv.Itoa(partitions))
		}
		if replicas > 0 {
			b.WriteString(" --replication-factor " + strconv.Itoa(replicas))
		}
		for _, name := range slices.Sorted(maps.Keys(configs)) {
			b.WriteString(" --config " + quoteShell(name+"="+configs[name]))
		}
		b.WriteString("\n")
	}
	b.WriteString("# Kafka.\n")
	if cfg.Checkpoint.Store == config.StoreKafka {
		create(cfg.Checkpoint.Kafka.Topic, 1, cfg.Checkpoint.Kafka.ReplicationFactor,
			map[string]string{"cleanup.policy": "compact", "message.timestamp.type": kafka.BrokerTime})
	}
	t := cfg.Kafka.Topics
	for _, topic := range topics {
		create(topic, t.Partitions, t.ReplicationFactor, t.Configs)
	}
	if cfg.HasDeadLetters() {
		create(cfg.Poison.Topic, t.Partitions, t.ReplicationFactor, site.DeadLetterSettings(cfg))
	}
	for _, prefix := range prefixes {
		how := "which are not created automatically: kafka.topics.create is false"
		if t.Create {
			how = "which are created with their first event"
		}
		fmt.Fprintf(b, "# Events also go to topics that begin with %s, %s.\n", quoteShell(prefix), how)
	}
	writeGrants(b, cfg, topics, prefixes)
}

// writeGrants writes the least rights that the streamer's principal needs where
// brokers check permissions. The principal in the output is a placeholder.
func writeGrants(b *strings.Builder, cfg config.Config, topics, prefixes []string) {
	if cfg.Kafka.SASL.Mechanism == config.MechanismAWS {
		b.WriteString("\n# Policies of the AWS identity authorise, not ACLs: see docs/how-to/managed-kafka.md#amazon-msk.\n")
		return
	}
	grant := func(resource, operations string) {
		fmt.Fprintf(b, "kafka-acls.sh --bootstrap-server %s --add --allow-principal User:%s %s %s\n",
			quoteShell(strings.Join(cfg.Kafka.Brokers, ",")), Role, operations, resource)
	}
	const useTopic = "--operation Describe --operation Read --operation Write"
	output := useTopic
	if cfg.Kafka.Topics.Create {
		output += " --operation Create"
	}
	b.WriteString("\n# Where brokers check permissions: what the streamer needs, " +
		"and nothing else. DescribeConfigs on\n# its topics lets `streamer doctor` see more.\n")
	if cfg.Kafka.Resume != string(pipeline.ResumeAtLeastOnce) {
		grant("--resource-pattern-type prefixed --transactional-id "+quoteShell(cfg.Kafka.TransactionalID),
			"--operation Describe --operation Write")
	}
	if cfg.Checkpoint.Store == config.StoreKafka {
		grant("--topic "+quoteShell(cfg.Checkpoint.Kafka.Topic), useTopic)
	}
	for _, topic := range topics {
		grant("--topic "+quoteShell(topic), output)
	}
	for _, prefix := range prefixes {
		if prefix == "" {
			b.WriteString("# Topics may have any name: grant access to the names that yours can have.\n")
			continue
		}
		grant("--resource-pattern-type prefixed --topic "+quoteShell(prefix), output)
	}
	if cfg.HasDeadLetters() {
		grant("--topic "+quoteShell(cfg.Poison.Topic), output)
	}
}

// quoteShell quotes a word if a shell would not take it literally.
func quoteShell(word string) string {
	plain := strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-,:=/") == ""
	if plain && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
