package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/replication"
)

// Command is streamer doctor.
type Command struct {
	JSON bool `help:"Print JSON."`
}

// Help is shown by streamer doctor --help.
func (Command) Help() string {
	return `Checks everything that can be wrong before and while streaming, changes nothing, and
continues after a failure. Each line has a verdict (ok, warn or FAIL), what was checked,
what was found and, where needed, the remedy. Exit code 0: nothing failed. 2: the
configuration is not valid. 3: you must correct or decide something.

Example:
  streamer doctor --config streamer.yaml`
}

// Verdict is the outcome of a check.
type Verdict string

// The outcomes of a check.
const (
	Fine   Verdict = "ok"
	Warned Verdict = "warn"
	Failed Verdict = "FAIL"
)

// Diagnosis is one line of the report.
type Diagnosis struct {
	Verdict Verdict `json:"verdict"`
	What    string  `json:"what"`
	Meaning string  `json:"meaning"`
	Remedy  string  `json:"remedy,omitempty"`
}

func (d Diagnosis) String() string {
	line := fmt.Sprintf("%-4s  %s — %s", d.Verdict, d.What, d.Meaning)
	if d.Remedy != "" {
		line += " — " + d.Remedy
	}
	return strings.ReplaceAll(line, "\n", "; ")
}

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	d := &doctor{json: command.JSON, std: std}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.say(Failed, "configuration", strings.TrimSpace(line), "")
		}
		return errors.Join(d.finish(), failure.Misconfigure(errors.New("the configuration is not valid")))
	}
	d.cfg = loaded.Config
	d.run(ctx)
	if err := d.finish(); err != nil {
		return err
	}
	if d.failures > 0 {
		return failure.Refuse(fmt.Errorf("%s failed", console.Counted(d.failures, "check")))
	}
	return nil
}

// doctor makes the checks in the order in which they depend on each other. It
// leaves out checks whose precondition failed.
type doctor struct {
	cfg      config.Config
	std      console.Streams
	json     bool
	found    []Diagnosis
	failures int

	server   *replication.Server
	tables   []replication.Table // as far as it could be described
	slot     *replication.Slot
	database string
	saved    replication.LSN // the checkpoint; 0: none, or not known
	first    bool            // there is no checkpoint: the next start is the first of the slot
	largest  int64           // largest payload seen, in bytes; 0: none, or not known
}

// say adds a line. It prints the line at once unless the output is JSON.
func (d *doctor) say(v Verdict, what, meaning, remedy string) {
	line := Diagnosis{v, what, meaning, remedy}
	d.found = append(d.found, line)
	if v == Failed {
		d.failures++
	}
	if !d.json {
		fmt.Fprintln(d.std.Out, line)
	}
}

func (d *doctor) finish() error {
	if d.json {
		return d.std.JSON(map[string]any{"checks": d.found, "failures": d.failures})
	}
	return nil
}

// outcome says that a check succeeded, or why it failed.
func (d *doctor) outcome(err error, what, meaning string) bool {
	if err != nil {
		for _, r := range failure.Reports(err) {
			d.say(Failed, what, r.Problem, r.Fix)
		}
		return false
	}
	d.say(Fine, what, meaning, "")
	return true
}

// findings says what was found, or that all is well.
func (d *doctor) findings(found []replication.Finding, what, meaning string) {
	for _, f := range found {
		v := Warned
		if f.Fatal {
			v = Failed
		}
		d.say(v, what, f.Problem, f.Remedy)
	}
	if len(found) == 0 {
		d.say(Fine, what, meaning, "")
	}
}

func (d *doctor) run(ctx context.Context) {
	d.say(Fine, "configuration", "valid", "")
	d.identity(ctx)
	d.postgres(ctx)
	d.kafka(ctx)
	d.checkpoint(ctx)
	d.waiting(ctx)
	d.endpoint(ctx)
}

