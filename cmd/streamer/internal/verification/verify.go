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
	From       string        `placeholder:"LSN|TIME" help:"Only events committed at or after this: an LSN (0/15306C8), a time (2026-11-21T14:30:00Z), or a duration before now (90m)."`
	To         string        `placeholder:"LSN|TIME" help:"Only events committed before this."`
	Topic      []string      `placeholder:"NAME" help:"Only this topic; may be repeated."`
	TimeColumn string        `placeholder:"COLUMN" help:"Column that says when a row was inserted, for --from and --to and for topics with retention. Default: outbox.cleanup.time_column or outbox.columns.time."`
	Slack      time.Duration `default:"10m" help:"How much earlier than its commit a row may have been inserted: the longest transaction plus the difference between clocks."`
	Truth      string        `placeholder:"FILE" help:"Compare with this recording instead of the table; a record without a row is then a finding."`
	Record     string        `placeholder:"FILE" help:"Write the table's rows to this new file, for --truth, and compare nothing."`
	FormerSlot []string      `sep:"none" placeholder:"SLOT" help:"Also accept what was published from this slot before it was renamed or the number of shards was changed; may be repeated."`
	Strict     bool          `help:"Treat a record without a row as a finding: for outboxes from which nothing is ever deleted."`
	Wait       time.Duration `default:"30s" help:"How long a running streamer may take to confirm the rows that were read."`
	Limit      uint          `default:"10" placeholder:"N" help:"Number of findings to print of each kind, earliest first (default 10); 0 prints all, unsorted."`
	JSON       bool          `help:"Print JSON lines: each finding, and a summary at the end."`
	Parallel   int           `default:"2" placeholder:"N" help:"Number of partitions to read at the same time (default 2)."`
	TempDir    string        `placeholder:"FOLDER" type:"existingdir" help:"Folder for the temporary file of some 200 bytes per event."`
}

// Help is shown by streamer verify --help.
func (Command) Help() string {
	return `Compares the outbox table with Kafka and reports what is missing, altered, out of order,
scattered over partitions or repeated, with offsets and positions. It only reads, and may
run alongside a running streamer: rows that are not confirmed yet do not count as missing.
The exit code is 1 if there are findings.

Rows that were deleted from the table cannot be looked for: their records are counted, and
are findings only with --strict. If rows are deleted soon, record them first with --record,
and compare the recording with --truth.

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
		return s, errors.New("--truth and --record cannot be combined")
	}
	return s, nil
}
