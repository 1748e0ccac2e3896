package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

func (d *doctor) postgres(ctx context.Context) {
	control, c, err := site.ConnectPostgres(ctx, d.cfg)
	if !d.outcome(err, "PostgreSQL", "reachable") {
		return
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	server, err := control.Identify(ctx)
	if !d.outcome(err, "replication connection", "the user has REPLICATION and pg_hba.conf lets it in") {
		d.tokensForReplication(ctx, control)
		return
	}
	d.server, d.database = &server, server.Database
	d.findings(replication.CheckServer(server, c), "server", fmt.Sprintf("PostgreSQL %d.%d, wal_level logical, "+
		"synchronous_standby_names does not include the streamer", server.Version/10000, server.Version%10000))
	d.settings(ctx, control, server)
	d.outboxTables(ctx, control, c)
	d.messages(c)
	for _, table := range d.tables {
		d.dispatch(ctx, control, table)
		d.partitions(ctx, control, table)
	}
	d.slotState(ctx, control, server)
	d.shards(ctx, control)
	d.past(ctx, control)
	d.condition(ctx, control)
	for _, table := range d.tables {
		if table.Exists {
			d.size(ctx, control, table, d.cfg.Tables()[table.Outbox.Entry])
		}
	}
}

func (d *doctor) outboxTables(ctx context.Context, control *replication.Control, c replication.Config) {
	var err error
	if d.tables, err = control.DescribeTables(ctx); err != nil {
		d.outcome(err, "outbox table", "")
	} else if len(d.tables) > 0 {
		d.findings(replication.CheckTables(d.tables, c), "outbox table",
			fmt.Sprintf("%s, and publication %q publishes the inserts; "+
				"the replica identity does not matter, as only inserts are read", d.complete(), c.Publication))
	}
}

// messages says what to know about events that are in no table.
func (d *doctor) messages(c replication.Config) {
	const what = "messages"
	if found := replication.CheckPublication(*d.server, c); len(found) > 0 {
		d.findings(found, what, "")
		return
	}
	for _, o := range d.cfg.Tables() {
		if o.Messages != "" {
			d.say(Fine, what, fmt.Sprintf("with prefix %q, of transactions only: %s", o.Messages, site.OnlyInWAL), "")
		}
	}
}

// complete says that the tables have what is mapped.
func (d *doctor) complete() string {
	if len(d.tables) == 1 {
		return "table " + d.tables[0].Outbox.Table + " has all mapped columns"
	}
	return console.Counted(len(d.tables), "table") + " have all mapped columns"
}

// dispatch looks for another program that publishes the rows.
func (d *doctor) dispatch(ctx context.Context, control *replication.Control, table replication.Table) {
	if !table.Exists {
		return
	}
	const what = "other dispatcher"
	writes, err := control.Writes(ctx, table.OID)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	switch found := site.Dispatching(d.cfg.Tables()[table.Outbox.Entry], table.Columns, writes); {
	case found.Seen:
		d.say(Warned, what, found.Meaning, found.Remedy)
	case found.Meaning != "":
		d.say(Fine, what, found.Meaning, "")
	}
}

// partitions checks whether rows can move to another partition of the table.
func (d *doctor) partitions(ctx context.Context, control *replication.Control, table replication.Table) {
	const what = "partition key"
	key, err := control.PartitionKey(ctx, table)
	if err != nil {
		d.outcome(err, what, "")
	} else if key.Key != "" {
		d.findings(replication.CheckPartitionKey(key, table), what,
			key.Key+": only superusers may change it in an UPDATE, which would publish events again")
	}
}

// condition looks for what will become a problem.
func (d *doctor) condition(ctx context.Context, control *replication.Control) {
	const what = "server load"
	now, err := control.Condition(ctx)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	d.findings(replication.CheckCondition(now), what, fmt.Sprintf("%d of %d replication slots in use, "+
		"%d of %d walsenders used by others, no long transaction", now.Slots, now.MaxSlots, now.Senders, now.MaxSenders))
}

// size looks at what a table holds.
func (d *doctor) size(ctx context.Context, control *replication.Control, table replication.Table, o config.Outbox) {
	const what = "outbox size"
	now, err := control.TableSize(ctx, table)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	d.payloads(ctx, control, table, o, now.Bytes)
	d.findings(replication.CheckSize(now, table), what, fmt.Sprintf("table %s: %s", table.Outbox.Table, console.Size(now.Bytes)))
}

// samplePatience is how long the doctor waits for a table that is locked.
const samplePatience = 3 * time.Second

// payloads looks for the largest payload, which is then compared with the
// limits of topics. A streamer needs no right on the table, so an unreadable
// table is no fault.
func (d *doctor) payloads(ctx context.Context, control *replication.Control, table replication.Table, o config.Outbox, size int64) {
	column, _ := decoder.ColumnName(o.Columns.Payload)
	if column == "" || !slices.ContainsFunc(table.Columns, func(c replication.Column) bool { return c.Name == column }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, samplePatience)
	defer cancel()
	const what = "largest payload"
	largest, err := control.LargestValue(ctx, table, column, size)
	if errors.Is(err, replication.ErrHidden) {
		d.say(Warned, "outbox table", "`streamer verify`, replays from the table and cleanup are refused: "+err.Error(), failure.Fix(err))
		return
	} else if err != nil {
		d.say(Fine, what, "not compared with the limits of topics: "+failure.Describe(err), "")
		return
	}
	d.largest = max(d.largest, largest)
	if limit := int64(o.MaxRowBytes); largest > limit {
		d.say(Warned, what, fmt.Sprintf("%d bytes, more than outbox.max_row_bytes = %d: such a row stops the streamer",
			largest, limit), "raise outbox.max_row_bytes")
		return
	}
	if largest > 0 {
		d.say(Fine, what, fmt.Sprintf("%d bytes, in a sample of the table %s", largest, table.Outbox.Table), "")
	}
}

// settings reports settings that are no mistakes but have a price.
func (d *doctor) settings(ctx context.Context, control *replication.Control, server replication.Server) {
	commit, err := control.Setting(ctx, "synchronous_commit")
	if err == nil && commit == "off" {
		d.say(Warned, "synchronous_commit", "off: a committed row reaches the streamer only after the WAL writer has run, "+
			"up to 200 ms later", "turn it on where latency matters")
	}
	if timeout, err := control.Setting(ctx, "wal_sender_timeout"); err == nil { // in milliseconds
		d.say(Fine, "wal_sender_timeout", fmt.Sprintf("%s on the streamer's connection (postgres.wal_sender_timeout; "+
			"the server's own is %s ms): a streamer that was cut off keeps the slot from the next one for that long",
			d.cfg.Postgres.WALSenderTimeout, timeout), "")
	}
	if role, err := control.RoleSetting(ctx); err == nil && role != "" {
		d.say(Fine, "role", fmt.Sprintf("other sessions of this user become %q (SET role); "+
			"the streamer's act as the user itself, whose own rights count", role), "")
	}
	if server.InStandby {
		d.say(Warned, "server role", "the server is a standby: "+
			"publication and table can only be changed on its primary, "+
			"and a slot is lost when the primary removes WAL that it needs",
			"name the primary in postgres.dsn, or add target_session_attrs=read-write")
	}
}

func (d *doctor) slotState(ctx context.Context, control *replication.Control, server replication.Server) {
	slot, err := control.Slot(ctx)
	if err != nil {
		d.outcome(err, "slot", "")
		return
	}
	d.slot = &slot
	former, err := control.CheckFormerSlots(ctx, replication.Succession{From: slot.Confirmed})
	if err != nil {
		d.outcome(err, "slot", "")
		return
	}
	found := append(replication.CheckSlot(slot, server), former...)
	d.findings(found, "slot", fmt.Sprintf("slot %q is %s behind and keeps %s of WAL, %s",
		slot.Name, console.Size(slot.Lag), console.Size(slot.RetainedWAL), status.UsedBy(slot)))
	d.retained(slot, server)
	switch slot.WALStatus {
	case "unreserved":
		d.say(Warned, "slot", "about to be lost: it keeps more WAL than max_slot_wal_keep_size allows",
			"let the streamer catch up now, or raise max_slot_wal_keep_size")
	case "extended":
		d.say(Warned, "slot", "keeps more WAL than max_wal_size",
			"make sure that the streamer runs, that Kafka acknowledges, and that the disk can hold what the slot keeps")
	}
}

// muchRetained is the size from which a slot without a limit is worth a
// warning, in bytes. unreadRetained is that size for a slot that is not read.
const (
	muchRetained   = 1 << 30
	unreadRetained = 64 << 20
)

// retained reports what the slot keeps on the server's disk.
func (d *doctor) retained(slot replication.Slot, server replication.Server) {
	const what = "max_slot_wal_keep_size"
	switch {
	case server.MaxSlotKeepSize != "-1":
		d.say(Fine, what, server.MaxSlotKeepSize+": a slot that needs more is lost", "")
	case slot.RetainedWAL >= unreadRetained && !slot.InUse():
		d.say(Warned, what, fmt.Sprintf("sets no limit, the slot keeps %s, "+
			"and no streamer reads it: when the disk is full, the database stops", console.Size(slot.RetainedWAL)),
			"start `streamer run`, and see docs/how-to/incidents.md#the-disk-is-filling")
	case slot.RetainedWAL >= muchRetained:
		d.say(Warned, what, fmt.Sprintf("sets no limit, and the slot keeps %s: when the disk is full, "+
			"the database stops", console.Size(slot.RetainedWAL)), "make sure that the streamer runs and Kafka acknowledges; "+
			"to give up the slot instead, ALTER SYSTEM SET max_slot_wal_keep_size = '…'")
	default:
		d.say(Fine, what, "sets no limit: the slot is never lost, but the disk fills up if no streamer runs for long", "")
	}
}
