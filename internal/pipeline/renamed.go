package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// databases tells which databases exist: a *replication.Control.
type databases interface {
	DatabaseExists(ctx context.Context, name string) (bool, error)
}

// CheckRenamed refuses a slot whose checkpoint is stored under another name of
// its database. The two names have different streams. What was published above
// the slot's position would be repeated under the new name.
func CheckRenamed(ctx context.Context, control databases, store checkpoint.Reader, id checkpoint.Identity) error {
	former, err := checkpoint.Former(ctx, store, id)
	if errors.Is(err, checkpoint.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	exists, err := control.DatabaseExists(ctx, former.Database)
	if err != nil || exists {
		return err // the slot was created again in another database
	}
	quote := replication.QuoteIdentifier
	return failure.Refuse(failure.Advise(
		fmt.Errorf("database %q was called %q when the checkpoint %s of slot %q was stored: "+
			"streaming under the new name would repeat what was published after the slot's position",
			id.Database, former.Database, former.LSN, id.Slot),
		"rename the database back (ALTER DATABASE %s RENAME TO %s), or continue under the new name with "+
			"`streamer checkpoint set %[3]s --yes`, which may repeat what was published after %[3]s",
		quote(id.Database), quote(former.Database), former.LSN,
	))
}
