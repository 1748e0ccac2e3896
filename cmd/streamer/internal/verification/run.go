package verification

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/locate"
	"github.com/outboxstream/streamer/internal/verify"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router/kafka"
)

// verification is one run of streamer verify.
type verification struct {
	command  Command
	cfg      config.Config
	std      console.Streams
	progress *progress
	found    func(verify.Finding) error

	control *replication.Control // nil with a truth file that names its stream
	server  replication.Server
	members []*member // streams whose rows are in the table
	kafka   *kafka.Client

	span       verify.Span
	written    verify.Span // span in times, for rows
	streams    []string
	comparison *verify.Comparison
	counts     map[string]int      // partitions by topic
	topics     map[string]struct{} // topics that rows name
	matched    []string            // topics that the configuration leads to
	logs       []kafka.Log
	settled    replication.LSN
	notes      []string
}

func (v *verification) close() {
	if v.comparison != nil {
		v.comparison.Close()
	}
	if v.kafka != nil {
		v.kafka.Close()
	}
	if v.control != nil {
		v.control.Close()
	}
}

// run compares. The order of its steps keeps rows in flight from becoming
// findings: first the rows, then the proof that they are confirmed, then the
// ends of the partitions.
func (v *verification) run(ctx context.Context) (counts verify.Counts, err error) {
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = fmt.Errorf("verify: not finished: %w", cause)
		}
	}()
	if v.kafka, err = site.ConnectKafka(ctx, v.cfg); err != nil {
		return counts, err
	}
	v.counts, v.topics = map[string]int{}, map[string]struct{}{}
	read := v.readTable
	if v.command.Truth != "" {
		read = v.readTruth
	}
	if err := read(ctx); err != nil {
		return counts, err
	}
	if err := v.readKafka(ctx); err != nil {
		return counts, err
	}
	v.progress.step("comparing")
	return v.comparison.Compare(ctx, func(done, of int) { v.progress.share(done, of) })
}

// identify connects to PostgreSQL and finds the identities under which the
// streamer has published.
func (v *verification) identify(ctx context.Context) (err error) {
	if v.control, _, err = site.ConnectPostgres(ctx, v.cfg); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	if v.server, err = v.control.Identify(timed); err != nil {
		return err
	}
	for i := range max(1, v.cfg.Shard.Count) {
		cfg := v.cfg.ForShard(i)
		v.members = append(v.members, &member{control: site.AsShard(v.control, cfg), stored: v.addStream(ctx, cfg)})
	}
	for _, slot := range v.command.FormerSlot {
		former := v.cfg
		former.Postgres.Slot = slot
		v.addStream(ctx, former)
	}
	return nil
}

// member is one of the streams that publish the table: a shard, or the only one.
type member struct {
	control *replication.Control
	stored  checkpoint.LSN
}

// addStream includes what was published from a slot in the comparison. It
// returns the slot's checkpoint, or 0.
func (v *verification) addStream(ctx context.Context, cfg config.Config) checkpoint.LSN {
	record, err := site.LoadCheckpoint(ctx, cfg, site.IdentityOf(v.server, cfg))
	if err != nil && !errors.Is(err, checkpoint.ErrNone) {
		v.note("the stored checkpoint could not be read, so only the slot says what is confirmed: %s", failure.Describe(err))
	}
	v.streams = append(v.streams, site.StreamIDs(v.server, cfg, record)...)
	return record.LSN
}

// open creates the comparison once the amount to compare is known.
func (v *verification) open(ctx context.Context, rows int64, opened replication.LSN) error {
	if err := v.findTopics(); err != nil {
		return err
	}
	records, err := v.countRecords(ctx)
	if err != nil {
		return err
	}
	if err := v.translateSpan(ctx); err != nil {
		return err
	}
	v.comparison = verify.New(verify.Options{
		TempDir: v.command.TempDir, Expect: rows + records, Attributes: v.attributeNames(), BySource: len(v.cfg.Outboxes) > 0,
		Streams: v.streams, Strict: v.command.Strict || v.command.Truth != "", Union: v.command.Truth != "",
		Opened: opened, Span: v.span, Written: v.written, Limit: int(v.command.Limit),
	}, v.found)
	return nil
}

