package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

type doctorCommand struct {
	JSON bool `help:"Print JSON."`
}

// Help is shown by streamer doctor --help.
func (doctorCommand) Help() string {
	return `Checks everything that can be wrong before and while streaming, changes nothing, and
goes on after a failure. Each line has a verdict (ok, warn or FAIL), what was looked at,
what was found and, where needed, the remedy. Exit code 0: nothing failed. 2: the
configuration is not valid. 3: something must be corrected or decided.

Example:
  streamer doctor --config streamer.yaml`
}

// verdict is how a check has ended.
type verdict string

const (
	fine   verdict = "ok"
	warned verdict = "warn"
	failed verdict = "FAIL"
)

// diagnosis is one line of the report.
type diagnosis struct {
	Verdict verdict `json:"verdict"`
	What    string  `json:"what"`
	Meaning string  `json:"meaning"`
	Remedy  string  `json:"remedy,omitempty"`
}

func (d diagnosis) String() string {
	line := fmt.Sprintf("%-4s  %s — %s", d.Verdict, d.What, d.Meaning)
	if d.Remedy != "" {
		line += " — " + d.Remedy
	}
	return strings.ReplaceAll(line, "\n", "; ")
}

// Run is the command.
func (command doctorCommand) Run(ctx context.Context, c *cli, env environment) error {
	loaded, err := c.load(env)
	d := &doctor{json: command.JSON, env: env}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.say(failed, "configuration", strings.TrimSpace(line), "")
		}
		return errors.Join(d.finish(), failure.Misconfigure(errors.New("the configuration is not valid")))
	}
	d.cfg = loaded.Config
	d.run(ctx)
	if err := d.finish(); err != nil {
		return err
	}
	if d.failures > 0 {
		return failure.Refuse(fmt.Errorf("%d checks have failed", d.failures))
	}
	return nil
}

// doctor makes checks in the order in which they depend on each other. What
// cannot be checked because something before it failed is left out.
type doctor struct {
	cfg      config.Config
	env      environment
	json     bool
	found    []diagnosis
	failures int

	server   *replication.Server
	slot     *replication.Slot
	database string
}

// say adds a line, and writes it at once unless all are written as JSON.
func (d *doctor) say(v verdict, what, meaning, remedy string) {
	line := diagnosis{v, what, meaning, remedy}
	d.found = append(d.found, line)
	if v == failed {
		d.failures++
	}
	if !d.json {
		fmt.Fprintln(d.env.stdout, line)
	}
}

func (d *doctor) finish() error {
	if d.json {
		return d.env.writeJSON(map[string]any{"checks": d.found, "failures": d.failures})
	}
	return nil
}

// outcome says that a check went well, or why not. Our errors end with their
// remedy.
func (d *doctor) outcome(err error, what, meaning string) bool {
	if err != nil {
		d.say(failed, what, err.Error(), "")
		return false
	}
	d.say(fine, what, meaning, "")
	return true
}

// findings says what was found, or that all is well.
func (d *doctor) findings(found []replication.Finding, what, meaning string) {
	for _, f := range found {
		v := warned
		if f.Fatal {
			v = failed
		}
		d.say(v, what, f.Problem, f.Remedy)
	}
	if len(found) == 0 {
		d.say(fine, what, meaning, "")
	}
}

func (d *doctor) run(ctx context.Context) {
	d.say(fine, "configuration", "valid", "")
	d.postgres(ctx)
	d.kafka(ctx)
	d.checkpoint(ctx)
	d.endpoint(ctx)
}

