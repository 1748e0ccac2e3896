package scaffold

import (
	"context"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// dispatched says whether another program sends the rows too, here and in the
// file.
func (s *scaffold) dispatched(ctx context.Context, control *replication.Control, c candidate) error {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	writes, err := control.Writes(ctx, c.table.OID)
	if err != nil {
		return err
	}
	outbox := config.Outbox{Cleanup: config.Cleanup{Mode: config.CleanupNone}}
	if c.certain() {
		outbox.Preset = c.preset.Name
	}
	found := site.Dispatching(outbox, c.table.Columns, writes)
	if !found.Seen {
		if c.certain() && c.preset.Dispatcher != "" {
			s.remarks["outbox.table"] = "Two publishers, unless you turn one off: the streamer, and " + c.preset.Dispatcher + ". To do so: " +
				c.preset.TurnOff + "."
		}
		return nil
	}
	fmt.Fprintf(s.std.Err, "streamer: warning: %s\nfix: %s\n", found.Meaning, found.Remedy)
	s.remarks["outbox.table"] = found.Meaning + ". " + found.Remedy + "."
	return nil
}