// checkpoint compares the stored position with the slot. A running streamer
// moves both. The checkpoint is never behind a slot that was read before it. It
// is never ahead of the end of a WAL that was read after it.
func (d *doctor) checkpoint(ctx context.Context) {
	if d.server == nil {
		return
	}
	place := site.CheckpointPlace(d.cfg)
	record, err := d.storedCheckpoint(ctx)
	if errors.Is(err, checkpoint.ErrNone) {
		if err := d.renamed(ctx); err != nil {
			d.outcome(err, "checkpoint", "")
			return
		}
		d.first = true
		d.say(Fine, "checkpoint", fmt.Sprintf("none in %s yet: the first start begins where the slot begins", place), "")
		d.beforeSlot(ctx)
		return
	}
	if !d.outcome(err, "checkpoint",
		fmt.Sprintf("%s, saved %s in %s", record.LSN, record.SavedAt.Format(time.RFC3339), place)) || d.slot == nil {
		return
	}
	d.saved = record.LSN
	d.tables = replication.After(record.Publication, d.tables)
	d.resumes(record)
	if record.Snapshot.Pending() {
		d.say(Fine, "snapshot", fmt.Sprintf("%s of about %s rows from before the slot are published; the stream begins after them",
			console.Grouped(record.Snapshot.Rows), console.Grouped(record.Snapshot.Expected)), "")
	}
	if record.Timeline != d.server.Timeline {
		d.say(Warned, "timeline", fmt.Sprintf("the server is on timeline %d, the checkpoint is of timeline %d",
			d.server.Timeline, record.Timeline),
			"start `streamer run`: it compares the two histories, and refuses if they diverge before the checkpoint")
	}
	slot := *d.slot
	if now, err := d.flushed(ctx); err == nil {
		slot.Flushed = now
	}
	c := site.ReplicationConfig(d.cfg)
	if found := replication.CheckMemberships(record.Publication, d.tables, c); len(found) > 0 {
		d.findings(found, "publication", "")
	}
	d.findings(replication.CheckPosition(record.LSN, slot), "position", fmt.Sprintf("checkpoint %s is between "+
		"the slot (%s) and the end of the WAL (%s)", record.LSN, slot.Confirmed, slot.Flushed))
}

// storedCheckpoint also makes sure that the next checkpoint can be saved.
func (d *doctor) storedCheckpoint(ctx context.Context) (checkpoint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	store, err := site.StoredCheckpoints(ctx, d.cfg)
	if err != nil {
		return checkpoint.Record{}, err
	}
	defer store.Close()
	if table, ok := store.(*checkpoint.PostgresStore); ok {
		if err := table.Writable(ctx); err != nil {
			return checkpoint.Record{}, err
		}
	}
	return store.Load(ctx, site.IdentityOf(*d.server, d.cfg))
}

// renamed looks for the checkpoint under another name of the database.
func (d *doctor) renamed(ctx context.Context) error {
	if d.cfg.Checkpoint.Store == config.StoreFile {
		return nil
	}
	store, err := site.StoredCheckpoints(ctx, d.cfg)
	if errors.Is(err, checkpoint.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	control, _, err := site.ConnectPostgres(ctx, d.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	return pipeline.CheckRenamed(ctx, control, store, site.IdentityOf(*d.server, d.cfg))
}

// flushed returns the current end of the WAL.
func (d *doctor) flushed(ctx context.Context) (replication.LSN, error) {
	control, _, err := site.ConnectPostgres(ctx, d.cfg)
	if err != nil {
		return 0, err
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	slot, err := control.Slot(ctx)
	return slot.Flushed, err
}

func (d *doctor) endpoint(ctx context.Context) {
	if d.cfg.HTTP.Listen == "" {
		d.say(Warned, "HTTP endpoint", "http.listen is empty: health and metrics are not served", "set http.listen")
		return
	}
	health, err := status.AskHealth(ctx, d.cfg.HTTP.Listen)
	switch {
	case err != nil:
		d.say(Warned, "running streamer", failure.Describe(err),
			"start the streamer with `streamer run`; if it has exited by itself, the last lines of its log say why; "+
				"if it runs on another machine, run `streamer doctor` there")
	case !health.Ready:
		d.say(Failed, "running streamer", status.DescribeHealth(health), "read the log of the streamer")
	default:
		d.say(Fine, "running streamer", status.DescribeHealth(health), "")
	}
}