func (d *doctor) postgres(ctx context.Context) {
	control, c, err := connectPostgres(ctx, d.cfg)
	if !d.outcome(err, "PostgreSQL", "reachable") {
		return
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if !d.outcome(err, "replication connection", "the user has REPLICATION and pg_hba.conf lets it in") {
		return
	}
	d.server, d.database = &server, server.Database
	d.findings(replication.CheckServer(server, c), "server", fmt.Sprintf("PostgreSQL %d.%d, wal_level logical, synchronous_standby_names does not mean us", server.Version/10000, server.Version%10000))
	d.settings(ctx, control, server)
	table, err := control.DescribeTable(ctx)
	if err != nil {
		d.outcome(err, "outbox table", "")
	} else {
		d.findings(replication.CheckTable(table, c), "outbox table", fmt.Sprintf("table %s has all mapped columns, and publication %q publishes its inserts", c.Table, c.Publication))
	}
	d.slotState(ctx, control, server)
	d.shards(ctx, control)
	d.past(ctx, control)
	d.condition(ctx, control, table, c)
}

// condition looks for what will become a problem.
func (d *doctor) condition(ctx context.Context, control *replication.Control, table replication.Table, c replication.Config) {
	now, err := control.Condition(ctx, table)
	if err != nil {
		d.outcome(err, "server load", "")
		return
	}
	d.findings(replication.CheckCondition(now, c), "server load", fmt.Sprintf("%d of %d replication slots and %d of %d walsenders in use, no long transaction, outbox table %s", now.Slots, now.MaxSlots, now.Senders, now.MaxSenders, size(now.Size)))
}

// settings are those that are no mistakes but have a price.
func (d *doctor) settings(ctx context.Context, control *replication.Control, server replication.Server) {
	commit, err := control.Setting(ctx, "synchronous_commit")
	if err == nil && commit == "off" {
		d.say(warned, "synchronous_commit", "off: a committed row reaches us only when the WAL writer has run, up to 200 ms later", "turn it on where latency matters")
	}
	if server.InStandby {
		d.say(warned, "server role", "the server is a standby: publication and table can only be changed on its primary, and a slot is lost when the primary removes what it needs", "name the primary in postgres.dsn, or add target_session_attrs=read-write")
	}
}

func (d *doctor) slotState(ctx context.Context, control *replication.Control, server replication.Server) {
	slot, err := control.Slot(ctx)
	if err != nil {
		d.outcome(err, "slot", "")
		return
	}
	d.slot = &slot
	found := replication.CheckSlot(slot, server)
	d.findings(found, "slot", fmt.Sprintf("slot %q is %s behind and keeps %s of WAL, %s", slot.Name, size(slot.Lag), size(slot.RetainedWAL), usedBy(slot)))
	d.retained(slot, server)
	switch slot.WALStatus {
	case "unreserved":
		d.say(warned, "slot", "about to be lost: it keeps more WAL than max_slot_wal_keep_size allows", "let the streamer catch up now, or raise max_slot_wal_keep_size")
	case "extended":
		d.say(warned, "slot", "keeps more WAL than max_wal_size", "see that the streamer runs and Kafka acknowledges; the disk must hold what the slot keeps")
	}
}

// muchRetained is from when on a slot without a limit is worth a word.
const muchRetained = 4 << 30

// retained is about what the slot keeps on the server's disk.
func (d *doctor) retained(slot replication.Slot, server replication.Server) {
	const what = "max_slot_wal_keep_size"
	switch {
	case server.MaxSlotKeepSize != "-1":
		d.say(fine, what, server.MaxSlotKeepSize+": a slot that needs more is lost", "")
	case slot.RetainedWAL >= muchRetained:
		d.say(warned, what, fmt.Sprintf("sets no limit, and the slot keeps %s: when the disk is full, the database stops", size(slot.RetainedWAL)), "see that the streamer runs and Kafka acknowledges; ALTER SYSTEM SET max_slot_wal_keep_size = '…' gives up the slot instead")
	default:
		d.say(fine, what, "sets no limit: the slot is never lost, but if no streamer runs for long the disk fills", "")
	}
}

// usedBy says who reads a slot.
func usedBy(slot replication.Slot) string {
	switch {
	case slot.Active:
		return fmt.Sprintf("used by server process %d", slot.ActivePID)
	case slot.Copies > 0:
		return fmt.Sprintf("a streamer is catching up through copies of it (%d)", slot.Copies)
	}
	return "nobody uses it"
}

func (d *doctor) kafka(ctx context.Context) {
	client, err := connectKafka(d.cfg)
	if !d.outcome(err, "Kafka", "reachable at "+strings.Join(d.cfg.Kafka.Brokers, ", ")) {
		return
	}
	defer client.Close()
	if d.cfg.Checkpoint.Store == config.StoreKafka {
		d.checkpointTopic(ctx, client)
	}
	known, prefixes, err := knownTopics(d.cfg, d.database)
	if err != nil {
		d.outcome(err, "output topics", "")
		return
	}
	var outputs []string // that exist
	for _, topic := range known {
		found, err := client.HasTopic(topic)
		if found {
			outputs = append(outputs, topic)
		} else {
			d.outputTopic(topic, err)
		}
	}
	for _, prefix := range prefixes {
		topics, err := client.Topics(prefix)
		if len(topics) == 0 {
			d.outputTopic(prefix+"…", err)
		}
		outputs = append(outputs, someTopics(topics)...)
	}
	for _, topic := range outputs {
		d.topicState(client, topic, true)
	}
	d.deadLetters(ctx, client, outputs)
	d.takeOver(ctx, client)
}

// checkpointTopic is looked at by the check that run makes, which would create
// a missing one.
func (d *doctor) checkpointTopic(ctx context.Context, client *router.Client) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	topic := router.NewCompactedTopic(client, d.cfg.Checkpoint.Kafka.Topic)
	found, err := client.HasTopic(topic.Name())
	if err == nil && !found {
		d.say(warned, "checkpoint topic", fmt.Sprintf("topic %q does not exist; the first start creates it", topic.Name()), "`streamer setup` creates it now")
		return
	}
	if err == nil {
		err = topic.Ensure(ctx, d.cfg.Checkpoint.Kafka.ReplicationFactor)
	}
	if d.outcome(err, "checkpoint topic", fmt.Sprintf("topic %q is compacted and has one partition", topic.Name())) {
		d.topicState(client, topic.Name(), false)
	}
}