// findTopics lists the existing topics that the configuration can lead to.
func (v *verification) findTopics() error {
	if len(v.command.Topic) > 0 {
		v.matched = slices.Compact(slices.Sorted(slices.Values(v.command.Topic)))
		return nil
	}
	known, prefixes, err := site.KnownTopics(v.cfg, v.server.Database)
	if err != nil {
		return err
	}
	all, err := v.kafka.Topics("")
	if err != nil {
		return err
	}
	for _, topic := range all {
		if readable(v.cfg, topic) && kafka.IsAmong(topic, known, prefixes) {
			v.matched = append(v.matched, topic)
		}
	}
	return nil
}

func (v *verification) countRecords(ctx context.Context) (total int64, err error) {
	for _, topic := range v.matched {
		logs, err := v.kafka.Logs(ctx, topic)
		if err != nil {
			return 0, err
		}
		v.logs = append(v.logs, logs...)
		v.counts[topic] = len(logs)
		for _, log := range logs {
			total += log.End - log.Start
		}
	}
	return total, nil
}

// translateSpan computes the limits of rows, which have times but no positions.
func (v *verification) translateSpan(ctx context.Context) error {
	v.written = verify.Span{FromTime: v.span.FromTime, ToTime: v.span.ToTime}
	if v.span.From != 0 {
		below, _, err := locate.Around(ctx, v.kafka, v.logs, v.streams, v.span.From)
		if err != nil {
			return err
		}
		v.written.FromTime = below
		if below.IsZero() && v.timed() {
			v.note("position %s cannot be dated, because Kafka has no earlier record of this outbox: "+
				"older rows without a record count as missing, too. Give a time instead", v.span.From)
		}
	}
	if v.span.To != 0 {
		_, above, err := locate.Around(ctx, v.kafka, v.logs, v.streams, v.span.To)
		if err != nil {
			return err
		}
		v.written.ToTime = above
	}
	return nil
}

// timeColumn returns the column that says when rows were inserted, or an empty
// name.
func (v *verification) timeColumn(o config.Outbox) string {
	return cmp.Or(v.command.TimeColumn, o.CleanupColumn())
}

// timed reports whether all tables say when their rows were inserted.
func (v *verification) timed() bool {
	return !slices.ContainsFunc(site.WithTables(v.cfg), func(o config.Outbox) bool { return v.timeColumn(o) == "" })
}

