package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/testserver"
)

// StandbySlot is the physical replication slot that a standby of
// [Server.Standby] uses on its primary.
const StandbySlot = "standby"

// NewStandby is [Server.Standby] for a test: the standby ends with the test.
func (s *Server) NewStandby(t testing.TB, database string, settings map[string]string) *Server {
	t.Helper()
	standby, err := s.Standby(t.Context(), database, settings)
	testserver.Require(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the standby ends with:\n%s", standby.logTail())
		}
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	})
	return standby
}

// Standby starts a physical standby of the server and waits until it follows.
// The primary is stopped while it is copied. Logical slots are not copied, as
// with pg_basebackup. From PostgreSQL 17 on the standby synchronises those of
// the database that were created with failover.
func (s *Server) Standby(ctx context.Context, database string, settings map[string]string) (*Server, error) {
	backup, err := s.Backup(ctx)
	if err != nil {
		return nil, err
	}
	standby, err := s.standbyOf(ctx, backup, database, settings)
	return standby, errors.Join(err, backup.Remove())
}

func (s *Server) standbyOf(ctx context.Context, backup *Backup, database string, settings map[string]string) (*Server, error) {
	if err := s.execute(
		ctx,
		"SELECT pg_create_physical_replication_slot('"+StandbySlot+"', true) "+
			"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '"+StandbySlot+"')",
	); err != nil {
		return nil, fmt.Errorf("slot of the standby: %w", err)
	}
	bin, err := findBinaries(ctx, s.options)
	if err != nil {
		return nil, err
	}
	standby := &Server{options: s.options, bin: bin}
	standby.options.Settings = s.standbySettings(database, settings)
	if err := standby.openCopy(ctx, backup); err != nil {
		return nil, errors.Join(fmt.Errorf("start standby: %w", err), standby.Close())
	}
	if err := s.awaitStandby(ctx); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

func (s *Server) standbySettings(database string, settings map[string]string) map[string]string {
	all := maps.Clone(s.options.Settings)
	if all == nil {
		all = map[string]string{}
	}
	all["primary_conninfo"] = fmt.Sprintf(
		"host=127.0.0.1 port=%d user=%s dbname=%s application_name=%s",
		s.port, superuser, database, StandbySlot,
	)
	all["primary_slot_name"] = StandbySlot
	all["hot_standby_feedback"] = "on"
	if s.version >= 170000 {
		all["sync_replication_slots"] = "on"
	}
	maps.Copy(all, settings)
	return all
}

// openCopy starts the server on a copy of another's data, as its standby.
func (s *Server) openCopy(ctx context.Context, backup *Backup) error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	if err := copyTree(backup.data(), s.DataDir(), s.owner); err != nil {
		return fmt.Errorf("copy data: %w", err)
	}
	slots, err := filepath.Glob(filepath.Join(s.DataDir(), "pg_replslot", "*"))
	if err != nil {
		return fmt.Errorf("slots in the copy: %w", err)
	}
	for _, slot := range slots {
		if err := os.RemoveAll(slot); err != nil {
			return fmt.Errorf("remove slot from the copy: %w", err)
		}
	}
	// The last value of a setting counts.
	if err := s.writeSettings(); err != nil {
		return err
	}
	signal := filepath.Join(s.DataDir(), "standby.signal")
	if err := errors.Join(os.WriteFile(signal, nil, 0o600), s.owner.own(signal)); err != nil {
		return fmt.Errorf("make it a standby: %w", err)
	}
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return err
	}
	s.port = ports[0]
	return s.StartAgain(ctx)
}

// CopySlot copies a logical slot of the server, in its current state, to a
// standby. Patroni does this where standbys do not synchronise slots. The
// standby is stopped meanwhile.
func (s *Server) CopySlot(ctx context.Context, standby *Server, name string) error {
	if err := s.execute(ctx, "CHECKPOINT"); err != nil { // writes the slot's state
		return fmt.Errorf("copy slot: %w", err)
	}
	if err := standby.Stop(); err != nil {
		return fmt.Errorf("copy slot: %w", err)
	}
	const state = "state"
	from, to := filepath.Join(s.DataDir(), "pg_replslot", name), filepath.Join(standby.DataDir(), "pg_replslot", name)
	err := errors.Join(os.RemoveAll(to), os.Mkdir(to, 0o700), copyContent(filepath.Join(from, state), filepath.Join(to, state)),
		standby.owner.own(to), standby.owner.own(filepath.Join(to, state)))
	if err := errors.Join(err, standby.StartAgain(ctx)); err != nil {
		return fmt.Errorf("copy slot: %w", err)
	}
	return s.awaitStandby(ctx)
}

// awaitStandby waits until a standby streams from the server.
func (s *Server) awaitStandby(ctx context.Context) error {
	return s.await(ctx, "a standby follows",
		"SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = '"+StandbySlot+"' AND state = 'streaming')")
}

// Promote makes a standby a primary and waits until it accepts writes. It is
// then on the next timeline.
func (s *Server) Promote(ctx context.Context) error {
	if err := s.execute(ctx, "SELECT pg_promote(false)"); err != nil {
		return fmt.Errorf("promote standby: %w", err)
	}
	return s.await(ctx, "the standby is promoted", "SELECT NOT pg_is_in_recovery()")
}

// await polls a yes-or-no question.
func (s *Server) await(ctx context.Context, what, question string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("waited %v in vain until %s", startTimeout, what))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := s.ask(ctx, question)
		if err == nil && yes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (s *Server) ask(ctx context.Context, question string) (yes bool, err error) {
	conn, err := pgx.Connect(ctx, s.SocketDSN(superuser))
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, question).Scan(&yes)
	return yes, err
}