// outputTopic is about one that was not found.
func (d *doctor) outputTopic(name string, err error) {
	what := "output topic " + name
	switch {
	case err != nil:
		d.outcome(err, what, "")
	case d.cfg.Kafka.Topics.Create:
		d.say(fine, what, "does not exist; the first event creates it", "")
	default:
		d.say(warned, what, "does not exist, and kafka.topics.create is false: the first event for it stops the streamer", "create it (`streamer setup --topic NAME`), or set kafka.topics.create")
	}
}

// checkpoint compares the stored position with the slot. A running streamer
// moves both: the checkpoint is never behind a slot seen before it, nor ahead
// of a log whose end is seen after it.
func (d *doctor) checkpoint(ctx context.Context) {
	if d.server == nil {
		return
	}
	place := checkpointPlace(d.cfg)
	record, err := loadCheckpoint(ctx, d.cfg, identityOf(*d.server, d.cfg))
	if errors.Is(err, checkpoint.ErrNone) {
		d.say(fine, "checkpoint", fmt.Sprintf("none in %s yet: the first start begins where the slot begins", place), "")
		return
	}
	if !d.outcome(err, "checkpoint", fmt.Sprintf("%s, saved %s in %s", record.LSN, record.SavedAt.Format(time.RFC3339), place)) || d.slot == nil {
		return
	}
	d.resumes(record)
	if record.Timeline != d.server.Timeline {
		d.say(warned, "timeline", fmt.Sprintf("the server is on timeline %d, the checkpoint of timeline %d", d.server.Timeline, record.Timeline), "`streamer run` compares the two histories and refuses where they part before the checkpoint")
	}
	slot := *d.slot
	if now, err := d.flushed(ctx); err == nil {
		slot.Flushed = now
	}
	d.findings(replication.CheckPosition(record.LSN, slot), "position", fmt.Sprintf("checkpoint %s lies between the slot (%s) and the end of the log (%s)", record.LSN, slot.Confirmed, slot.Flushed))
}

// flushed is where the log ends now.
func (d *doctor) flushed(ctx context.Context) (replication.LSN, error) {
	control, _, err := connectPostgres(ctx, d.cfg)
	if err != nil {
		return 0, err
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	slot, err := control.Slot(ctx)
	return slot.Flushed, err
}

func (d *doctor) endpoint(ctx context.Context) {
	if d.cfg.HTTP.Listen == "" {
		d.say(warned, "HTTP endpoint", "http.listen is empty: nobody sees health and metrics", "set http.listen")
		return
	}
	health, err := askHealth(ctx, d.cfg.HTTP.Listen)
	switch {
	case err != nil:
		d.say(warned, "running streamer", err.Error(), "start it with `streamer run`; if it runs elsewhere, ask there")
	case !health.Ready:
		d.say(failed, "running streamer", describeHealth(health), "see its log")
	default:
		d.say(fine, "running streamer", describeHealth(health), "")
	}
}