// attributeNames are the extensions that any table maps.
func (v *verification) attributeNames() (names []string) {
	for _, o := range site.WithTables(v.cfg) {
		names = append(names, expectedRules(v.cfg, o, v.server.Database, nil).AttributeNames()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// tableNames names the tables.
func (v *verification) tableNames() string {
	var names []string
	for _, o := range site.WithTables(v.cfg) {
		names = append(names, o.Table)
	}
	return strings.Join(names, ", ")
}

func (v *verification) readTable(ctx context.Context) error {
	if err := v.comparable(); err != nil {
		return err
	}
	if err := v.identify(ctx); err != nil {
		return err
	}
	v.progress.step("reading table " + v.tableNames())
	if err := v.rows(ctx, v.open, v.addRow); err != nil {
		return err
	}
	for _, m := range v.members {
		if err := v.settle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// comparable says which events cannot be verified, or that none can.
func (v *verification) comparable() error {
	if len(site.WithTables(v.cfg)) == 0 {
		return failure.Misconfigure(failure.Advise(
			errors.New("there is nothing to verify against: all events are messages (outbox.messages), which are in no table"),
			"keep your own record of what was written, and compare with --truth",
		))
	}
	for _, o := range v.cfg.Tables() {
		if o.Messages != "" {
			v.note("messages with prefix %q are not verified: %s", o.Messages, site.OnlyInWAL)
		}
	}
	return nil
}

// rows reads the tables and says what each row should be in Kafka. open is
// called once, with what is known from the first table.
func (v *verification) rows(ctx context.Context,
	open func(context.Context, int64, replication.LSN) error, add func(*verify.Row) error,
) error {
	if !v.timed() && !v.span.Unlimited() {
		v.note("missing events are not looked for: nothing says when a row was inserted. " +
			"Name a column with --time-column, or omit --from and --to")
	}
	tables, err := v.control.DescribeTables(ctx)
	if err != nil {
		return err
	}
	for i, t := range tables {
		if i > 0 {
			open = func(context.Context, int64, replication.LSN) error { return nil }
		}
		o := v.cfg.Tables()[t.Outbox.Entry]
		if o.Table = t.Outbox.Table; t.Outbox.Pattern != "" && !t.Published {
			v.note("table %s is left out, because publication %q does not contain it", o.Table, v.cfg.Postgres.Publication)
			continue
		}
		if err := v.rowsOf(ctx, o, open, add); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) rowsOf(ctx context.Context, o config.Outbox,
	open func(context.Context, int64, replication.LSN) error, add func(*verify.Row) error,
) error {
	query := replication.OutboxQuery{
		Outbox: site.Outbox(o), Columns: site.Mapping(o).ColumnNames(), TimeColumn: v.timeColumn(o), Undated: true,
	}
	if query.TimeColumn != "" {
		// Positions are translated after the first row has arrived. They limit
		// only findings.
		if !v.span.FromTime.IsZero() {
			query.From = v.span.FromTime.Add(-v.command.Slack)
		}
		if !v.span.ToTime.IsZero() {
			query.To = v.span.ToTime.Add(v.command.Slack)
		}
	}
	var expectation *verify.Expectation
	return v.control.ReadOutbox(ctx, query, func(s replication.OutboxSnapshot) (err error) {
		v.settled = max(v.settled, s.Settled)
		v.progress.expect(s.Rows)
		if len(s.Types) == 0 { // no rows, no types
			s.Types = make([]uint32, len(query.Columns))
		}
		rules := expectedRules(v.cfg, o, v.server.Database, query.Columns)
		rules.Types = s.Types
		if expectation, err = verify.NewExpectation(rules); err != nil {
			return err
		}
		return open(ctx, s.Rows, s.Opened)
	}, func(values replication.OutboxRow) error {
		v.progress.one()
		row, err := expectation.Row(values.Values)
		if err != nil {
			return fmt.Errorf("outbox row: %w", err)
		}
		if values.Time != 0 {
			row.Written = time.UnixMicro(values.Time).UTC()
		}
		return add(row)
	})
}

// addRow adds a row to the comparison.
func (v *verification) addRow(row *verify.Row) error {
	topic := string(row.Topic)
	if len(v.command.Topic) > 0 && len(topic) > 0 && !slices.Contains(v.matched, topic) {
		return nil
	}
	partition := int32(-1)
	if _, met := v.counts[topic]; !met && readable(v.cfg, topic) {
		const most = 10_000 // a row may name any topic
		if len(v.topics) < most {
			v.topics[topic] = struct{}{}
		}
		v.counts[topic] = 0
		if found, err := v.kafka.HasTopic(topic); err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		} else if found {
			// Without a count the row's partition is not known, which does no
			// harm.
			v.counts[topic], _ = v.kafka.Partitions(topic)
		}
	}
	if count := v.counts[topic]; count > 0 && row.Key != nil {
		partition = kafka.NewPartitioner(v.cfg.Kafka.Partitioner, topic).Of(row.Key, count)
	}
	return v.comparison.AddRow(row, partition)
}

// readKafka reads the topics up to their current ends.
func (v *verification) readKafka(ctx context.Context) error {
	// Topics that rows name may have been created in the meantime.
	for topic := range v.topics {
		if !slices.Contains(v.matched, topic) {
			v.matched = append(v.matched, topic)
		}
	}
	// A row among the dead letters is not missing.
	if topic := deadLetterTopic(v.cfg); topic != "" && !slices.Contains(v.matched, topic) {
		v.matched = append(v.matched, topic)
	}
	slices.Sort(v.matched)
	v.logs = nil
	total, err := v.countRecords(ctx)
	if err != nil {
		return err
	}
	compacted := map[string]bool{}
	for _, topic := range v.matched {
		if v.counts[topic] == 0 && topic != deadLetterTopic(v.cfg) {
			v.note("topic %q does not exist", topic)
		}
		if v.counts[topic] == 0 {
			continue
		}
		policy, err := v.kafka.TopicSetting(topic, "cleanup.policy")
		if compacted[topic] = err == nil && strings.Contains(policy, "compact"); compacted[topic] {
			v.note("topic %q is compacted, so its missing events cannot be determined", topic)
		}
	}
	if from := v.written.FromTime; !from.IsZero() {
		total = 0
		for i := range v.logs {
			if err := v.kafka.Seek(ctx, &v.logs[i], from.Add(-v.command.Slack)); err != nil {
				return err
			}
			total += v.logs[i].End - v.logs[i].From
		}
	}
	v.progress.step(fmt.Sprintf("reading %d topics", len(v.matched)))
	v.progress.expect(total)
	return v.kafka.ScanAll(ctx, v.logs, v.command.Parallel, func(log kafka.Log) func(*kafka.LogRecord) error {
		l := v.comparison.OpenLog(log, compacted[log.Topic])
		return func(r *kafka.LogRecord) error {
			v.progress.one()
			return l.Add(r)
		}
	})
}

// readable reports whether a row may name the topic. It must be a valid name,
// must not be internal to Kafka and must not hold checkpoints. Otherwise the
// row is not published.
func readable(cfg config.Config, topic string) bool {
	const longest = 249
	const taken = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	switch {
	case topic == "" || len(topic) > longest || topic == "." || topic == ".." || strings.HasPrefix(topic, "__"):
		return false
	case cfg.Checkpoint.Store == config.StoreKafka && topic == cfg.Checkpoint.Kafka.Topic:
		return false
	}
	return !strings.ContainsFunc(topic, func(c rune) bool { return !strings.ContainsRune(taken, c) })
}

// note adds something that the reader of the report should know.
func (v *verification) note(format string, arguments ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, arguments...))
}

// expectedRules returns the rules of a table as the configuration words them.
func expectedRules(cfg config.Config, o config.Outbox, database string, columns []string) verify.Rules {
	m := site.Mapping(o)
	attributes := map[string]string{}
	for attribute, column := range m.Columns {
		attributes[attribute.String()] = column
	}
	defaults := map[string]string{}
	for attribute, constant := range m.Defaults {
		defaults[attribute.String()] = constant
	}
	r := verify.Rules{
		Columns: columns, Attributes: attributes, Extensions: m.Extensions, Defaults: defaults, TimeUnit: m.TimeUnit,
		Constants: map[string]string{"table": m.Schema + "." + m.Table, "schema": m.Schema, "database": database},
		Topic:     o.Topic, Key: o.Key, Type: cfg.CloudEvents.Type, Source: o.Source,
		ContentType: cfg.CloudEvents.DataContentType, Structured: cfg.CloudEvents.Mode == config.ModeStructured,
		NullPayload: o.NullPayload,
	}
	for _, route := range o.Routes {
		r.Routes = append(r.Routes, verify.Route{
			AggregateType: route.AggregateType, Topic: route.Topic, Key: route.Key,
			Mode: route.Mode, NullPayload: route.NullPayload,
		})
	}
	return r
}

// lost reports whether the slot, or the error in its place, means that nothing
// will ever be published from it again.
func lost(slot replication.Slot, err error) bool {
	return errors.Is(err, replication.ErrSlotMissing) || err == nil && slot.Lost()
}

// standbyError explains why a standby cannot say what is confirmed.
func standbyError(slot string) error {
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("the server is a standby without slot %q", slot),
		"name the primary in postgres.dsn, or compare a recording with --truth",
	))
}

// deadLetterTopic returns the topic of rows that cannot be published, or an
// empty name.
func deadLetterTopic(cfg config.Config) string {
	if cfg.HasDeadLetters() {
		return cfg.Poison.Topic
	}
	return ""
}
