package verification

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/verify"
)

// Command is streamer verify.
type Command struct {
	From       string        `placeholder:"LSN|TIME" help:"Only events committed at or after this: an LSN (0/15306C8), a time (2026-11-21T14:30:00Z), or a duration ago (90m)."`
	To         string        `placeholder:"LSN|TIME" help:"Only events committed before this."`
	Topic      []string      `placeholder:"NAME" help:"Only this topic; may be given several times."`
	TimeColumn string        `placeholder:"COLUMN" help:"Column that tells when a row was inserted, for --from and --to and for topics with retention. Default: outbox.cleanup.time_column or outbox.columns.time."`
	Slack      time.Duration `default:"10m" help:"How much earlier than its commit a row may have been inserted: the longest transaction and the difference of clocks."`
	Truth      string        `placeholder:"FILE" help:"Compare with this recording instead of the table; a record without a row is a finding then."`
	Record     string        `placeholder:"FILE" help:"Write the table's rows to this new file, for --truth, and compare nothing."`
	FormerSlot []string      `sep:"none" placeholder:"SLOT" help:"Also take for ours what was published from this slot, before the number of shards was changed; may be given several times."`
	Strict     bool          `help:"A record without a row is a finding: for outboxes from which nothing is ever deleted."`
	Wait       time.Duration `default:"30s" help:"How long a running streamer may take to confirm the rows that were read."`
	Limit      uint          `default:"10" placeholder:"N" help:"Findings to print of each kind, the earliest ones (default 10); 0 prints all, unsorted."`
	JSON       bool          `help:"Print JSON lines: each finding, and a summary at the end."`
	Parallel   int           `default:"2" placeholder:"N" help:"Partitions that are read at the same time (default 2)."`
	TempDir    string        `placeholder:"FOLDER" type:"existingdir" help:"Where the temporary file goes: some 200 bytes for each event."`
}

// Help is shown by streamer verify --help.
func (Command) Help() string {
	return `Compares the outbox table with what is in Kafka and tells what is missing, altered, out
of order, scattered over partitions or repeated, with offsets and positions. It only reads,
and may run beside a running streamer: rows that are not confirmed yet are not missed. The
exit code is 1 if there are findings.

Rows that were deleted from the table cannot be looked for: their records are counted, and
are findings with --strict only. What is deleted at once can be recorded before, with
--record, and compared with --truth.

Examples:
  streamer verify
  streamer verify --from 24h --time-column created_at
  streamer verify --json --limit 0 | jq -r 'select(.kind == "missing").event_id'`
}

// findingsError ends a comparison with findings. Its value is their number.
type findingsError int64

func (n findingsError) Error() string {
	if n == 1 {
		return "verify: 1 finding"
	}
	return fmt.Sprintf("verify: %d findings", int64(n))
}

// Run is the command.
func (command Command) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	v := &verification{command: command, cfg: loaded.Config, std: std, progress: newProgress(std)}
	v.found = v.show
	defer v.close()
	if v.span, err = command.span(time.Now()); err != nil {
		return failure.Misconfigure(err)
	}
	if command.Record != "" {
		return v.record(ctx)
	}
	counts, err := v.run(ctx)
	if err != nil {
		return err
	}
	if err := v.report(counts); err != nil {
		return err
	}
	if n := counts.Total(); n > 0 {
		return findingsError(n)
	}
	return nil
}

// span reads --from and --to.
func (command Command) span(now time.Time) (s verify.Span, err error) {
	from, err := console.ParsePosition("--from", command.From, now, console.AtLSN, console.AtTime)
	if err != nil {
		return s, err
	}
	to, err := console.ParsePosition("--to", command.To, now, console.AtLSN, console.AtTime)
	if err != nil {
		return s, err
	}
	s = verify.Span{From: from.LSN, FromTime: from.Time, To: to.LSN, ToTime: to.Time}
	if command.Truth != "" && command.Record != "" {
		return s, errors.New("--truth and --record: choose one")
	}
	return s, nil
}
